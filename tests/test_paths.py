"""Names that no file can have, or that lead to no home: one clear error, wherever they are read."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import qaprune_lib as qp
from qaprune_lib.data.features import make_features
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
WRITERS: dict[str, Callable[[str], Any]] = {
    "save_pretrained": lambda name: model().save_pretrained(name),
    "export_onnx": lambda name: qp.export_onnx(model(), name),
    "compress": lambda name: qp.compress(
        model(), qp.load_squad("embedded"), target=qp.MACs(0.5), folder=name
    ),
    "finetune": lambda name: qp.finetune(
        model(), qp.load_squad("embedded")["dev"], epochs=1, max_steps=1, folder=name
    ),
    "make_features": lambda name: make_features(
        qp.load_squad("embedded")["dev"], model().tokenizer, qp.Windows(64), cache_dir=name
    ),
    "Topology": lambda name: qp.Topology.of(model()).save(name),
    "GateScores": lambda name: qp.scorers.random(model(), kinds=["attn"]).save(name),
}
NO_OUTPUT = (*NAMES[:4], "a-file/below")


@cache
def model() -> qp.QuestionAnsweringModel:
    return qp.load_model("embedded-small", device="cpu")


@pytest.mark.parametrize("name", NO_OUTPUT, ids=range(len(NO_OUTPUT)))
@pytest.mark.parametrize("writer", WRITERS)
def test_where_nothing_can_be_written_is_one_error_before_the_work(
    writer: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").write_text("kept")
    with pytest.raises(QapruneError):
        WRITERS[writer](name)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_no_file_can_have_is_one_error(reader: str, name: str) -> None:
    with pytest.raises(QapruneError):
        READERS[reader](name)
