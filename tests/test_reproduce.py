from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from qaprune_lib.errors import SettingsError
from qaprune_lib.profiles import read_profile
from qaprune_lib.report import read_records
from qaprune_lib.reproduce import main

REPOSITORY = Path(__file__).parents[1]
TINY: dict[str, Any] = {
    "name": "tiny",
    "provenance": "embedded",
    "model": "embedded",
    "data": {
        "source": "embedded",
        "train_questions": 40,
        "heldout_questions": 12,
        "dev_questions": 12,
    },
    "windows": {"max_length": 128, "doc_stride": 64},
    "finetune": {"batch_size": 8, "max_steps": 2, "dropout": False},
    "gates": {"batch_size": 8, "max_steps": 2, "learning_rate": 0.1},
    "penalties": {"attn": [0.1], "ff": [0.001]},
    "curves": {
        "fractions": [0.5],
        "random_seeds": 1,
        "score_questions": 8,
        "heldout_questions": 8,
        "leave_one_out_questions": 4,
    },
    "operating_points": [{"attn": 0.1, "ff": 0.001}],
    "retrain": {"batch_size": 8, "max_steps": 1, "dropout": False},
    "timing": {"repeats": 2, "batch_size": 1, "max_questions": 4},
}


def write(folder: Path, content: object) -> Path:
    path = folder / "profile.yml"
    path.write_text(yaml.safe_dump(content) if not isinstance(content, str) else content)
    return path


@pytest.mark.slow
def test_a_profile_runs_from_end_to_end_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        str(write(tmp_path, TINY)),
        *("--results", str(tmp_path / "results")),
        *("--runs", str(tmp_path / "runs")),
    ]
    assert main(command) == 0
    first = capsys.readouterr().out
    records = read_records(tmp_path / "results")
    stages = [record.stage for record in records]
    # 2 L0 + random + gain + Fisher + leave-one-out; of these, gain, Fisher and random for both
    # kinds; two objectives for the unpruned and the pruned model
    expected = {"finetune": 1, "score": 6, "curve": 9, "prune": 1, "retrain": 4, "time": 1}
    assert {stage: stages.count(stage) for stage in stages} == expected
    assert {record.provenance for record in records} == {"embedded"}
    curves, _, points = first.partition("Operating points")
    # a header and a rule each: four scorers for both kinds, leave-one-out for heads alone;
    # fine-tuned, not retrained, four retrained
    tables = [[line for line in text.splitlines() if line[:2] == "| "] for text in (curves, points)]
    assert [len(rows) for rows in tables] == [2 + 5 + 2 + 4, 2 + 6]
    assert main(command) == 0
    assert capsys.readouterr().out == first
    again = read_records(tmp_path / "results")
    assert [record.started for record in again] == [record.started for record in records]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "profiles").glob("*.yml")), ids=str)
def test_committed_profiles_are_valid(path: Path) -> None:
    profile = read_profile(path, source="somewhere")
    assert profile.name == path.stem
    for point in profile.operating_points:
        for kind, penalty in point.items():
            assert penalty in profile.penalties[kind]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"finetunes": {}}, "finetunes"),
        ({"penalties": {"heads": [1.0]}}, "penalties"),
        ({"data": {"source": "embedded", "train_questions": 0}}, r"data\.train_questions"),
        ({"windows": {"max_length": "many"}}, r"windows\.max_length"),
        ({"data": {}}, "--data"),
    ],
)
def test_a_wrong_profile_names_the_fault(
    tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_profile(write(tmp_path, {**TINY, **change}))


def test_a_profile_that_is_missing_or_not_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere.yml")]) == 2
    assert "no such profile" in capsys.readouterr().err
    assert main([str(write(tmp_path, "a: [1"))]) == 2
    assert "not YAML" in capsys.readouterr().err
