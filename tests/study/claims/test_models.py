"""Claims 1, 15 and 22 to 24, on two planted models."""

from __future__ import annotations

import pytest

from study.claims import gather_evidence
from tests.study.claims.planted import LOUD, QUIET, WHOLE, Planted, both_kinds


def two(**settings: float | str) -> tuple[Planted, str, str]:
    """A base and a large model, the latter pruned once."""
    made = Planted(**{"large": "mpnet-base", **settings})  # type: ignore[arg-type]
    base, large = made.tuned(model="minilm"), made.tuned(model="mpnet-base")
    made.selected(base)
    return made, base, large


def test_the_large_model_is_the_largest_that_was_pruned() -> None:
    made = Planted()
    base, other = made.tuned(model="minilm"), made.tuned(model="mpnet-base", encoder=85_000_000)
    evidence = gather_evidence(made.records)["squad2"]
    assert (evidence.base, evidence.large) == ("minilm", "minilm")
    for penalty in (0.1, 0.2):
        made.pruned(base, 70.0, attn=made.gates(base, "attn", penalty, 40, 4.0))
    assert gather_evidence(made.records)["squad2"].large == "minilm"  # the other one is whole
    gates = {"attn": made.gates(other, "attn", 0.1, 40, 4.0)}
    made.pruned(other, 70.0, **gates, encoder=5_000_000)
    assert gather_evidence(made.records)["squad2"].large == "mpnet-base"


@pytest.mark.parametrize(
    ("on_1", "on_2", "wobble", "verdict"),
    [
        (2.0, 8.0, QUIET, "holds"),
        (8.0, 2.0, QUIET, "does not hold"),
        (4.0, 5.0, LOUD, "undecided"),
    ],
)
def test_small_models(on_1: float, on_2: float, wobble: float, verdict: str) -> None:
    made = Planted(wobble=wobble, large="mpnet-base")
    base = made.tuned(WHOLE - on_2, "minilm")
    large = made.tuned(WHOLE, "mpnet-base")
    made.selected(base)
    made.pruned(large, 70.0, **both_kinds(made, large))
    assert made.judge(1).verdict == "not tested"
    made.tuned(WHOLE + 5 - on_1, "minilm", data="squad1")
    made.tuned(WHOLE + 5, "mpnet-base", data="squad1")
    judgement = made.judge(1)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(on_2 - on_1)
    assert judgement.models == "minilm as base, mpnet-base as large"


def equal_penalties(
    less: float, saved: float, spread: float = 0.5, wobble: float = QUIET, n_seeds: int = 3
) -> Planted:
    """The base loses 40% and 4 F1 points; the large model `less` and `saved` less."""
    made, base, large = two(wobble=wobble)
    for seed in range(n_seeds):
        off = spread * (seed - 1)
        for kind, penalty in (("attn", 0.1), ("ff", 0.001)):
            made.gates(base, kind, penalty, 40 + off, 4.0, seed=seed)
            made.gates(large, kind, penalty, 40 - less - off, 4 - saved, seed=seed)
    gates = {
        "attn": made.gates(large, "attn", 0.2, 60.0, 9.0),
        "ff": made.gates(large, "ff", 0.002, 60.0, 9.0),
    }
    made.pruned(large, 70.0, **gates)
    return made


@pytest.mark.parametrize(
    ("less", "saved", "spread", "wobble", "verdict"),
    [
        (10.0, 2.0, 0.5, QUIET, "holds"),
        (-10.0, 2.0, 0.5, QUIET, "does not hold"),
        (10.0, -2.0, 0.5, QUIET, "does not hold"),
        (3.0, 2.0, 9.0, QUIET, "undecided"),
        (10.0, 0.5, 0.5, LOUD, "undecided"),
    ],
)
def test_large_is_pruned_less(
    less: float, saved: float, spread: float, wobble: float, verdict: str
) -> None:
    judgement = equal_penalties(less, saved, spread, wobble).judge(15)
    assert judgement.outcome == verdict, judgement.why
    values = [f.value for f in judgement.findings]
    assert values == pytest.approx([less, saved, less, saved])


