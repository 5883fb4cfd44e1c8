"""Windows with labels and offsets, from questions to a table on disk, against the bare tokenizer.

The tokenizer's fast backend encodes the same texts in this one process and one thread: what is over
that is the work of cutting, labelling and writing. Several questions share a context. The library
encodes it once, and so does the first rival; the second encodes pairs, as the usual call does.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.data.features import make_features
from qaprune_lib.evaluation.rounds import in_turns

WHY = (
    "a context of some 90 tokens is encoded once for five questions, each of which has arrays of "
    "its own: to locate, cut, label and write them takes as long as the tokenizer does"
)


def measure(*, model: str = "embedded-small", questions: int = 4320, rounds: int = 7) -> Measured:
    """Seconds of both, in turns."""
    tokenizer = load(model).tokenizer
    some = qp.load_squad("embedded")["train"].select(range(questions))
    once = [*dict.fromkeys(some["context"][:]), *some["question"][:]]
    pairs = list(zip(some["question"][:], some["context"][:], strict=True))
    bare = tokenizer.backend_tokenizer

    def encode(texts: list[Any]) -> None:
        bare.no_truncation()
        bare.no_padding()
        bare.encode_batch(texts)

    def cut() -> None:
        with tempfile.TemporaryDirectory() as folder:  # nothing kept from the round before
            make_features(some, tokenizer, training=True, num_proc=1, cache_dir=Path(folder))

    found = in_turns(
        [clock(cut), clock(partial(encode, once)), clock(partial(encode, pairs))], rounds
    )
    return Measured(
        [
            Row(
                "windows with offsets, questions per second",
                f"the bare fast tokenizer, {texts} ({questions:,} questions)",
                found.ratios(number),
                least=0.7,
                why=WHY,
                repeated=found.repeated,
            )
            for number, texts in enumerate(("each text once", "pairs"), start=1)
        ]
    )


if __name__ == "__main__":
    main(measure)
