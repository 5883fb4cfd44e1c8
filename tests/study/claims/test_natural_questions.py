"""Claims 20, 21 and 25 on planted runs with questions in the format of Natural Questions."""

from __future__ import annotations

import pytest

from tests.study.claims.planted import LOUD, QUIET, Planted, both_kinds, line


def on_nq(slope: float, wobble: float = QUIET) -> Planted:
    """Random loses 5 points for each 10% removed, L0 loses `slope`."""
    made = Planted(data="nq", wobble=wobble)
    model = made.tuned()
    for kind in ("attn", "ff"):
        made.scored(model, "random", kind, line(5.0))
        for removed in (20.0, 50.0):
            made.gates(model, kind, removed / 1000, removed, slope * removed / 10)
    return made


@pytest.mark.parametrize(
    ("slope", "wobble", "verdict"),
    [(1.0, QUIET, "holds"), (8.0, QUIET, "does not hold"), (4.7, LOUD, "undecided")],
)
def test_techniques_on_nq(slope: float, wobble: float, verdict: str) -> None:
    judgement = on_nq(slope, wobble).judge(20)
    assert judgement.outcome == verdict
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx((5 - slope) * (2 + 5) / 2)
    assert judgement.data == "nq"


def test_random_must_reach_as_far() -> None:
    made = Planted(data="nq")
    model = made.tuned()
    made.scored(model, "random", "attn", {5.0: 3.0})
    made.gates(model, "attn", 0.1, 40.0, 4.0)
    assert "random cuts of attention heads" in made.judge(20).why


def transferred(squad: float, random: float, nq: float, wobble: float = QUIET) -> Planted:
    """F1 after retraining on NQ, by where the gates come from."""
    made = Planted(data="nq", wobble=wobble)
    elsewhere = Planted(data="squad2")
    squad_model = elsewhere.tuned()
    model = made.tuned(model=squad_model)
    elsewhere.selected(squad_model)
    by_squad = both_kinds(elsewhere, squad_model)
    pruned_on_squad = elsewhere.pruned(squad_model, 75.0, **by_squad)
    made.records += elsewhere.records
    by_nq = both_kinds(made, model)
    made.retrained(pruned_on_squad, 99.0)  # with SQuAD's parameters, as in Table 3: not compared
    made.retrained(made.pruned(model, 70.0, **by_squad), squad)
    made.retrained(made.pruned(model, 70.0, **by_nq), nq)
    made.retrained(made.pruned(model, 60.0, choice="random", **by_nq), random)
    return made


@pytest.mark.parametrize(
    ("squad", "random", "nq", "wobble", "verdict"),
    [
        (70.0, 65.0, 70.2, QUIET, "holds"),
        (70.0, 72.0, 70.2, QUIET, "does not hold"),
        (70.0, 65.0, 75.0, QUIET, "does not hold"),
        (70.0, 65.0, 70.2, LOUD, "undecided"),
    ],
)
def test_gates_transfer(
    squad: float, random: float, nq: float, wobble: float, verdict: str
) -> None:
    judgement = transferred(squad, random, nq, wobble).judge(21)
    assert judgement.outcome == verdict, judgement.why
    assert [f.value for f in judgement.findings] == pytest.approx([squad - random, squad - nq])


@pytest.mark.parametrize("arm", ["SQuAD's gates", "NQ's gates", "random gates"])
def test_every_arm_is_needed(arm: str) -> None:
    made = transferred(70.0, 65.0, 70.0)
    retrained = [record for record in made.records if record.stage == "retrain"]
    arms = ("Table 3", "SQuAD's gates", "NQ's gates", "random gates")
    lost = dict(zip(arms, retrained, strict=True))[arm]
    made.records.remove(lost)
    judgement = made.judge(21)
    assert judgement.verdict == "not tested"
    assert arm in judgement.why


@pytest.mark.parametrize(
    ("worse", "wobble", "verdict"),
    [(0.2, QUIET, "holds"), (4.0, QUIET, "does not hold"), (0.2, LOUD, "undecided")],
)
def test_few_questions(worse: float, wobble: float, verdict: str) -> None:
    made = Planted(data="nq", wobble=wobble)
    model = made.tuned()
    for seed in range(2):
        made.gates(model, "attn", 0.1, 40.0, 3.0, seed=seed, questions=None, trained_on=5000)
    assert made.judge(25).verdict == "not tested"
    for seed in range(2):
        lost = 3 + worse
        made.gates(model, "attn", 0.1, 38.0, lost, seed=seed, questions=1000, trained_on=1000)
    judgement = made.judge(25)
    assert judgement.outcome == verdict, judgement.why
    assert judgement.effect is not None
    assert judgement.effect.value == pytest.approx(-worse)
    assert "20% of the questions" in judgement.why


@pytest.mark.parametrize("number", [3, 20, 21, 24, 25])
def test_squad_does_not_stand_for_nq(number: int) -> None:
    made = Planted()
    model = made.tuned()
    made.pruned(model, 70.0, **both_kinds(made, model))
    judgement = made.judge(number)
    assert judgement.verdict == "not tested"
    assert "Natural Questions" in judgement.why
    assert judgement.data is None
