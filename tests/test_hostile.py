"""A few hostile inputs; `python -m tests.hostile` tries hundreds."""

from __future__ import annotations

from typing import Any

import pytest

from tests import hostile
from tests.hostile import KINDS, attack, in_a_process


def test_hostile_inputs_are_refused_or_read_rightly() -> None:
    counts, faults = attack(5 * len(KINDS), seed=1)
    assert faults == []
    assert {kind for kind, _ in counts} == set(KINDS)
    assert all(counts[kind, "refused"] for kind in KINDS)


@pytest.mark.parametrize("fault", ["error", "time", "signal"])
def test_what_should_not_happen_is_noticed(
    fault: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import time

    monkeypatch.setattr(hostile, "SECONDS", 1)
    uses = {
        "error": lambda _: [][0],
        "time": lambda _: time.sleep(9),
        "signal": lambda _: os.kill(os.getpid(), 9),
    }
    said = {"error": "IndexError", "time": "SIGALRM", "signal": "SIGKILL"}
    assert said[fault] in in_a_process(uses[fault], tmp_path)
