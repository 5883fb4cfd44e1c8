"""The questions of a run: train, held-out and dev, drawn as its parameters say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from datasets import Dataset, DatasetDict

from qaprune_lib.data.natural_questions.stream import NaturalQuestions, load_natural_questions
from qaprune_lib.data.squad.official import Version
from qaprune_lib.data.squad.questions import data_digest, load_squad
from qaprune_lib.errors import DataError
from study.plan.parameters import StageParameters

Split = TypeVar("Split", Dataset, NaturalQuestions)


@dataclass(frozen=True)
class Questions:
    """Rows of `load_squad`, or splits of `load_natural_questions`.

    Attributes:
        heldout: of other articles than those of train; Natural Questions have none.
        other_dev: further dev sets of Natural Questions, by name.
    """

    train: Dataset | NaturalQuestions
    dev: Dataset | NaturalQuestions
    heldout: Dataset | None
    other_dev: Mapping[str, NaturalQuestions] = field(default_factory=dict)

    @classmethod
    def load(cls, parameters: StageParameters) -> Questions:
        """Open the data and draw as many questions as the parameters ask for."""
        if parameters.task == "natural_questions":
            files = (parameters.train_files, parameters.dev_files)
            train, dev, *others = natural_questions(parameters.source, *map(tuple, files))
            count = parameters.dev_questions
            names = parameters.other_dev_sets
            return cls(
                train=draw(train, parameters.train_questions),
                dev=draw(dev, count),
                heldout=None,
                other_dev={n: draw(d, count) for n, d in zip(names, others, strict=True)},
            )
        splits = squad(parameters.source, parameters.version)
        return cls(
            train=draw(splits["train"], parameters.train_questions),
            dev=draw(splits["dev"], parameters.dev_questions),
            heldout=draw(splits["heldout"], parameters.heldout_questions),
        )

    @property
    def curve(self) -> Dataset | NaturalQuestions:
        """Those that score sparsity curves: held-out ones, where there are any.

        On Natural Questions nothing is chosen by the curves, and the evaluator needs the several
        annotators of dev.
        """
        return self.dev if self.heldout is None else self.heldout

    @cached_property
    def digest(self) -> str:
        """Identity of all questions together, for records."""
        splits = (self.train, self.heldout, self.dev, *self.other_dev.values())
        parts = [_digest(split) for split in splits if split is not None]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


@lru_cache(maxsize=2)
def squad(source: str, version: Version | None) -> DatasetDict:
    """`load_squad`, once in a process."""
    return load_squad(source, version=version)


def draw(questions: Split, count: int | None, *, seed: int = 0) -> Split:
    """`count` questions at random, in their original order; all where there are no more.

    Of Natural Questions each is drawn by itself, so that about as many come, and they are counted
    in one pass first.
    """
    if count is None:
        return questions
    if isinstance(questions, NaturalQuestions):
        total = size(questions)
        return questions if count >= total else questions.sample(count / total, seed=seed)
    if count >= len(questions):
        return questions
    rows = np.random.default_rng(seed).choice(len(questions), size=count, replace=False)
    return questions.select(np.sort(rows))


def size(questions: Dataset | NaturalQuestions) -> int:
    """How many there are; Natural Questions are counted in a pass, unless one was made before."""
    if isinstance(questions, NaturalQuestions):
        return questions.n_examples or sum(1 for _ in questions)
    return len(questions)


@lru_cache(maxsize=4)
def natural_questions(
    source: str, train_files: tuple[str, ...], dev_files: tuple[str, ...]
) -> list[NaturalQuestions]:
    """Train and dev, and further dev sets, once in a process: what a pass counted is kept."""
    if not dev_files:
        splits = load_natural_questions(source)
        for name in ("train", "dev"):
            if name not in splits:
                raise DataError(f"{source}: no {name} questions there")
        return [splits["train"], splits["dev"]]
    folder = Path(source)
    train = load_natural_questions([folder / name for name in train_files])
    if set(train) != {"train"}:
        raise DataError(
            f"{folder}: train_files={list(train_files)} are, by their names, questions of "
            f"{' and '.join(train)}: name those of train"
        )
    found = [train["train"]]
    for name in dev_files:
        found += load_natural_questions(folder / name).values()
    return found


def _digest(questions: Dataset | NaturalQuestions) -> str:
    if isinstance(questions, NaturalQuestions):
        return questions.digest()
    return data_digest(questions)
