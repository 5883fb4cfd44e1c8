from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib import runs
from qaprune_lib.report import read_records
from qaprune_lib.runs import Workspace


def workspace(folder: Path, **changes: Any) -> Workspace:
    return Workspace(
        profile="p",
        provenance="embedded",
        results=folder / "results",
        artifacts=folder / "runs",
        **changes,
    )


class Work:
    """Counts how often it is done, and leaves an artifact."""

    def __init__(self, *, fail: bool = False) -> None:
        self.done = 0
        self.fail = fail

    def __call__(self, folder: Path) -> Mapping[str, Any]:
        self.done += 1
        if self.fail:
            raise RuntimeError("out of luck")
        (folder / "model").write_text("weights")
        return {"times": self.done}


def test_a_done_run_is_not_done_again(tmp_path: Path) -> None:
    work, space = Work(), workspace(tmp_path)
    for _ in range(2):
        record, folder = space.run("s", {"seed": 1}, work, data_digest="ab", artifact="model")
    assert work.done == 1
    assert record.metrics == {"times": 1}
    assert (folder / "model").read_text() == "weights"
    assert read_records(space.results) == [record]


@pytest.mark.parametrize("change", ["parameters", "data", "artifact", "code"])
def test_what_has_changed_is_done_again(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, space = Work(), workspace(tmp_path)
    _, folder = space.run("s", {"seed": 1}, work, data_digest="ab", artifact="model")
    if change == "artifact":
        (folder / "model").unlink()
    if change == "code":
        monkeypatch.setattr(runs, "code_digest", lambda: "c0de")
    parameters = {"seed": 2 if change == "parameters" else 1}
    digest = "cd" if change == "data" else "ab"
    space.run("s", parameters, work, data_digest=digest, artifact="model")
    assert work.done == 2


def test_stale_records_can_be_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work()
    workspace(tmp_path).run("s", {}, work, data_digest=None)
    monkeypatch.setattr(runs, "code_digest", lambda: "c0de")
    workspace(tmp_path, accept_stale=True).run("s", {}, work, data_digest=None)
    assert work.done == 1


def test_a_failed_run_is_recorded_raised_and_tried_again(tmp_path: Path) -> None:
    space = workspace(tmp_path)
    with pytest.raises(RuntimeError, match="out of luck"):
        space.run("s", {}, Work(fail=True), data_digest=None)
    [failed] = read_records(space.results)
    assert failed.status == "failed"
    assert failed.error == "RuntimeError: out of luck"
    record, _ = space.run("s", {}, Work(), data_digest=None)
    assert read_records(space.results) == [record]
