"""Names that no file can have, or that lead to no home: one clear error, wherever they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qaprune_lib as qp
from qaprune_lib.errors import QapruneError
from qaprune_lib.pruning.latency import LatencyTable
from study.plan.profile import read_profile
from study.records.record import read_record

READERS: dict[str, Callable[[str], Any]] = {
    "load_squad": qp.load_squad,
    "load_natural_questions": qp.load_natural_questions,
    "load_model": qp.load_model,
    "GateScores": qp.GateScores.load,
    "Topology": qp.Topology.load,
    "LatencyTable": LatencyTable.load,
    "read_profile": read_profile,
    "read_record": lambda name: read_record(Path(name)),
}
NAMES = ("./a\0b", "./\ud800.json", "/" + "a" * 5000, "a/" * 3000, "~no-such-user/train.json")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_no_file_can_have_is_one_error(reader: str, name: str) -> None:
    with pytest.raises(QapruneError):
        READERS[reader](name)
