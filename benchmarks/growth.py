"""How time and memory grow with the questions: at 1, 10 and 100 times as many.

Each measurement is a process of its own, in which one question has gone through the same function
before: its peak resident memory over that after the one question is what the others need.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import qaprune_lib as qp
from benchmarks.natural_questions_memory import generate, peak
from benchmarks.shared import Measured, Row, load, main
from qaprune_lib.data.features import make_features

WINDOWS = qp.Windows(128, 64)
TIMES = (1, 10, 100)


def some(questions: int) -> Any:
    """So many questions of the generated corpus."""
    return qp.load_squad("embedded")["train"].select(range(questions))


def windows(model: Any, folder: Path) -> Callable[[int], object]:
    """Cut into windows, to a table on disk."""
    return lambda n: make_features(
        some(n), model.tokenizer, WINDOWS, training=True, num_proc=1, cache_dir=folder / str(n)
    )


def decoding(model: Any, folder: Path) -> Callable[[int], object]:
    """From text to answers."""
    return lambda n: qp.predict(model, some(n), windows=WINDOWS, cache_dir=folder / str(n))


def gain(model: Any, _: Path) -> Callable[[int], object]:
    """Scores of heads and activations."""
    return lambda n: qp.scorers.gain(model, some(n), windows=WINDOWS)


def l0(model: Any, _: Path) -> Callable[[int], object]:
    """Gates, in one epoch."""
    options: dict[str, Any] = {"penalty": {"attn": 0.01}, "epochs": 1, "batch_size": 8}
    return lambda n: qp.scorers.l0(model, some(n), windows=WINDOWS, **options)


def reading(model: Any, folder: Path) -> Callable[[int], object]:
    """Pages of Natural Questions, from a file to windows on disk."""

    def read(pages: int) -> object:
        path = folder / f"train{pages}.jsonl"
        (examples,) = qp.load_natural_questions(path).values()
        made = qp.Windows(512, null_rate=1.0)
        place = folder / str(pages)
        return make_features(examples, model.tokenizer, made, training=True, cache_dir=place)

    return read


WORK = {each.__name__: each for each in (windows, decoding, gain, l0, reading)}


def alone(what: str, model: str, count: int, folder: str) -> dict[str, float]:
    """Seconds, and MiB of memory, of a function on so many questions, in this process."""
    work = WORK[what](load(model, device="cpu"), Path(folder))
    work(1)
    before, begin = peak(), time.perf_counter()
    work(count)
    seconds = time.perf_counter() - begin
    return {"count": count, "seconds": seconds, "mib": 1024 * (peak() - before)}


def measure(*, model: str = "embedded-small", questions: int = 16, rounds: int = 3) -> Measured:
    """Time per question at ten times as many, over that of the tenth part."""
    rows, points = [], {}
    for what, work in WORK.items():
        found: dict[int, list[dict[str, float]]] = {}
        for times in TIMES:
            # pages are long: a tenth as many
            count = max(2, questions // 10 if what == "reading" else questions) * times
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    if what == "reading":
                        for pages in {1, count}:
                            generate(Path(folder) / f"train{pages}.jsonl", 1e9, examples=pages)
                    with get_context("fork").Pool(1) as process:
                        made = process.apply(alone, (what, model, count, folder))
                    found.setdefault(count, []).append(made)
        points[what] = [one for each in found.values() for one in each]
        counts = list(found)
        for few, many in pairwise(counts):
            each = [
                (b["seconds"] / many) / (a["seconds"] / few)
                for a, b in zip(found[few], found[many], strict=True)
            ]
            unit = "pages" if what == "reading" else "questions"
            said = (work.__doc__ or what).rstrip(".").lower()
            rows.append(
                Row(f"time each: {said}, {many:,} {unit}", f"of {few:,} ({model})", each, most=1.1)
            )
    return Measured(rows, {"points": points})


if __name__ == "__main__":
    main(measure)
