"""Tiny models of every architecture with tokenizers made here, and batches with padding.

A new architecture is one line in `TINY`: all tests that are the same for each of them follow.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertTokenizer,
    DistilBertTokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
)

from qaprune_lib.data.natural_questions.documents import MARKUP
from qaprune_lib.models import (
    ARCHITECTURES,
    ModelShape,
    QuestionAnsweringModel,
    Task,
    Topology,
    architecture_of,
    full_class,
    head_of,
)

TEXT = (
    "Where was Ann born?",
    "Ann was born in Rome, 40 miles from the sea, and lives there still.",
)


@cache
def _word_pieces(*special: str) -> dict[str, int]:
    letters = string.ascii_lowercase + string.digits
    pieces = [*special, *letters, *("##" + letter for letter in letters), *"?.,"]
    return {piece: index for index, piece in enumerate(pieces)}


@cache
def _byte_pairs() -> dict[str, Any]:
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(
        TEXT, vocab_size=270, min_frequency=1, show_progress=False, special_tokens=special
    )
    return dict(json.loads(bpe.to_str())["model"])


def _of_bert(kind: type[PreTrainedTokenizerFast] = BertTokenizer) -> PreTrainedTokenizerFast:
    return kind(vocab=_word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))


def _of_mpnet() -> PreTrainedTokenizerFast:
    return MPNetTokenizer(vocab=_word_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))


def _of_roberta() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `TEXT`."""
    merges: Any = [tuple(pair) for pair in _byte_pairs()["merges"]]
    return RobertaTokenizer(vocab=_byte_pairs()["vocab"], merges=merges)


