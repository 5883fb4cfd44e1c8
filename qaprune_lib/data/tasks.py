"""Of which task data is."""

from __future__ import annotations

from typing import TypeAlias

from datasets import Dataset

from qaprune_lib.data.natural_questions.documents import NATURAL_QUESTIONS
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.sources import no_questions
from qaprune_lib.data.squad.contexts import SQUAD
from qaprune_lib.data.windows import Task

QuestionData: TypeAlias = Dataset | NaturalQuestions
"""Rows of `load_squad`, or a split of `load_natural_questions`."""


def task_of(data: QuestionData) -> Task:
    """The task that data is of.

    Raises:
        DataError: it is neither rows of SQuAD's form nor a split of Natural Questions.

    >>> from qaprune_lib import load_squad
    >>> task_of(load_squad("embedded")["dev"]).windows.max_length
    384
    """
    if isinstance(data, NaturalQuestions):
        return NATURAL_QUESTIONS
    if isinstance(data, Dataset):
        return SQUAD
    raise no_questions(data)
