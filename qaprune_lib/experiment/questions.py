"""The questions of a run: train, held-out and dev, drawn as its parameters say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from datasets import Dataset

from qaprune_lib.data.squad import data_digest, load_squad
from qaprune_lib.experiment.parameters import StageParameters


@dataclass(frozen=True)
class Questions:
    """Rows of `load_squad`; held-out questions are of other articles than those of train."""

    train: Dataset
    heldout: Dataset
    dev: Dataset

    @classmethod
    def load(cls, parameters: StageParameters) -> Questions:
        """Read the data and draw as many questions as the parameters ask for."""
        splits = load_squad(parameters.source, version=parameters.version)
        return cls(
            train=draw(splits["train"], parameters.train_questions),
            heldout=draw(splits["heldout"], parameters.heldout_questions),
            dev=draw(splits["dev"], parameters.dev_questions),
        )

    @cached_property
    def digest(self) -> str:
        """Identity of all questions together, for records."""
        parts = [data_digest(split) for split in (self.train, self.heldout, self.dev)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def draw(dataset: Dataset, count: int | None, *, seed: int = 0) -> Dataset:
    """`count` questions at random, in their original order; all where there are no more."""
    if count is None or count >= len(dataset):
        return dataset
    rows = np.random.default_rng(seed).choice(len(dataset), size=count, replace=False)
    return dataset.select(np.sort(rows))
