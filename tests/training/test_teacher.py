"""Teacher logits: computed once, keyed by teacher and data, read back whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.training import Distillation, retrain
from qaprune_lib.training.teacher import with_teacher_logits
from tests.models.tiny import tiny_model
from tests.training.toy import (
    DROPOUT,
    WINDOWS,
    single_windows,
    small_bert,
    toy_questions,
    toy_windows,
)

QUESTIONS = toy_questions(8)


def counted(model: QuestionAnsweringModel) -> list[int]:
    """A list that grows by one entry with every forward pass."""
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    return calls


def taught(teacher: QuestionAnsweringModel, features: Any, cache_dir: Path) -> Any:
    return with_teacher_logits(
        features, QUESTIONS, teacher.tokenizer, teacher, cache_dir=cache_dir, progress=False
    )


def folders(cache: Path) -> list[Path]:
    return [path for path in (cache / "teacher").iterdir() if path.is_dir()]


def columns(windows: Any) -> list[np.ndarray]:
    names = ("teacher_start_logits", "teacher_end_logits")
    return [np.concatenate([np.asarray(row) for row in windows[name]]) for name in names]


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_logits_are_those_of_single_windows_without_dropout(
    architecture: str, tmp_path: Path
) -> None:
    teacher = tiny_model(architecture, **DROPOUT).train()
    features = toy_windows(teacher, QUESTIONS)
    found = taught(teacher, features, tmp_path)
    assert teacher.training
    assert found["input_ids"][:] == features["input_ids"][:]
    teacher.eval()
    for row, (inputs, _, _) in zip(found, single_windows(teacher, features), strict=True):
        with torch.no_grad():
            outputs = teacher(**inputs)
        np.testing.assert_allclose(row["teacher_start_logits"], outputs.start_logits[0], atol=1e-5)
        np.testing.assert_allclose(row["teacher_end_logits"], outputs.end_logits[0], atol=1e-5)


def test_the_teacher_runs_once_for_each_teacher_and_data(tmp_path: Path) -> None:
    teacher, other = small_bert(), small_bert(seed=1)
    features = toy_windows(teacher, QUESTIONS)
    calls, other_calls = counted(teacher), counted(other)

    def logits(model: QuestionAnsweringModel, windows: Any) -> list[np.ndarray]:
        return columns(taught(model, windows, tmp_path))

    first = logits(teacher, features)
    n_passes = len(calls)
    assert n_passes > 0
    second = logits(teacher, features)
    assert len(calls) == n_passes
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.allclose(logits(other, features)[0], first[0])
    assert other_calls
    logits(teacher, toy_windows(teacher, toy_questions(8, seed=9)))
    assert len(calls) > n_passes
    n_passes = len(calls)
    order = features.select(list(reversed(range(len(features)))))
    backwards = logits(teacher, order)
    assert len(calls) > n_passes
    assert sorted(backwards[0]) == pytest.approx(sorted(first[0]), abs=1e-5)
    with torch.no_grad():
        teacher.qa_outputs.bias += 1.0
    assert logits(teacher, features)[0] == pytest.approx(first[0] + 1.0, abs=1e-5)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def shorter(path: Path) -> None:
    np.save(path, np.zeros(3, dtype=np.float32))


def not_finite(path: Path) -> None:
    logits = np.load(path)
    logits[0] = np.nan
    np.save(path, logits)


def another(path: Path) -> None:
    logits = np.load(path)
    logits[0] += 1.0
    np.save(path, logits)


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("file", ["start.npy", "end.npy"])
@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        shorter,
        another,
        not_finite,
        pickled,
        lambda path: path.write_bytes(b""),
        Path.unlink,
    ],
)
def test_damaged_files_are_made_again(
    damage: Callable[[Path], Any], file: str, tmp_path: Path
) -> None:
    teacher = small_bert()
    features = toy_windows(teacher, QUESTIONS)
    whole = columns(taught(teacher, features, tmp_path))
    (folder,) = folders(tmp_path)
    damage(folder / file)
    calls = counted(teacher)
    for _ in range(2):
        found = columns(taught(teacher, features, tmp_path))
        assert all(np.array_equal(a, b) for a, b in zip(whole, found, strict=True))
    assert len(calls) == 1  # made again once, then read
    assert folders(tmp_path) == [folder]


def test_a_teacher_without_finite_logits_is_refused(tmp_path: Path) -> None:
    teacher = small_bert()
    features = toy_windows(teacher, QUESTIONS)
    with torch.no_grad():
        teacher.qa_outputs.bias += np.nan
    with pytest.raises(ModelError, match="finite"):
        taught(teacher, features, tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_distillation_needs_a_teacher() -> None:
    with pytest.raises(SettingsError, match="teacher"):
        retrain(small_bert(), QUESTIONS, distillation=Distillation(), **WINDOWS)


def test_distillation_brings_a_student_nearer_to_its_teacher_and_itself_nowhere() -> None:
    teacher, student = small_bert(), small_bert(seed=1)
    settings = {"batch_size": 4, "epochs": 6, "learning_rate": 3e-3, "weight_decay": 0.0}
    trained = retrain(student, QUESTIONS, teacher=teacher, **settings, **WINDOWS)
    losses = trained.training_report.losses
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    settings["learning_rate"] = 1e-6  # Adam makes steps of rounding errors
    same = retrain(teacher, QUESTIONS, teacher=teacher, **settings, **WINDOWS)
    assert same.training_report.losses[0] == 0
    assert max(map(abs, same.training_report.losses)) < 1e-6
