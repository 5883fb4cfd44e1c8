"""Gain and Fisher information, exact for each example, against what they could cost.

One pass gives the gradient of every example's own loss. It is compared with the pass that training
would make (forward and backward with gradients of the weights), and with the plain way to get
gradients of single examples: one example at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import Collator, batches_by_tokens, take_rows
from qaprune_lib.evaluation.logits import features_for
from qaprune_lib.evaluation.rounds import in_turns
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import shape_of
from qaprune_lib.scorers.gradients import summed_gradients
from qaprune_lib.training.objectives import CrossEntropy, model_inputs

KINDS = ("attn", "ff")
WHY_SINGLE = (
    "a window of some 110 tokens keeps a processor busy by itself: what one pass saves "
    "there is the gradients of the weights, written for each window, not idle units as on a GPU"
)


def batches(model: Any, features: Any, max_tokens: int) -> Iterator[dict[str, Tensor]]:
    """The windows as the scorers batch them."""
    collator = Collator.of(model.tokenizer)
    for rows in batches_by_tokens(column(features, "length"), max_tokens):
        batch = collator(take_rows(features, rows))
        yield {name: values.to(model.device) for name, values in batch.items()}


def with_weights(model: Any, features: Any) -> None:
    """Forward and backward as in training."""
    for batch in batches(model, features, 4096):
        CrossEntropy()(model(**model_inputs(batch)), batch).sum().backward()
        model.zero_grad()


def one_at_a_time(
    model: Any, features: Any, of_each: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The same scores from a backward pass for each example, through a model as it is trained."""
    shape = shape_of(model.config)
    totals = {kind: torch.zeros(shape.gates(kind), dtype=torch.float64) for kind in KINDS}
    for batch in batches(model, features, 1):
        gates = {kind: torch.ones(shape.gates(kind), requires_grad=True) for kind in KINDS}
        placed = {kind: values.to(model.device) for kind, values in gates.items()}
        with apply_masks(model, Masks(**placed)):
            CrossEntropy()(model(**model_inputs(batch)), batch).sum().backward()
        model.zero_grad()
        for kind, values in gates.items():
            totals[kind] += of_each(values.grad).double()  # type: ignore[arg-type]
    return totals


def measure(*, model: str = "bert-base:4", questions: int = 8, rounds: int = 3) -> Measured:
    """Seconds of the scores of a few windows, in turns, the scores being equal."""
    whole = load(model).requires_grad_(True)
    features = features_for(whole, qp.load_squad("embedded")["dev"].select(range(questions)))
    of_each = {"gain": torch.abs, "Fisher": torch.square}
    for function in of_each.values():
        fast = summed_gradients(whole, features, KINDS, function, "equal")
        for kind, slow in one_at_a_time(whole, features, function).items():
            torch.testing.assert_close(
                torch.from_numpy(fast[kind]), slow, rtol=1e-3, atol=1e-4 * float(slow.abs().max())
            )
    clocks = [clock(partial(with_weights, whole, features))]
    clocks += [
        clock(partial(summed_gradients, whole, features, KINDS, function, name))
        for name, function in of_each.items()
    ]
    clocks.append(clock(partial(one_at_a_time, whole, features, torch.abs)))
    found = in_turns(clocks, rounds)
    of = f"({model}, {questions} windows)"
    rows = []
    for number, name in enumerate(of_each, start=1):
        rows += [
            Row(
                f"{name}, exact per example",
                f"forward and backward with weight gradients {of}",
                found.ratios(number),
                most=0.80,
                repeated=found.repeated,
            ),
            Row(
                f"one example at a time {of}",
                f"{name}, exact per example",
                found.ratios(3, number),
                least=5.0,
                why=WHY_SINGLE,
                repeated=found.repeated,
            ),
        ]
    return Measured(rows)


if __name__ == "__main__":
    main(measure)
