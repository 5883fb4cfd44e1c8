"""Claims 4, 10, 13, 14, 27 and 31 on planted gates."""

from __future__ import annotations

from typing import Any

import pytest

from tests.study.claims.planted import LOUD, Planted, both_kinds

STEADY, UNSTEADY = (-0.5, 0.0, 0.5), (-20.0, 0.0, 20.0)
"""What three seeds add to the share removed."""


def layers(first: float, last: float, seeds: tuple[float, ...]) -> Planted:
    """Six layers of 12 heads and 48 activations; the middle two keep that much more than an end."""
    made = Planted()
    model = made.tuned()
    made.selected(model)
    for seed, off in enumerate(seeds):
        shares = [0.5 - (first + off) / 100] * 2 + [0.5] * 2 + [0.5 - (last + off) / 100] * 2
        kept = {k: [round(n * share) for share in shares] for k, n in (("attn", 12), ("ff", 48))}
        made.pruned(model, 78.0, kept=kept, **both_kinds(made, model, seed=seed))
    return made


@pytest.mark.parametrize(
    ("first", "last", "seeds", "verdict"),
    [
        (25.0, 25.0, STEADY, "holds"),
        (-25.0, -25.0, STEADY, "does not hold"),
        (-25.0, 40.0, STEADY, "does not hold"),  # more on average, but less at the embedding
        (40.0, -25.0, STEADY, "does not hold"),
        (5.0, 5.0, (-30.0, 0.0, 30.0), "undecided"),
        (25.0, 25.0, (0.0,), "undecided"),
    ],
)
def test_middle_layers(first: float, last: float, seeds: tuple[float, ...], verdict: str) -> None:
    judgement = layers(first, last, seeds).judge(4)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.seeds == len(seeds)
    assert ("spread is not known" in judgement.why) == (len(seeds) == 1)


def test_each_end_of_the_layers_in_numbers() -> None:
    judgement = layers(25.0, -25.0, STEADY).judge(4)
    # 6 of 12 heads in the middle, 3 and 9 at the ends; 24 of 48 activations, 12 and 36
    assert [f.value for f in judgement.findings] == pytest.approx([25, -25, 25, -25])
    assert "25% at the embedding end, 50% in the middle, 75% at the answer end" in judgement.why


@pytest.mark.parametrize(("seconds", "verdict"), [(20.0, "holds"), (200.0, "does not hold")])
def test_leave_one_out_on_activations(seconds: float, verdict: str) -> None:
    """72 passes over heads took 72 s; 288 activations take 288 s."""
    made = Planted()
    model = made.tuned()
    made.scored(model, "leave_one_out", "attn", {20.0: 1.0})
    assert made.judge(10).verdict == "not tested"
    made.gates(model, "ff", 0.001, 40.0, 2.0, seconds=seconds)
    judgement = made.judge(10)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(288 / seconds)


def rates(low: float, loss: float, seeds: tuple[float, ...], **settings: Any) -> Planted:
    """Gates at three learning rates: 40% removed at 0.1, `low` at the others."""
    made = Planted(**settings)
    model = made.tuned()
    for seed, off in enumerate(seeds):
        for rate, removed in ((0.1, 40.0), (0.01, low + off), (0.001, low - 5 + off)):
            lost = loss if rate == 0.1 else 0.0
            made.gates(model, "attn", 0.1, removed, lost, seed=seed, learning_rate=rate)
        made.gates(model, "ff", 0.001, 50.0, 1.0, seed=seed)  # most runs are at 0.1
        made.gates(model, "ff", 0.002, 60.0, 2.0, seed=seed)
    return made


@pytest.mark.parametrize(
    ("low", "loss", "seeds", "verdict"),
    [
        (10.0, 3.0, STEADY, "holds"),
        (50.0, 3.0, STEADY, "does not hold"),
        (10.0, 9.0, STEADY, "does not hold"),
        (35.0, 3.0, UNSTEADY, "undecided"),
        (10.0, 3.0, (0.0,), "undecided"),
    ],
)
def test_learning_rates(low: float, loss: float, seeds: tuple[float, ...], verdict: str) -> None:
    judgement = rates(low, loss, seeds).judge(13)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.effect is not None