@pytest.mark.parametrize(
    ("less", "spread", "verdict"),
    [(3.0, 0.5, "holds"), (30.0, 0.5, "does not hold"), (9.0, 9.0, "undecided")],
)
def test_roberta_is_pruned_alike(less: float, spread: float, verdict: str) -> None:
    judgement = equal_penalties(less, 1.0, spread).judge(22)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(-less)


def test_a_model_that_the_large_one_taught_is_of_neither_family() -> None:
    made = equal_penalties(3.0, 1.0)
    before = made.judge(22)
    small = made.taught("minilm", made.records[1].id)
    for penalty in (0.05, 0.1, 0.2, 0.4):
        for seed in range(9):
            made.gates(small, "attn", penalty, 90.0, 4.0, seed=seed)
    assert made.judge(22).why == before.why
    assert made.judge(14).why == equal_penalties(3.0, 1.0).judge(14).why  # nor of the base's runs


def test_one_seed_leaves_shares_undecided() -> None:
    made = equal_penalties(10.0, 2.0, n_seeds=1)
    assert made.judge(15).verdict == made.judge(22).verdict == "undecided"


@pytest.mark.parametrize(
    ("slope", "wobble", "verdict"),
    [(1.1, QUIET, "holds"), (3.0, QUIET, "does not hold"), (1.2, LOUD, "undecided")],
)
def test_falling_off(slope: float, wobble: float, verdict: str) -> None:
    """BERT loses 1 point for each 10% removed."""
    made, base, large = two(wobble=wobble)
    for removed in (20.0, 40.0, 60.0):
        for kind, penalty in (("attn", 0.01), ("ff", 0.0001)):
            made.gates(base, kind, penalty * removed, removed, removed / 10)
            made.gates(large, kind, penalty * removed, removed, slope * removed / 10)
    gates = {
        "attn": made.gates(large, "attn", 0.5, 50.0, 5 * slope),
        "ff": made.gates(large, "ff", 0.005, 50.0, 5 * slope),
    }
    made.pruned(large, 70.0, **gates)
    judgement = made.judge(23)
    assert judgement.outcome == verdict, judgement.why
    assert [f.value for f in judgement.findings] == pytest.approx([slope - 1] * 2)


@pytest.mark.parametrize(
    ("lead", "wobble", "verdict"),
    [(6.0, QUIET, "holds"), (2.0, QUIET, "does not hold"), (5.0, LOUD, "undecided")],
)
def test_roberta_on_nq(lead: float, wobble: float, verdict: str) -> None:
    made = Planted(data="nq", wobble=wobble)
    made.tuned(50.0, "bert-large-uncased")
    assert made.judge(24).verdict == "not tested"
    assert "roberta-large and bert-large-uncased" in made.judge(24).why
    made.tuned(50 + lead, "roberta-large")
    assert made.judge(24).verdict == verdict


@pytest.mark.parametrize("number", [1, 15, 22, 23])
def test_one_model_alone_cannot_be_compared(number: int) -> None:
    made = Planted()
    model = made.tuned()
    made.selected(model)
    made.pruned(model, 70.0, **both_kinds(made, model))
    judgement = made.judge(number)
    assert judgement.verdict == "not tested"
    alone = "a model like BERT and for one like RoBERTa" if number in (22, 23) else "minilm alone"
    assert alone in judgement.why


def test_two_models_of_one_family() -> None:
    made = Planted(large="bert-large-uncased")
    base, large = made.tuned(model="bert-base-uncased"), made.tuned(model="bert-large-uncased")
    made.selected(base)
    made.pruned(large, 70.0, **both_kinds(made, large))
    assert "like BERT and for one like RoBERTa" in made.judge(22).why
