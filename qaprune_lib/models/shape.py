"""The sizes that gates refer to, and the text form of a set of kept indices."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from qaprune_lib.errors import TopologyError

KINDS = ("attn", "ff", "emb")
"""The three masks of the paper (section 3.1): Γ^attn, Γ^ff and Γ^emb."""


class ModelShape(BaseModel):
    """Sizes of the unpruned model (paper section 3.1): n_L, n_H, head size, d_I and d_E."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: int = Field(gt=0)
    n_heads: int = Field(gt=0)
    head_size: int = Field(gt=0)
    d_intermediate: int = Field(gt=0)
    d_embedding: int = Field(gt=0)

    def gates(self, kind: str) -> tuple[int, ...]:
        """Shape of the mask of one kind: [n_layers, n_heads], [n_layers, d_I] or [d_E]."""
        return {
            "attn": (self.n_layers, self.n_heads),
            "ff": (self.n_layers, self.d_intermediate),
            "emb": (self.d_embedding,),
        }[kind]

    def __str__(self) -> str:
        return (
            f"{self.n_layers} layers of {self.n_heads} heads of size {self.head_size}, "
            f"{self.d_intermediate} activations, {self.d_embedding} embedding dimensions"
        )


def indices_to_text(indices: Iterable[int]) -> str:
    """Sorted indices as ranges: [0, 1, 2, 5] becomes "0-2 5", [] becomes ""."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in runs)


def text_to_indices(text: str, size: int) -> tuple[int, ...]:
    """Inverse of `indices_to_text`.

    Raises:
        TopologyError: the text is not ascending ranges of indices below `size`.
    """
    indices: list[int] = []
    for run in text.split():
        match = re.fullmatch("([0-9]+)(?:-([0-9]+))?", run)
        if match is None:
            raise TopologyError(f"{run!r} is not an index or a range of indices such as 3-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or (indices and first <= indices[-1]):
            raise TopologyError(f"indices {text!r} are not in ascending order without repetition")
        if last >= size:
            raise TopologyError(f"index {last} is outside of a size of {size}")
        indices.extend(range(first, last + 1))
    return tuple(indices)
