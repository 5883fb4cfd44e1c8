"""Parameters and MACs of the released encoders that the paper prunes or compares with."""

from __future__ import annotations

from pydantic import BaseModel


class Released(BaseModel, frozen=True, extra="forbid"):
    """A released encoder, optionally with a share of its heads and activations removed.

    Attributes:
        vocabulary, positions, token_types: rows of the three embedding tables.
        pooler: whether the layer counts that span prediction does not use, but was kept then.
    """

    vocabulary: int
    positions: int
    token_types: int
    d_embedding: int
    n_layers: int
    n_heads: int
    d_intermediate: int
    attn_removed: float = 0.0
    ff_removed: float = 0.0
    pooler: bool = True

    def pruned(self, attn_removed: float, ff_removed: float) -> Released:
        """The same encoder without these shares of its heads and activations."""
        return self.model_copy(update={"attn_removed": attn_removed, "ff_removed": ff_removed})

    @property
    def encoder_parameters(self) -> float:
        """Of the layers alone; pruning leaves two biases and two LayerNorms in each."""
        d = self.d_embedding
        heads = self.n_layers * (4 * d**2 + 3 * d)  # q, k, v with bias, output without
        activations = (
            self.n_layers * self.d_intermediate * (2 * d + 1)
        )  # first bias, not the second
        kept = (1 - self.attn_removed) * heads + (1 - self.ff_removed) * activations
        return kept + self.n_layers * 6 * d

    @property
    def parameters(self) -> float:
        """Of the whole question answering model, with the pooler if counted and the span head."""
        d = self.d_embedding
        embeddings = (self.vocabulary + self.positions + self.token_types + 2) * d
        return self.encoder_parameters + embeddings + self.pooler * (d * d + d) + 2 * d + 2

    @property
    def mebibytes(self) -> float:
        """Of its float32 parameters."""
        return self.parameters * 4 / 2**20

    def macs(self, tokens: int) -> float:
        """Multiplications of the layers for one sequence of so many tokens, attention included."""
        heads = 4 * self.d_embedding**2 + 2 * tokens * self.d_embedding
        activations = 2 * self.d_embedding * self.d_intermediate
        kept = (1 - self.attn_removed) * heads + (1 - self.ff_removed) * activations
        return self.n_layers * tokens * kept


# of their configurations; the paper prints n_H, d_E and d_I (section 3.1)
_LARGE = {"d_embedding": 1024, "n_layers": 24, "n_heads": 16, "d_intermediate": 4096}
_BASE = {"d_embedding": 768, "n_layers": 12, "n_heads": 12, "d_intermediate": 3072}
_BERT = {"vocabulary": 30522, "positions": 512, "token_types": 2}
_ROBERTA = {"vocabulary": 50265, "positions": 514, "token_types": 1}  # the first two are never used

BERT_LARGE = Released(**_BERT, **_LARGE)
BERT_BASE = Released(**_BERT, **_BASE)
ROBERTA_LARGE = Released(**_ROBERTA, **_LARGE)
ROBERTA_BASE = Released(**_ROBERTA, **_BASE)
DISTILBERT = Released(**_BERT | _BASE | {"n_layers": 6, "token_types": 0}, pooler=False)
TINYBERT = Released(**_BERT | _BASE | {"n_layers": 6})  # Table 1 gives it DistilBERT's size
