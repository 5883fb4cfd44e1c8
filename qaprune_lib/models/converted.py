"""A pretrained BERT as a RoBERTa with a byte-level tokenizer, for work without a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)

from qaprune_lib.cache import build_once, cache_root
from qaprune_lib.data.arrow_cache import source_digest
from qaprune_lib.data.embedded.articles import ARTICLES, generate_articles

VOCABULARY = 6000
_OF_BERT = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
_PAD = 1  # RoBERTa's positions start after it
_SAME = ("hidden_size", "num_attention_heads", "intermediate_size", "layer_norm_eps")


class _Located(Protocol):
    def locate(self, name: str) -> Path: ...


@dataclass(frozen=True)
class ConvertedModel:
    """The first layers of a BERT, in RoBERTa's modules.

    The layers' weights are the BERT's own. A byte-level BPE is trained on the embedded corpus'
    training articles; the embedding of each of its tokens is the mean of those that the BERT has
    for the token's text. Positions keep their embeddings, two places later, and every token has
    the BERT's first token type.

    What is learnt on it shows that tokenizer, training, pruning, saving and decoding work for the
    architecture, on weights that are not random; nothing about RoBERTa's own pretraining.
    """

    source: _Located
    layers: int

    def locate(self, name: str) -> Path:
        """The folder in the cache, made if it is not there.

        Raises:
            ModelError: the source's package is not installed, or holds other weights.
        """
        origin = self.source.locate(name)
        own = hashlib.sha256(Path(__file__).read_bytes() + source_digest().encode()).hexdigest()
        target = cache_root() / "models" / f"{name}-{own[:16]}"
        return build_once(target, lambda folder: self._convert(origin, folder))

    def _convert(self, origin: Path, folder: Path) -> None:
        bert = BertModel.from_pretrained(
            origin, num_hidden_layers=self.layers, add_pooling_layer=False, use_safetensors=True
        )
        tokenizer = _train_tokenizer()
        weights = bert.state_dict()
        old = cast(PreTrainedTokenizerFast, AutoTokenizer.from_pretrained(origin))
        words, positions, types = (
            f"embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")
        )
        weights[words] = _embeddings(tokenizer, old, weights[words])
        unused = torch.zeros(_PAD + 1, weights[positions].shape[1])
        weights[positions] = torch.cat([unused, weights[positions]])
        weights[types] = weights[types][:1]
        config = RobertaConfig(
            vocab_size=len(tokenizer),
            num_hidden_layers=self.layers,
            max_position_embeddings=len(weights[positions]),
            type_vocab_size=1,
            pad_token_id=_PAD,
            **{name: getattr(bert.config, name) for name in _SAME},
        )
        with torch.random.fork_rng(devices=[]):
            roberta = RobertaModel(config, add_pooling_layer=False)
        roberta.load_state_dict(weights)
        roberta.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _train_tokenizer() -> RobertaTokenizer:
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        _texts(), vocab_size=VOCABULARY, show_progress=False, special_tokens=list(_OF_BERT)
    )
    vocabulary = trained.get_vocab()
    merges: Any = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    return RobertaTokenizer(vocab=vocabulary, merges=merges, model_max_length=512)


def _texts() -> Iterator[str]:
    for article in generate_articles("train", ARTICLES["train"]):
        for passage, questions in article.passages:
            yield passage.text
            yield from (question.text for question in questions)


def _embeddings(
    tokenizer: PreTrainedTokenizerFast, old: PreTrainedTokenizerFast, table: Tensor
) -> Tensor:
    """For each id of the tokenizer the mean embedding of its text in the old one."""
    known = old.get_vocab()
    rows = []
    for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))):
        text = tokenizer.convert_tokens_to_string([token])
        inside = f"##{text.lower()}"
        if token in _OF_BERT:
            ids = [known[_OF_BERT[token]]]
        elif not text.startswith(" ") and inside in known:  # within a word
            ids = [known[inside]]
        else:
            ids = old(text, add_special_tokens=False)["input_ids"] or [known["[UNK]"]]
        rows.append(table[ids].mean(0))
    return torch.stack(rows)