def test_losses_of_all_runs_at_the_high_rate_count() -> None:
    """Seeds 1 and 2, which lose most, have a partner at 0.01 alone."""
    made = Planted()
    model = made.tuned()
    for seed, loss in enumerate((1.0, 9.0, 11.0)):
        made.gates(model, "attn", 0.1, 40.0, loss, seed=seed)
        made.gates(model, "attn", 0.1, 10.0, 0.0, seed=seed, learning_rate=0.01)
        made.gates(model, "ff", 0.001, 50.0, 1.0, seed=seed)  # most runs are at 0.1
        made.gates(model, "ff", 0.002, 50.0, 1.0, seed=seed)
    made.gates(model, "attn", 0.1, 5.0, 0.0, learning_rate=0.001)
    judgement = made.judge(13)
    assert judgement.findings[-1].value == pytest.approx(7.0)
    assert judgement.outcome == "does not hold"


def test_a_rate_without_its_runs() -> None:
    made = rates(10.0, 3.0, STEADY)
    made.records = [r for r in made.records if r.parameters.get("learning_rate") != 0.001]
    judgement = made.judge(13)
    assert judgement.verdict == "not tested"
    assert "learning rates 0.1 and 0.001" in judgement.why


@pytest.mark.parametrize(
    ("epochs", "verdict"),
    [
        ((0.7, 0.8, 0.9), "holds"),
        ((1.5, 1.6, 1.7), "does not hold"),
        ((0.2, 0.8, 1.9), "undecided"),
        ((0.8,), "undecided"),
    ],
)
def test_cost_of_gates(epochs: tuple[float, ...], verdict: str) -> None:
    made = Planted()
    model = made.tuned()
    for number, epoch in enumerate(epochs):
        made.gates(model, "attn", 0.1 + number, 40.0, 2.0, epoch=epoch)
    judgement = made.judge(14)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(sum(epochs) / len(epochs))


def test_cost_is_of_one_device_and_as_many_runs_at_once() -> None:
    made = Planted()
    model = made.tuned()
    for number, device in enumerate(["a device, 14 runs at once", "a device"]):
        made.gates(model, "attn", 0.1 + number, 40.0, 2.0, epoch=(9.0, 0.8)[number])
        made.records[-1] = made.records[-1].model_copy(update={"device": device})
    effect = made.judge(14).effect
    assert effect is not None
    assert effect.value == pytest.approx(0.8)
    made.records = [r for r in made.records if r.stage != "score" or r.device != "a device"]
    assert made.judge(14).verdict == "not tested"


def test_cost_is_counted_by_the_window() -> None:
    made = Planted()
    made.gates(made.tuned(), "attn", 0.1, 40.0, 2.0, epoch=0.4, batch_size=8)
    effect = made.judge(14).effect
    assert effect is not None
    assert effect.value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("less", "seeds", "verdict"),
    [
        (15.0, STEADY, "holds"),
        (-15.0, STEADY, "does not hold"),
        (2.0, UNSTEADY, "undecided"),
        (15.0, (0.0,), "undecided"),
    ],
)
def test_distillation_prunes_less(less: float, seeds: tuple[float, ...], verdict: str) -> None:
    made = Planted()
    model = made.tuned()
    for seed in range(len(seeds)):
        made.gates(model, "attn", 0.1, 40.0, 2.0, seed=seed)
        made.gates(model, "ff", 0.001, 40.0, 2.0, seed=seed)
    assert made.judge(27).verdict == "not tested"
    for seed, off in enumerate(seeds):
        made.gates(model, "attn", 0.1, 40 - less + off, 2.0, seed=seed, objective="distillation")
    judgement = made.judge(27)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(less)


@pytest.mark.parametrize(
    ("spread", "n", "verdict"),
    [
        (0.02, 5, "holds"),
        (20.0, 5, "does not hold"),
        (1.0, 5, "undecided"),
        (0.02, 2, "not tested"),
    ],
)
def test_seeds(spread: float, n: int, verdict: str) -> None:
    """Shares and F1 spread alike over seeds."""
    made = Planted(wobble=LOUD)
    model = made.tuned()
    made.selected(model)
    for seed in range(n):
        off = spread * (-1) ** seed
        point = made.pruned(
            model,
            75.0,
            removed={"attn": 50 + off, "ff": 50 + off / 5},
            **both_kinds(made, model, seed=seed),
        )
        made.retrained(point, 78 + off / 10)
    judgement = made.judge(31)
    assert judgement.outcome == verdict, judgement.why
    if verdict != "not tested":
        assert judgement.seeds == n
