"""Claims 5 to 9, 11, 12 and 32 on planted curves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.study.claims.planted import LOUD, QUIET, Planted, line

KINDS = ("attn", "ff", "emb")
GOOD = {
    "l0": {"attn": 0.9, "ff": 0.6, "emb": 6.0},
    "gain": {"attn": 1.5, "ff": 1.0, "emb": 5.0},
    "leave_one_out": {"attn": 1.6},
    "random": {"attn": 8.0, "ff": 5.0, "emb": 12.0},
}
"""F1 lost for each 10% removed, such that every claim holds."""


def curves(wobble: float = QUIET, **changes: float) -> Planted:
    """All curves; `l0_attn=3` sets one slope."""
    made = Planted(wobble=wobble)
    model = made.tuned()
    for scorer, slopes in GOOD.items():
        for kind in KINDS:
            if kind not in slopes:
                continue
            slope = changes.get(f"{scorer}_{kind}", slopes[kind])
            if scorer != "l0":
                made.scored(model, scorer, kind, line(slope))
                continue
            norm = {"embedding_norm": "plain"} if kind == "emb" else {}
            for removed in (20.0, 50.0, 75.0):
                loss = slope * removed / 10
                made.gates(model, kind, removed / 1000, removed, loss, **norm)
    return made


@pytest.mark.parametrize(
    ("number", "changes", "verdict"),
    [
        (5, {}, "holds"),
        (5, {"random_attn": 5.0}, "does not hold"),
        (5, {"random_attn": 5.5, "wobble": LOUD}, "undecided"),
        (6, {}, "holds"),
        (6, {"leave_one_out_attn": 3.0}, "does not hold"),
        (6, {"leave_one_out_attn": 9.0}, "does not hold"),
        (6, {"wobble": LOUD}, "undecided"),
        (7, {}, "holds"),
        (7, {"l0_attn": 1.2}, "does not hold"),
        (7, {"gain_attn": 0.2}, "does not hold"),
        (7, {"wobble": LOUD}, "undecided"),
        (8, {}, "holds"),
        (8, {"gain_ff": 3.0}, "does not hold"),
        (8, {"gain_attn": 1.0, "gain_ff": 0.95, "wobble": 4.0}, "undecided"),
        (9, {}, "holds"),
        (9, {"l0_ff": 0.9}, "does not hold"),
        (9, {"gain_ff": 0.1}, "does not hold"),
        (9, {"wobble": LOUD}, "undecided"),
        (11, {}, "holds"),
        (11, {"gain_emb": 2.0}, "does not hold"),
        (11, {"gain_emb": 3.0, "wobble": 4.0}, "undecided"),
        (12, {}, "holds"),
        (12, {"l0_emb": 2.0}, "does not hold"),
        (12, {"l0_emb": 5.0, "wobble": 4.0}, "undecided"),
        (32, {}, "holds"),
        (32, {"l0_emb": 2.0}, "does not hold"),
        (32, {"l0_emb": 5.0, "wobble": 2.0}, "undecided"),
    ],
)
def test_verdicts(number: int, changes: dict[str, float], verdict: str) -> None:
    judgement = curves(**changes).judge(number)
    assert judgement.outcome == verdict, judgement.why
    assert (judgement.profile, judgement.data) == ("tiny", "squad2")
    assert judgement.models == "minilm as base and large"


def test_the_effect_is_what_was_planted() -> None:
    made = curves()
    effects = {n: f.value for n in (5, 6, 7, 8, 11, 12) if (f := made.judge(n).effect) is not None}
    assert effects[5] == pytest.approx(2 * (8 - 0.9), abs=0.01)
    assert effects[6] == pytest.approx(-0.1 * 4, abs=0.05)  # mean of 0 to 8 tenths, times −0.1
    assert effects[7] == pytest.approx(0.9 * 4.8, abs=0.01)
    assert effects[11] == pytest.approx(0.5 * 50 / 1.5 - 50 / 5, abs=0.1)
    assert effects[12] == pytest.approx(50 / 5 - 50 / 6, abs=0.1)


def without(made: Planted, gone: Callable[..., bool]) -> Planted:
    made.records = [r for r in made.records if r.stage != "score" or not gone(**r.parameters)]
    return made


@pytest.mark.parametrize(
    ("number", "scorer", "kind", "says"),
    [
        (5, "random", "attn", "random"),
        (6, "leave_one_out", "attn", "leave-one-out"),
        (7, "l0", "attn", "L0"),
        (8, "gain", "ff", "gain"),
        (9, "l0", "ff", "L0"),
        (11, "gain", "emb", "gain"),
        (12, "l0", "emb", "embedding_norm plain"),
        (32, "l0", "ff", "claim 8"),
    ],
)
def test_without_the_runs_nothing_is_judged(number: int, scorer: str, kind: str, says: str) -> None:
    def gone(**parameters: object) -> bool:
        return parameters["scorer"] == scorer and parameters["kinds"] == [kind]

    judgement = without(curves(), gone).judge(number)
    assert (judgement.verdict, judgement.findings) == ("not tested", ())
    assert says in judgement.why


def test_l0_that_prunes_too_little_is_not_judged_unless_it_already_failed() -> None:
    def far(**parameters: object) -> bool:
        return parameters.get("penalty_attn") in (0.05, 0.075)

    judgement = without(curves(), far).judge(7)
    assert judgement.verdict == "not tested"
    assert "at most 20% of the attention heads" in judgement.why
    assert without(curves(l0_attn=5.0), far).judge(7).verdict == "does not hold"


def test_a_failed_part_decides_the_conclusions_whatever_lacks() -> None:
    def gone(**parameters: object) -> bool:
        return parameters["kinds"] == ["emb"]

    assert without(curves(), gone).judge(32).verdict == "not tested"
    assert without(curves(gain_ff=3.0), gone).judge(32).verdict == "does not hold"


def test_curves_that_end_early() -> None:
    """Activations that never lose 5 points bear more than heads that do, at least."""
    made = Planted()
    model = made.tuned()
    for kind, slope in (("attn", 2.0), ("ff", 0.1)):
        made.gates(model, kind, 0.1, 60.0, 6 * slope)
        for scorer in ("gain", "random"):
            made.scored(model, scorer, kind, line(slope))
    judgement = made.judge(8)
    assert judgement.verdict == "holds"
    assert judgement.effect is not None
    assert judgement.effect.bound == "at least"


def test_only_the_mended_norm_cannot_show_that_the_plain_one_fails() -> None:
    made = Planted()
    model = made.tuned()
    made.scored(model, "gain", "emb", line(5.0))
    made.gates(model, "emb", 0.1, 50.0, 40.0)
    judgement = made.judge(12)
    assert judgement.verdict == "undecided"
    assert "over the open dimensions" in judgement.why


def test_a_scorer_that_never_loses_five_points_leaves_the_claim_open() -> None:
    judgement = curves(l0_attn=0.5, l0_ff=0.4).judge(8)
    assert judgement.verdict == "undecided"
    assert len(judgement.findings) == 2
    assert "at least 75% against at least 75% (L0)" in judgement.why