def _of_modernbert() -> PreTrainedTokenizerFast:
    """The same pieces in a tokenizer without a class of its own, with BERT's special tokens."""
    own = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
    vocabulary = {own.get(piece, piece): index for piece, index in _byte_pairs()["vocab"].items()}
    merges: Any = [tuple(pair) for pair in _byte_pairs()["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    tokenizer.post_processor = TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """What the tests need to know of an architecture, beside the library's own table."""

    tokenizer: Callable[[], PreTrainedTokenizerFast] = _of_bert
    attentions: tuple[str, ...] = ("eager", "sdpa")
    tasks: tuple[Task, ...] = ("squad", "natural_questions")
    config: Mapping[str, Any] = field(default_factory=dict)


ROBERTA = Tiny(_of_roberta, config={"pad_token_id": 1, "type_vocab_size": 1})
PROJECTED = "electra-projected"
TINY = {
    "bert": Tiny(),
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": Tiny(tasks=("squad",), config={"embedding_size": 32}),
    PROJECTED: Tiny(tasks=("squad",), config={"embedding_size": 12}),
    "mpnet": Tiny(_of_mpnet, attentions=("eager",), config={"pad_token_id": 1}),
    "distilbert": Tiny(
        lambda: _of_bert(DistilBertTokenizer),
        config={"dropout": 0.0, "attention_dropout": 0.0, "qa_dropout": 0.0},
    ),
    "deberta-v2": Tiny(
        attentions=("eager",),
        tasks=("squad",),
        config={**ARCHITECTURES["deberta-v2"].usual, "position_buckets": 8},
    ),
    # the first layer looks at all tokens, the others at 8 to either side
    "modernbert": Tiny(
        _of_modernbert,
        config={**ARCHITECTURES["modernbert"].usual, "pad_token_id": 1, "local_attention": 16},
    ),
}
# the other two differ from RoBERTa by name alone
TESTED = tuple(name for name in TINY if name not in ("xlm-roberta", "camembert"))
READERS = tuple(name for name in TESTED if "natural_questions" in TINY[name].tasks)
TASKED: tuple[tuple[str, str, Task], ...] = tuple(
    (architecture, attention, task)
    for architecture in TESTED
    for task in TINY[architecture].tasks
    for attention in TINY[architecture].attentions
)


def tiny_model(
    architecture: str,
    *,
    task: Task = "squad",
    trained: bool = False,
    attention: str | None = None,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **sizes: Any,
) -> QuestionAnsweringModel:
    """A model of random weights far from their initial scale, or after a few optimiser steps.

    Attention is by sdpa, where the architecture has it and nothing else is asked for. The tokenizer
    is one of letters, if there is no other.
    """
    tiny, model_type = TINY[architecture], architecture.removesuffix("-projected")
    tokenizer = tokenizer or tiny.tokenizer()
    if task == "natural_questions":
        tokenizer.add_tokens(list(MARKUP))
    names = architecture_of(model_type)
    common = {
        names.n_layers: 3,
        names.n_heads: 4,
        names.d_embedding: 32,
        names.d_intermediate: 22,
        "max_position_embeddings": 80,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "vocab_size": len(tokenizer),
        "pad_token_id": 0,
    }
    config = full_class(model_type, task).config_class(**{**common, **tiny.config, **sizes})
    config._attn_implementation = attention or tiny.attentions[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = full_class(model_type, task)(config)
        model.tokenizer = tokenizer
        _shake(model)
        if trained:
            _train(model)
    return model.eval()


def _shake(model: QuestionAnsweringModel) -> None:
    """Weights, biases and norms all matter, unlike after initialisation with 0 and 1."""
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights) * (0.15 if weights.dim() > 1 else 0.3))


def _train(model: QuestionAnsweringModel, steps: int = 4) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch = tiny_batch(model)
    targets = torch.tensor([[3, 7, 2], [5, 9, 4], [1, 0, 4]])
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        output = model(**batch)
        losses = [
            torch.nn.functional.cross_entropy(output[name], labels)
            for name, labels in zip(model.task_head.logits, targets, strict=False)
        ]
        torch.stack(losses).mean().backward()
        optimizer.step()


def tiny_batch(model: QuestionAnsweringModel, *, padding: int = 0) -> dict[str, torch.Tensor]:
    """Three real inputs of different lengths, padded to the longest and by `padding` more."""
    question, context = TEXT
    pairs = [(question, context), (question, context[:20]), (question[:9], context[21:50])]
    batch = model.tokenizer(pairs, padding=True, return_tensors="pt")
    length = batch["input_ids"].shape[1] + padding
    batch = model.tokenizer(pairs, padding="max_length", max_length=length, return_tensors="pt")
    return {name: batch[name] for name in model.tokenizer.model_input_names}


@st.composite
def topologies(draw: st.DrawFn, shape: ModelShape, kinds: Sequence[str]) -> Topology:
    """Any topology of a shape: layers with nothing left, with everything, with odd counts."""
    keep = {}
    for kind in kinds:
        size = shape.gates(kind)[-1]
        rows = 1 if kind == "emb" else shape.n_layers
        least = 1 if kind == "emb" else 0
        bits = [draw(st.integers(least, 2**size - 1)) for _ in range(rows)]
        mask = np.array([[bit >> i & 1 for i in range(size)] for bit in bits], dtype=bool)
        keep[kind] = mask.reshape(shape.gates(kind))
    return Topology.from_masks(shape, keep)


def random_topology(shape: ModelShape, seed: int, *, emb: bool = True) -> Topology:
    """A fixed topology: layer 0 without heads, layer 1 without activations, the rest at random."""
    rng = np.random.default_rng(seed)
    kinds = ("attn", "ff", "emb") if emb else ("attn", "ff")
    keep = {kind: rng.random(shape.gates(kind)) < 0.6 for kind in kinds}
    keep["attn"][0] = False
    keep["ff"][1] = False
    return Topology.from_masks(shape, keep)


def logits(model: QuestionAnsweringModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Start and end logits at real tokens, and answer-type logits: all in one line."""
    with torch.no_grad():
        output = model(**batch)
    real = batch["attention_mask"].bool()
    head = head_of(model)
    positions = [output[name][real] for name in head.positions]
    return torch.cat([*positions, *(output[name].flatten() for name in head.classes)])


def assert_agree(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest logit, or of 1 where all are smaller."""
    assert torch.isfinite(expected).all()
    limit = tolerance * max(1.0, float(expected.abs().max()))
    assert float((found - expected).abs().max()) <= limit
