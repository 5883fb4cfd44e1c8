"""Where a tokenizer puts its special tokens around a question and its context."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from qaprune_lib.errors import SettingsError


@dataclass(frozen=True)
class Layout:
    """What a tokenizer puts around a question and its context, and their token types.

    types: int8, of the prefix, the question, the middle, the context and the suffix.
    """

    prefix: np.ndarray
    middle: np.ndarray
    suffix: np.ndarray
    types: np.ndarray

    @property
    def n_special(self) -> int:
        """Special tokens of a window."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)


def tokenizer_state(tokenizer: PreTrainedTokenizerBase) -> str:
    """The fast tokenizer as JSON, without the truncation and padding of its latest call."""
    if not tokenizer.is_fast:
        raise SettingsError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, so it gives no offsets; load it "
            f"with AutoTokenizer.from_pretrained(...) from a folder with a tokenizer.json"
        )
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    return json.dumps(state | {"truncation": None, "padding": None})


def split_tokenizer(tokenizer: PreTrainedTokenizerBase) -> tuple[Tokenizer, Layout]:
    """A tokenizer that adds no special tokens, and where they belong."""
    return _split(tokenizer_state(tokenizer), "token_type_ids" in tokenizer.model_input_names)


@lru_cache(maxsize=4)  # parsing a vocabulary takes longer than tokenising one question
def _split(state: str, has_types: bool) -> tuple[Tokenizer, Layout]:
    backend = Tokenizer.from_str(state)
    layout = _layout(backend, has_types)
    # It would also trim the offsets of some tokens to nothing; `locate_tokens` knows better.
    backend.post_processor = None
    return backend, layout


def _layout(backend: Tokenizer, has_types: bool) -> Layout:
    pair = backend.encode("a", "a")
    sequence = pair.sequence_ids
    order = [number for number in sequence if number is not None]
    if order != sorted(order) or set(order) != {0, 1} or sequence[0] is not None:
        raise SettingsError(
            "the tokenizer does not put a first special token, the question and the context in "
            f"this order: a pair of texts gives {pair.tokens}"
        )
    question, context = sequence.index(0), sequence.index(1)
    middle, suffix = question + order.count(0), context + order.count(1)
    ids = np.array(pair.ids, np.int32)
    # Positions that stand for their part; an empty middle or suffix repeats its type no times.
    at = (0, question, middle, context, min(suffix, len(ids) - 1))
    types = np.array([pair.type_ids[i] if has_types else 0 for i in at], np.int8)
    return Layout(ids[:question], ids[middle:context], ids[suffix:], types)
