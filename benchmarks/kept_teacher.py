"""A second run of distillation, whose teacher's logits are kept, against the first.

Teacher and student are of one size; the teacher reads each window once, in the first run.
"""

from __future__ import annotations

import os
import tempfile

import torch

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.evaluation.rounds import in_turns

WHY = (
    "of a step's four passes (the teacher's, the student's, and its two backward) three are left, "
    "and the optimiser's work stays whole"
)


def measure(
    *, model: str = "embedded", questions: int = 96, batch_size: int = 16, rounds: int = 4
) -> Measured:
    """Seconds of both runs, one epoch each, in turns."""
    teacher = load(model)
    train = qp.load_squad("embedded")["train"].select(range(questions))
    before = os.environ.get("QAPRUNE_CACHE")

    def run() -> None:
        qp.retrain(teacher, train, teacher=teacher, batch_size=batch_size)

    def first() -> float:
        with torch.no_grad():  # another teacher in every round
            next(teacher.qa_outputs.parameters()).add_(1e-6)
        return clock(run)()

    with tempfile.TemporaryDirectory() as folder:
        os.environ["QAPRUNE_CACHE"] = folder
        try:
            found = in_turns([first, clock(run)], rounds)
        finally:
            os.environ.pop("QAPRUNE_CACHE")
            if before is not None:
                os.environ["QAPRUNE_CACHE"] = before
    row = Row(
        "second distillation run, teacher kept",
        f"the first ({model}, {questions} windows, one epoch)",
        found.ratios(1),
        most=0.75,
        why=WHY,
        repeated=found.repeated,
    )
    return Measured([row])


if __name__ == "__main__":
    main(measure)
