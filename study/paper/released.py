"""Sizes of the released encoders that the paper prunes or compares with: parameters and MACs.

The dimensions are those of the models' released configurations; the paper prints only n_H, d_E and
d_I (section 3.1). Imports without torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

BYTES_PER_MEBIBYTE = 2**20
FLOAT32_BYTES = 4


class Released(BaseModel):
    """A released encoder, optionally with a share of its heads and activations removed.

    Attributes:
        vocabulary, positions, token_types: rows of the three embedding tables.
        d_embedding: d_E, also the hidden size.
        n_layers, n_heads, d_intermediate: n_L, n_H and d_I; a head has size d_E / n_H.
        attn_removed, ff_removed: shares in [0, 1], over all layers.
        pooler: whether the dense layer on the first token is counted, which span prediction does
            not use but the implementations of the time kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def head_parameters(self) -> int:
        """Of all heads: rows of q, k, v with their bias, columns of the output projection."""
        return self.n_layers * (4 * self.d_embedding**2 + 3 * self.d_embedding)

    @property
    def activation_parameters(self) -> int:
        """Of all activations: rows of the first linear with bias, columns of the second."""
        return self.n_layers * self.d_intermediate * (2 * self.d_embedding + 1)

    @property
    def encoder_parameters(self) -> float:
        """Of the layers without the embeddings: what pruning leaves, biases and LayerNorms."""
        unpruned = self.n_layers * 6 * self.d_embedding
        heads = (1 - self.attn_removed) * self.head_parameters
        return heads + (1 - self.ff_removed) * self.activation_parameters + unpruned

    @property
    def parameters(self) -> float:
        """Of the whole question answering model, with the pooler if counted and the span head."""
        d = self.d_embedding
        embeddings = (self.vocabulary + self.positions + self.token_types + 2) * d
        return self.encoder_parameters + embeddings + self.pooler * (d * d + d) + 2 * d + 2

    @property
    def mebibytes(self) -> float:
        """Of its float32 parameters."""
        return self.parameters * FLOAT32_BYTES / BYTES_PER_MEBIBYTE

    def macs(self, tokens: int) -> float:
        """Multiplications of the layers for one sequence of so many tokens, attention included."""
        heads = 4 * self.d_embedding**2 + 2 * tokens * self.d_embedding
        activations = 2 * self.d_embedding * self.d_intermediate
        kept = (1 - self.attn_removed) * heads + (1 - self.ff_removed) * activations
        return self.n_layers * tokens * kept


_LARGE = {"d_embedding": 1024, "n_layers": 24, "n_heads": 16, "d_intermediate": 4096}
_BASE = {"d_embedding": 768, "n_layers": 12, "n_heads": 12, "d_intermediate": 3072}
_SIX_LAYERS = _BASE | {"n_layers": 6}
_BERT = {"vocabulary": 30522, "positions": 512, "token_types": 2}
# RoBERTa's first two positions are never used.
_ROBERTA = {"vocabulary": 50265, "positions": 514, "token_types": 1}

BERT_LARGE = Released(**_BERT, **_LARGE)
BERT_BASE = Released(**_BERT, **_BASE)
ROBERTA_LARGE = Released(**_ROBERTA, **_LARGE)
ROBERTA_BASE = Released(**_ROBERTA, **_BASE)
DISTILBERT = Released(**_BERT | {"token_types": 0}, **_SIX_LAYERS, pooler=False)
TINYBERT = Released(**_BERT, **_SIX_LAYERS)
"""The six-layer TinyBERT: the paper's Table 1 gives it DistilBERT's size."""
