"""The windows that a model trains on, and all in which the tasks differ on the way there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from datasets import Dataset

from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions import NaturalQuestions
from qaprune_lib.data.natural_questions_features import make_natural_questions_features
from qaprune_lib.data.squad import data_digest
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.training.alignment import Alignment
from qaprune_lib.training.distillation import with_teacher_logits

TrainingData: TypeAlias = Dataset | NaturalQuestions
"""Rows of `load_squad`, or a split of `load_natural_questions`."""
NULL_RATE = 0.02


@dataclass(frozen=True)
class TrainingWindows:
    """Labelled windows, what they were made of, its digest, and the settings that made them."""

    features: Dataset
    data: TrainingData
    data_digest: str
    settings: tuple[Any, ...]


def training_windows(
    model: QuestionAnsweringModel,
    data: TrainingData,
    *,
    max_length: int | None,
    doc_stride: int,
    null_rate: float | None,
) -> TrainingWindows:
    """Cut the data into windows for a model.

    Args:
        model: its tokenizer cuts, and its head must be that of the data's task.
        data: questions of SQuAD's form, or Natural Questions.
        max_length: in tokens; default 384, and 512 for Natural Questions.
        doc_stride: step from window to window, in tokens.
        null_rate: share of the windows without an answer that is kept, for Natural Questions
            alone; default 0.02 (Alberti et al. 2019).

    Raises:
        ModelError: a model for the other task.
        SettingsError: a `null_rate` for SQuAD, where all windows are kept; or sizes that make no
            sense.
        DataError: no data, or bad data.
    """
    if isinstance(data, NaturalQuestions):
        if model.head.task != "natural_questions":
            raise ModelError(
                "Natural Questions have answer types, which this model has no layer for: load it "
                'with load_model(..., task="natural_questions")'
            )
        sizes = 512 if max_length is None else max_length, doc_stride
        rate = NULL_RATE if null_rate is None else null_rate
        features = make_natural_questions_features(
            data, model.tokenizer, max_length=sizes[0], doc_stride=sizes[1], null_rate=rate
        )
        return TrainingWindows(features, data, data.digest(), (*sizes, rate))
    if model.head.task != "squad":
        raise ModelError(
            f"this model is one for {model.head.task!r}; questions of SQuAD's form have no answer "
            "types that it could learn"
        )
    if null_rate is not None:
        raise SettingsError(f"null_rate={null_rate} is for Natural Questions alone")
    sizes = 384 if max_length is None else max_length, doc_stride
    features = make_features(data, model.tokenizer, max_length=sizes[0], doc_stride=sizes[1])
    return TrainingWindows(features, data, data_digest(data), sizes)


def with_teacher(
    windows: TrainingWindows, student: QuestionAnsweringModel, teacher: QuestionAnsweringModel
) -> Dataset:
    """The windows with a teacher's logits, aligned where its tokenizer is another one.

    Raises:
        ModelError: a teacher for another task.
        SettingsError: windows that are too long for the teacher's tokenizer.
    """
    if teacher.head != student.head:
        raise ModelError(
            f"the teacher is one for {teacher.head.task!r}, the student for {student.head.task!r}"
        )
    if student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab():
        return with_teacher_logits(windows.features, teacher)
    alignment = Alignment(student.tokenizer, windows.data)
    return with_teacher_logits(windows.features, teacher, alignment=alignment)
