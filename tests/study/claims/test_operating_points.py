"""Claims 16 to 18, 26, 28 and 30 on planted pruned models."""

from __future__ import annotations

import pytest

from study.plan.parameters import Retrain
from tests.study.claims.planted import LOUD, QUIET, WHOLE, Planted, both_kinds


def points(
    losses: dict[float, float],
    *,
    after: float | None = None,
    taught: float | None = None,
    wobble: float = QUIET,
) -> Planted:
    """Models at multiples of λ: F1 lost, and the shares of it that retraining wins back."""
    made = Planted(wobble=wobble)
    model = made.tuned()
    made.selected(model)
    for multiple, loss in losses.items():
        size = round(9e6 / (1 + multiple))
        point = made.pruned(model, WHOLE - loss, encoder=size, **both_kinds(made, model, multiple))
        if after is not None:
            made.retrained(point, WHOLE - (1 - after) * loss)
        if taught is not None:
            made.retrained(point, WHOLE - (1 - taught) * loss, teacher=model)
    return made


def combined(both: float, wobble: float = QUIET) -> Planted:
    """Heads alone lose 2 points, activations alone 3."""
    made = Planted(wobble=wobble)
    model = made.tuned()
    made.selected(model)
    gates = both_kinds(made, model)
    made.pruned(model, WHOLE - 2, attn=gates["attn"])
    made.pruned(model, WHOLE - 3, ff=gates["ff"])
    made.pruned(model, WHOLE - both, **gates)
    return made


@pytest.mark.parametrize(
    ("both", "wobble", "verdict"),
    [(5.2, QUIET, "holds"), (9.0, QUIET, "does not hold"), (5.5, LOUD, "undecided")],
)
def test_gates_combine(both: float, wobble: float, verdict: str) -> None:
    judgement = combined(both, wobble).judge(16)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(both - 5)
    assert (judgement.questions, judgement.seeds) == (240, 1)


LOSSES = {1.0: 4.0, 2.0: 8.0, 4.0: 16.0}


@pytest.mark.parametrize(
    ("after", "wobble", "verdict"),
    [(0.7, QUIET, "holds"), (0.3, QUIET, "does not hold"), (0.55, LOUD, "undecided")],
)
def test_retraining(after: float, wobble: float, verdict: str) -> None:
    judgement = points(LOSSES, after=after, wobble=wobble).judge(17)
    assert judgement.outcome == verdict
    assert [f.value for f in judgement.findings] == pytest.approx(
        [(after - 0.5) * loss for loss in LOSSES.values()]
    )


@pytest.mark.parametrize(
    ("losses", "wobble", "verdict"),
    [
        (LOSSES, QUIET, "holds"),
        ({1.0: 2.0, 2.0: 3.0, 4.0: 5.0}, QUIET, "does not hold"),
        ({1.0: 9.0, 2.0: 6.0, 4.0: 16.0}, QUIET, "does not hold"),
        (LOSSES, LOUD, "undecided"),
        ({1.0: 2.0, 2.0: 5.0}, QUIET, "undecided"),  # no fourth multiple, and not yet 10 points
        ({1.0: 2.0, 2.0: 15.0}, QUIET, "holds"),  # 10 points earlier than claimed
        ({1.0: 5.0, 2.0: 2.0}, QUIET, "does not hold"),
    ],
)
def test_falling_without_retraining(
    losses: dict[float, float], wobble: float, verdict: str
) -> None:
    judgement = points(losses, wobble=wobble).judge(18)
    assert judgement.outcome == verdict, judgement.why


@pytest.mark.parametrize(
    ("after", "taught", "wobble", "verdict"),
    [
        (0.5, 0.8, QUIET, "holds"),
        (0.8, 0.5, QUIET, "does not hold"),
        (0.5, 0.6, LOUD, "undecided"),
    ],
)
def test_distillation_in_retraining(
    after: float, taught: float, wobble: float, verdict: str
) -> None:
    judgement = points(LOSSES, after=after, taught=taught, wobble=wobble).judge(26)
    assert judgement.outcome == verdict
    assert [f.value for f in judgement.findings] == pytest.approx(
        [(taught - after) * loss for loss in LOSSES.values()]
    )


@pytest.mark.parametrize(
    ("ahead", "wobble", "verdict"),
    [
        (0.1, QUIET, "holds"),
        (2.0, QUIET, "does not hold"),
        (-2.0, QUIET, "does not hold"),
        (0.1, LOUD, "undecided"),
    ],
)
def test_objective_of_pruning(ahead: float, wobble: float, verdict: str) -> None:
    """Cross-entropy gates: F1 of 75 at 3M and 78 at 6M. Distillation gates: at 4M."""
    made = Planted(wobble=wobble)
    model = made.tuned()
    made.selected(model)
    for multiple, size, f1 in ((1.0, 6_000_000, 78.0), (2.0, 3_000_000, 75.0)):
        gates = both_kinds(made, model, multiple)
        made.retrained(made.pruned(model, 70.0, encoder=size, **gates), f1, teacher=model)
    assert made.judge(28).verdict == "not tested"
    gates = both_kinds(made, model, 1.0, objective="distillation")
    point = made.pruned(model, 70.0, encoder=4_000_000, **gates)
    made.retrained(point, 76 + ahead, teacher=model)
    judgement = made.judge(28)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(ahead)


