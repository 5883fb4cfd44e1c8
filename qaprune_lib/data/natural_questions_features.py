"""Windows of tokens over Natural Questions, cached on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import tokenizers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qaprune_lib.cache import cache_root
from qaprune_lib.data.arrow_cache import read_or_build, write_stream
from qaprune_lib.data.features import source_digest
from qaprune_lib.data.natural_questions import NaturalQuestions
from qaprune_lib.data.natural_questions_windows import (
    WINDOW_FEATURES,
    NaturalQuestionsCutter,
    NaturalQuestionsSettings,
)
from qaprune_lib.data.windows import tokenizer_state
from qaprune_lib.errors import DataError


def make_natural_questions_features(
    examples: NaturalQuestions,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 512,
    doc_stride: int = 128,
    max_question_length: int = 64,
    null_rate: float = 1.0,
    seed: int = 0,
    cache_dir: Path | None = None,
) -> Dataset:
    """Cut each document into windows of at most ``max_length`` tokens (Alberti et al. 2019).

    The document is the text of its top-level candidates, without HTML tags, each led by a markup
    token for its kind and number, such as ``[Table=2]``. Memory holds a batch of documents at a
    time, whatever the size of the data.

    Args:
        examples: one split of `load_natural_questions`.
        tokenizer: a fast tokenizer with ids for the markup tokens (`markup_ids`).
        max_length: tokens of a window, with question and special tokens.
        doc_stride: tokens from the start of a window to that of the next.
        max_question_length: tokens of the question that are kept.
        null_rate: share of the windows without a whole answer that is kept: 1 to predict, 0.02
            to train.
        seed: draws those windows, example by example.
        cache_dir: where the result is kept; default ``$QAPRUNE_CACHE`` or ``~/.cache/qaprune``.

    Returns:
        One row per window, in the order of the examples: example_index (place in ``examples``),
        input_ids and token_type_ids [length], context_start (position of the first context
        token), document_token [n_context] (the document's token that each context token is part
        of; -1 at markup), start_position and end_position (0: the whole answer is not here),
        answer_type (`AnswerType`), length. An example whose candidates hold no text has no row.

    Raises:
        SettingsError: sizes that leave no room for the document, or a tokenizer that is not fast
            or has no markup tokens.
        DataError: bad data, no windows at all, or null windows to be drawn without annotations.
    """
    settings = NaturalQuestionsSettings(
        max_length, doc_stride, max_question_length, null_rate, seed
    )
    cutter = NaturalQuestionsCutter(tokenizer, settings)
    parts = {
        "source": source_digest(),
        "tokenizers": tokenizers.__version__,
        "tokenizer": tokenizer_state(tokenizer),
        "token_type_ids": "token_type_ids" in tokenizer.model_input_names,
        "settings": asdict(settings),
        "data": examples.digest(),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]

    def tables() -> Iterator[pa.Table]:
        n_windows = 0
        for table in cutter(examples):
            n_windows += len(table)
            yield table
        if not n_windows:
            raise DataError(
                f"{examples.source.name}: no window is left (null_rate={null_rate}, and no "
                f"document with an answer in it)"
            )

    return read_or_build(
        cache_root(cache_dir) / "natural_questions_features" / key,
        lambda file: write_stream(file, WINDOW_FEATURES, tables()),
    )
