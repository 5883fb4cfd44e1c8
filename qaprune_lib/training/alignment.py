"""A teacher with another tokenizer, whose logits are carried over to the student's tokens.

The teacher reads windows of its own over the same text. The probability that it gives to a start at
one of its tokens goes to the student's token that holds the first character of this token, and
that of an end to the one that holds the last; several of them add up. A token of the student in
which none of the teacher's starts gets no start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qaprune_lib.data.natural_questions import NaturalQuestions
from qaprune_lib.data.squad import data_digest
from qaprune_lib.data.windows import tokenizer_state
from qaprune_lib.errors import SettingsError
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.models.architecture import Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.training import aligned_windows
from qaprune_lib.training.aligned_windows import AlignedWindow, align_pages, align_windows

NO_MASS = -1e4  # a logit without probability at any temperature that makes sense, yet finite


@dataclass(frozen=True)
class Alignment:
    """What it takes to align a teacher: the student's tokenizer, and the data of its windows."""

    student: PreTrainedTokenizerBase
    data: Dataset | NaturalQuestions

    def digest(self, teacher: PreTrainedTokenizerBase) -> str:
        """Identity (hex) of the data, of both tokenizers, and of the code that aligns them."""
        states = (tokenizer_state(tokenizer) for tokenizer in (self.student, teacher))
        is_pages = isinstance(self.data, NaturalQuestions)
        data = self.data.digest() if is_pages else data_digest(self.data)
        code = [
            Path(file).read_text(encoding="utf-8") for file in (__file__, aligned_windows.__file__)
        ]
        return hashlib.sha256("".join([data, *states, *code]).encode()).hexdigest()

    def logits(
        self, features: Dataset, teacher: QuestionAnsweringModel, *, progress: bool = True
    ) -> tuple[list[np.ndarray], ...]:
        """The teacher's start and end logits at the student's tokens, a list of each by window.

        Raises:
            SettingsError: the teacher needs more tokens for a window than it has positions.
        """
        align = align_pages if isinstance(self.data, NaturalQuestions) else align_windows
        windows = list(align(features, self.data, self.student, teacher.tokenizer))
        longest = max(len(window.input_ids) for window in windows)
        limit = Encoder(teacher).longest_input()
        if longest > limit:
            raise SettingsError(
                f"a window takes {longest} of the teacher's tokens, which has {limit} positions: "
                "choose a smaller max_length"
            )
        lengths = features["length"][:]
        start, end, *classes = window_logits(teacher, _teacher_features(windows), progress=progress)
        positions = [
            [
                carry(row, getattr(window, side), length)
                for row, window, length in zip(rows, windows, lengths, strict=True)
            ]
            for side, rows in (("start", start), ("end", end))
        ]
        return (*positions, *classes)


def carry(logits: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """The log of the summed exponentials of all logits that go to each of `length` places.

    A place that none goes to has `NO_MASS`; float32.
    """
    carried = np.full(length, -np.inf)
    np.logaddexp.at(carried, places, logits.astype(np.float64))
    return np.where(np.isfinite(carried), carried, NO_MASS).astype(np.float32)


def _teacher_features(windows: Sequence[AlignedWindow]) -> Dataset:
    """The teacher's windows as features for `window_logits`."""
    offsets = np.cumsum([0, *(len(window.input_ids) for window in windows)])
    columns = {
        name: pa.LargeListArray.from_arrays(
            offsets, pa.array(np.concatenate([getattr(window, name) for window in windows]))
        )
        for name in ("input_ids", "token_type_ids")
    }
    return Dataset(pa.table({**columns, "length": np.diff(offsets)}))
