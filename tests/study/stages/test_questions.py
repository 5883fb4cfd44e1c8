"""Which files of Natural Questions a run reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.errors import DataError
from study.plan.parameters import Finetune
from study.stages.questions import Questions, size
from tests.data.pages import page, simplified, write


@pytest.fixture
def asked(tmp_path: Path) -> dict[str, Any]:
    """Parameters of a run on a folder with a train file and two dev sets."""
    tokens, candidates = page(("P", "Ann was born in Rome"))
    for name, n in (("train", 5), ("dev", 3), ("dev-other", 2)):
        rows = [simplified(i, tokens, candidates, []) for i in range(n)]
        write(tmp_path / f"{name}.jsonl", rows)
    every = {"train_questions": None, "dev_questions": None}
    return {"source": str(tmp_path), "provenance": "measured", "data": "nq", "task": "natural_questions", **every}


def load(asked: dict[str, Any], **files: Any) -> Questions:
    return Questions.load(Finetune.checked({**asked, **files}))


def test_the_first_dev_file_scores_and_others_beside_it(asked: dict[str, Any]) -> None:
    files = {"train_files": ["train.jsonl"], "dev_files": ["dev.jsonl", "dev-other.jsonl"]}
    questions = load(asked, **files)
    assert [size(split) for split in (questions.train, questions.dev)] == [5, 3]  # type: ignore[arg-type]
    assert {name: size(split) for name, split in questions.other_dev.items()} == {"dev-other": 2}


def test_a_dev_file_is_not_trained_on(asked: dict[str, Any]) -> None:
    files = {"train_files": ["dev.jsonl"], "dev_files": ["dev-other.jsonl"]}
    with pytest.raises(DataError, match=r"train_files=\['dev.jsonl'\] are, .* of dev: name those"):
        load(asked, **files)
    with pytest.raises(DataError, match=r"none\.jsonl"):
        load(asked, train_files=["none.jsonl"], dev_files=["dev.jsonl"])