def smaller(base: float, pruned: float, *, size: int = 4_000_000, wobble: float = QUIET) -> Planted:
    """The large model pruned to 6M and 3M: F1 of 78 and 75."""
    made = Planted(wobble=wobble, large="mpnet-base")
    small = made.tuned(model="minilm", encoder=size)
    large = made.tuned(model="mpnet-base")
    made.selected(small)
    for multiple, encoder, f1 in ((1.0, 6_000_000, 78.0), (2.0, 3_000_000, 75.0)):
        gates = both_kinds(made, large, multiple)
        made.retrained(made.pruned(large, 70.0, encoder=encoder, **gates), f1, teacher=large)
    assert made.judge(30).verdict == "not tested"
    made.retrained(small, base, teacher=large)
    assert made.judge(30).verdict == "not tested"
    point = made.pruned(small, 70.0, encoder=3_500_000, **both_kinds(made, small))
    made.retrained(point, pruned, teacher=large)
    return made


@pytest.mark.parametrize(
    ("base", "pruned", "wobble", "verdict"),
    [
        (78.0, 77.0, QUIET, "holds"),
        (75.0, 77.0, QUIET, "does not hold"),
        (78.0, 74.0, QUIET, "does not hold"),
        (76.5, 76.0, LOUD, "undecided"),
    ],
)
def test_smaller_model(base: float, pruned: float, wobble: float, verdict: str) -> None:
    judgement = smaller(base, pruned, wobble=wobble).judge(30)
    assert judgement.outcome == verdict, judgement.why
    assert [f.value for f in judgement.findings] == pytest.approx([base - 76, pruned - 75.5])


def test_smaller_model_that_is_distilled_right_after_pretraining() -> None:
    made = Planted(large="mpnet-base")
    large = made.tuned(model="mpnet-base")
    made.selected(large)
    for multiple, encoder, f1 in ((1.0, 6_000_000, 78.0), (2.0, 3_000_000, 75.0)):
        gates = both_kinds(made, large, multiple)
        made.retrained(made.pruned(large, 70.0, encoder=encoder, **gates), f1, teacher=large)
    assert "a smaller model that is distilled with mpnet-base" in made.judge(30).why
    sizes = {"parameters": 14_000_000, "encoder_parameters": 4_000_000}
    asked = {"model": "minilm", "objective": "distillation", "teacher": large}
    small = made.run(Retrain, {**sizes, "dev": made.dev(78.5)}, **asked)
    point = made.pruned(small, 70.0, encoder=3_500_000, **both_kinds(made, small))
    made.retrained(point, 77.0, teacher=large)
    judgement = made.judge(30)
    assert judgement.verdict == "holds", judgement.why
    assert [f.value for f in judgement.findings] == pytest.approx([78.5 - 76, 77.0 - 75.5])


def test_smaller_than_any_pruned_model() -> None:
    judgement = smaller(74.0, 77.0, size=1_000_000).judge(30)
    assert judgement.verdict == "undecided"  # a large model pruned to 1M may be worse still
    assert judgement.effect is not None
    assert judgement.effect.bound == "at least"


def test_larger_than_any_pruned_model() -> None:
    judgement = smaller(79.0, 77.0, size=9_000_000).judge(30)
    assert judgement.verdict == "undecided"  # a large model pruned to 9M may be better still
    assert [f.bound for f in judgement.findings] == ["at most", None]


def test_each_pruned_smaller_model_by_itself() -> None:
    made = smaller(78.0, 77.0)
    small = next(r.id for r in made.records if r.parameters.get("model") == "minilm")
    large = next(r.id for r in made.records if r.parameters.get("model") == "mpnet-base")
    point = made.pruned(small, 70.0, encoder=3_200_000, **both_kinds(made, small, 2.0))
    made.retrained(point, 74.0, teacher=large)
    judgement = made.judge(30)
    assert judgement.outcome == "does not hold"
    assert sorted(f.value for f in judgement.findings) == pytest.approx([-1.2, 1.5, 2.0])


@pytest.mark.parametrize("number", [16, 17, 18, 26])
def test_without_pruned_models(number: int) -> None:
    made = Planted()
    made.selected(made.tuned())
    judgement = made.judge(number)
    assert judgement.verdict == "not tested"
    assert judgement.why.startswith("It needs ")


def test_without_retraining_there_is_nothing_to_recover() -> None:
    made = points(LOSSES)
    assert made.judge(17).verdict == "not tested"
    assert made.judge(26).verdict == "not tested"
    assert made.judge(30).verdict == "not tested"
