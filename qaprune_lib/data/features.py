"""Windows of tokens over question-context pairs, cached on disk."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import tokenizers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qaprune_lib.cache import cache_root
from qaprune_lib.data.arrow_cache import read_or_build
from qaprune_lib.data.squad import data_digest
from qaprune_lib.data.windows import (
    WINDOW_FEATURES,
    WindowCutter,
    WindowSettings,
    tokenizer_state,
)
from qaprune_lib.errors import DataError, SettingsError

_COLUMNS = ["id", "question", "context", "answers"]
_BATCH = 1000  # rows; each distinct context is tokenised once in a batch


def make_features(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """Cut each question's context into windows of at most ``max_length`` tokens.

    As in the original BERT code for SQuAD: the question's first ``max_question_length`` tokens,
    then as much context as fits, in steps of ``doc_stride`` tokens (or of a whole window, where
    that is shorter). The first answer is labelled where it lies in the window as a whole.

    Args:
        dataset: questions as `load_squad` gives them.
        tokenizer: a fast tokenizer.
        max_length: tokens of a window, with question and special tokens.
        doc_stride: tokens from the start of a window to that of the next.
        max_question_length: tokens of the question that are kept.
        num_proc: processes that share the work.
        cache_dir: where the result is kept; default ``$QAPRUNE_CACHE`` or ``~/.cache/qaprune``.

    Returns:
        One row per window, in the order of the questions: example_index (row of ``dataset``),
        input_ids and token_type_ids [length], context_start (position of the first context
        token), token_start and token_end [n_context] (characters of the context, such that
        ``context[token_start[i]:token_end[j]]``, i ≤ j, is not empty), start_position and
        end_position (0: no answer in this window), length.

    Raises:
        SettingsError: sizes that leave no room for the context, or a tokenizer that is not fast.
        DataError: no questions, or a question or context without any token.
    """
    settings = WindowSettings(max_length, doc_stride, max_question_length)
    if num_proc is not None and num_proc < 1:
        raise SettingsError(f"num_proc={num_proc} must be at least 1")
    folder = cache_root(cache_dir) / "features" / _fingerprint(dataset, tokenizer, settings)
    n_processes = min(num_proc or 1, len(dataset))

    def build(cache_file_name: str) -> Dataset:
        with _tokenizer_threads(enabled=n_processes == 1):
            return (
                dataset.select_columns(_COLUMNS)
                .with_format("arrow")
                .map(
                    WindowCutter(tokenizer, settings),
                    batched=True,
                    batch_size=_BATCH,
                    with_indices=True,
                    remove_columns=_COLUMNS,
                    features=WINDOW_FEATURES,
                    num_proc=n_processes if n_processes > 1 else None,
                    cache_file_name=cache_file_name,
                    new_fingerprint=folder.name,
                    desc="Cutting windows",
                )
            )

    return read_or_build(folder, build)


def features_fingerprint(
    dataset: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int = 384,
    doc_stride: int = 128,
    max_question_length: int = 64,
) -> str:
    """Digest (40 hex digits) of all that the windows depend on.

    This package's source, the tokenizer, the settings and the questions.
    """
    settings = WindowSettings(max_length, doc_stride, max_question_length)
    return _fingerprint(dataset, tokenizer, settings)


def _fingerprint(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, settings: WindowSettings
) -> str:
    _check_dataset(dataset)
    parts = {
        "source": source_digest(),
        "tokenizers": tokenizers.__version__,
        "tokenizer": tokenizer_state(tokenizer),
        "token_type_ids": "token_type_ids" in tokenizer.model_input_names,
        "settings": asdict(settings),
        "data": data_digest(dataset),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Digest (hex) of this package's sources, on which all that it caches depends."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


def _check_dataset(dataset: Dataset) -> None:
    missing = [name for name in _COLUMNS if name not in dataset.column_names]
    if missing:
        raise DataError(f"the questions have no column {', '.join(missing)}")
    if len(dataset) == 0:
        raise DataError("there are no questions to make windows of: the data set is empty")


@contextmanager
def _tokenizer_threads(enabled: bool) -> Iterator[None]:
    """Threads inside of the tokenizer, or none where several processes share the cores."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    if not enabled:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if not enabled:
            del os.environ["TOKENIZERS_PARALLELISM"]
            if before is not None:
                os.environ["TOKENIZERS_PARALLELISM"] = before
