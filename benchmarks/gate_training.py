"""A step of gate training against a step of fine-tuning, on the same batch.

Both are whole optimizer steps of the library's own training runs, as a user pays for them. Gate
training needs no gradient of a weight, no optimizer state of the model, and nothing below the
first gate.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, load, main
from qaprune_lib.evaluation.rounds import in_turns


def measure(
    *, model: str = "bert-base:4", batch_size: int = 4, steps: int = 1, rounds: int = 5
) -> Measured:
    """Seconds of a step of each kind, in turns."""
    whole = load(model)
    questions = qp.load_squad("embedded")["train"].select(range(2 * batch_size * steps))
    options: dict[str, Any] = {"batch_size": batch_size, "max_steps": steps}

    def finetuning() -> float:
        return qp.finetune(whole, questions, **options).training_report.seconds_per_step

    def gates(kind: str) -> float:
        scores = qp.scorers.l0(whole, questions, penalty={kind: 1e-2}, **options)
        return scores.settings["report"]["seconds_per_step"]

    kinds = ("attn", "ff")
    found = in_turns([finetuning, *(partial(gates, kind) for kind in kinds)], rounds)
    return Measured(
        [
            Row(
                f"gate-training step, {kind}",
                f"fine-tuning step ({model}, batch {batch_size})",
                found.ratios(number),
                most=0.60,
                repeated=found.repeated,
            )
            for number, kind in enumerate(kinds, start=1)
        ]
    )


if __name__ == "__main__":
    main(measure)
