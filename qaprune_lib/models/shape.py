"""Sizes of a model, and the kinds of gates that they count."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

KINDS = ("attn", "ff", "emb")
"""The three masks of the paper (section 3.1): Γ^attn, Γ^ff and Γ^emb."""

MAX_LAYERS, MAX_GATES = 1000, 10**7
"""Of a model: larger shapes are refused before anything of their size is made."""


class ModelShape(BaseModel):
    """Sizes of the unpruned model (paper section 3.1): n_L, n_H, head size, d_I and d_E.

    At most `MAX_LAYERS` layers, and `MAX_GATES` gates of a kind.

    >>> ModelShape(n_layers=2, n_heads=4, head_size=8, d_intermediate=6, d_embedding=32).gates("ff")
    (2, 6)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_layers: int = Field(gt=0, le=MAX_LAYERS)
    n_heads: int = Field(gt=0)
    head_size: int = Field(gt=0)
    d_intermediate: int = Field(gt=0)
    d_embedding: int = Field(gt=0, le=MAX_GATES)
    gated: bool = False
    """Whether each activation is multiplied by a second one, which has a row of its own."""

    @model_validator(mode="after")
    def _check(self) -> ModelShape:
        if self.n_layers * max(self.n_heads, self.d_intermediate) > MAX_GATES:
            raise ValueError(f"more than {MAX_GATES} heads or activations")
        return self

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
