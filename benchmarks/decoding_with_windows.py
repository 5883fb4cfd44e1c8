"""Decoding while another thread of the process cuts windows, against the model alone.

On a machine of two cores the model has one and the cutting the other. What they share is Python's
lock.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.data.squad.contexts import SQUAD
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.evaluation.logits import features_for, window_logits
from qaprune_lib.evaluation.rounds import in_turns


@contextmanager
def cutting(cutter: WindowCutter, batches: list[dict[str, list[object]]]) -> Iterator[None]:
    """Another thread cuts windows, again and again, as long as the block lasts."""
    is_done = threading.Event()

    def work() -> None:
        while not is_done.is_set():
            for batch in batches:
                for _ in cutter(0, batch):
                    if is_done.is_set():
                        return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()


def measure(*, model: str = "minilm", questions: int = 96, rounds: int = 7) -> Measured:
    """Seconds of decoding alone and beside the other thread, in turns."""
    whole, dev = load(model), qp.load_squad("embedded")["dev"].select(range(questions))
    features = features_for(whole, dev)
    cutter = WindowCutter(SQUAD, whole.tokenizer, Windows(384))
    batches = [dev.select(range(first, min(first + 16, questions)))[:] for first in
               range(0, questions, 16)]  # fmt: skip

    def alone() -> None:
        window_logits(whole, features, progress=False)

    def beside() -> None:
        with cutting(cutter, batches):
            window_logits(whole, features, progress=False)

    found = in_turns([clock(beside), clock(alone)], rounds)
    row = Row(
        "speed of decoding, one thread busy with windows",
        f"the model alone ({model}, {questions} windows)",
        found.ratios(1),
        least=0.95,
        repeated=found.repeated,
    )
    return Measured([row])


if __name__ == "__main__":
    main(measure)
