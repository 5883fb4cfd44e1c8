"""The plan of data that come after others: Natural Questions after SQuAD (section 4.3)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from study.plan.parameters import DecodeTime, Finetune, Prune, Retrain, ScoreGates, StageParameters
from tests.study.plan.made_records import PROFILE
from tests.study.plan.test_plan import POINTS, by_stage, ids, of, penalties, planner, tuned

RECIPE: dict[str, Any] = {
    "windows": {"max_length": 128, "doc_stride": 96},
    "finetune": {"max_steps": 3},
    "penalties": {},
    "scorers": [{"scorer": "random", "kinds": ["attn"]}],
    "gates": {"questions": 10},
    "studies": [{"questions": None}],
    "gate_objectives": ["cross_entropy", "distillation"],
    "carried": [1, 2],
    "carried_models": [1],
    "random_choice": [1],
    "control_objectives": ["cross_entropy"],
}


def steps(n: int) -> dict[str, Any]:
    return {"finetune": {"max_steps": n}}


SMALLER = {"by_data": {"squad2": steps(6), "nq": steps(7)}}
ROBERTA = {"random_choice": [], "control_objectives": [], "smaller": {}}


def plan(points: Any = POINTS, roberta: Any = ROBERTA, **changes: Any) -> list[StageParameters]:
    """The plan of SQuAD and of Natural Questions after it, on two models."""
    recipe = {**RECIPE, "smaller": {"embedded": SMALLER}, **changes}
    pages = {"task": "natural_questions", "after": "squad2", "source": "embedded", "null_rate": 0.1}
    driven = {"gate_objectives": ["cross_entropy"]}
    by_data = {"squad2": steps(4), "nq": {**steps(5), **driven, **roberta}}
    return planner(
        data={**PROFILE["data"], "nq": {**pages, "recipe": recipe}},
        others={"embedded-roberta": {"data": ["nq"], "by_data": by_data}},
    ).plan(points)


def on(data: str, runs: list[StageParameters]) -> list[StageParameters]:
    return [run for run in runs if run.data == data]


def objectives(runs: list[Any]) -> dict[str, list[str]]:
    """By the model that is trained on: the losses."""
    found = defaultdict(list)
    for run in of(Retrain, runs):
        found[run.model].append(run.objective)
    return found


def test_they_begin_where_the_data_before_end() -> None:
    runs = plan(None)
    first, pages = on("squad2", runs), on("nq", runs)
    assert by_stage(pages) == [2, 1, 0, 1, 0]  # the unpruned model is trained on as a control
    assert {run.task for run in first} == {"squad"}
    assert {(run.task, run.null_rate, run.doc_stride) for run in pages} == {
        ("natural_questions", 0.1, 96)
    }
    begun = {run.model: run for run in of(Finetune, runs)}
    assert begun["embedded-roberta"].max_steps == 4
    for model, n in (("embedded", 3), ("embedded-roberta", 5)):
        assert begun[begun[model].reference].max_steps == n
        assert begun[begun[model].reference].upstream() == [begun[model].id]


def test_a_larger_model_is_scored_where_no_point_is_chosen() -> None:
    pages = {"task": "natural_questions", "after": "squad2", "source": "embedded"}
    data = {**PROFILE["data"], "nq": {**pages, "recipe": {"penalties": {}}}}
    runs = planner(data=data, large="minilm").plan(POINTS)
    large = tuned(runs, tuned(runs, "minilm"))
    assert len(of(Finetune, on("nq", runs))) == 1
    assert {run.model for run in of(ScoreGates, on("nq", runs))} == {large}


def test_they_take_the_point_chosen_on_the_data_before() -> None:
    runs = plan()
    pages = on("nq", runs)
    scores = [run for run in of(ScoreGates, pages) if run.scorer == "l0"]
    # two kinds each: two multiples under two objectives, a study; two multiples of the other model
    # and of the smaller one
    assert len(scores) == 2 * (2 * 2 + 1 + 2 + 2)
    assert penalties(scores) == {0.1, 0.001, 0.2, 0.002}
    assert {run.questions for run in scores} == {10, None}

    prunes = {run.reference: run for run in of(Prune, pages)}
    gates = {run.reference for run in on("squad2", runs)}
    carried = {name for name, run in prunes.items() if run.attn in gates}
    [random] = [name for name, run in prunes.items() if run.choice == "random"]
    # own gates, random choice, SQuAD's gates; the other model, the smaller one
    assert (len(prunes), len(carried)) == (4 + 1 + 2 + 2 + 2, 2)

    then = objectives(pages)
    unpruned = tuned(runs, tuned(runs, "embedded"))
    assert then.pop(random) == then.pop(unpruned) == ["cross_entropy"]
    [on_squad] = set(then) & {run.reference for run in of(Prune, on("squad2", runs))}
    assert then.pop(on_squad) == ["cross_entropy"]  # Table 3: goes on with its weights
    [begun] = [run for run in of(Retrain, on("squad2", runs)) if run.max_steps == 6]
    assert (begun.model, begun.teacher) == ("embedded", tuned(runs, "embedded"))
    assert then.pop(begun.reference) == ["distillation"]
    [smaller] = [run for run in of(Retrain, pages) if run.model == begun.reference]
    assert (smaller.teacher, smaller.max_steps) == (unpruned, 7)
    again = [name for name, run in prunes.items() if run.model == smaller.reference]
    assert [then.pop(name) for name in again] == [["distillation"]] * 2
    assert {run.teacher for run in of(Retrain, pages) if run.model in again} == {unpruned}
    both = ["cross_entropy", "distillation"]
    assert then == dict.fromkeys({*prunes} - {random, *again}, both)

    # beside the unpruned model its own operating points, and the smaller one before and after
    timed, of_roberta = of(DecodeTime, pages)
    own = [n for n, r in prunes.items() if r.model == unpruned and r.choice == "scores"]
    assert timed.models[0] == unpruned
    assert set(timed.models[1:]) == {*own, smaller.reference, *again} - carried
    assert len(of_roberta.models) == 1 + 2


def test_another_model_teaches_a_smaller_one() -> None:
    """Table 5 and Figure 4, which are of RoBERTa-large and RoBERTa-base."""
    lesson = {"minilm": {"by_data": {"squad2": steps(8), "nq": steps(9)}}}
    driven = {"gate_objectives": ["cross_entropy", "distillation"], "smaller": lesson}
    runs = plan(roberta=driven, smaller={}, gate_objectives=["cross_entropy"])
    on_squad = tuned(runs, "embedded-roberta")
    on_pages = tuned(runs, on_squad)
    lessons = {run.teacher: run for run in of(Retrain, runs) if run.max_steps in (8, 9)}
    begun, pupil = lessons[on_squad], lessons[on_pages]
    assert (begun.model, begun.data, begun.max_steps) == ("minilm", "squad2", 8)
    assert (pupil.model, pupil.data, pupil.max_steps) == (begun.reference, "nq", 9)
    scores = of(ScoreGates, runs)
    own = sorted(run.objective for run in scores if run.model == on_pages)
    assert own == ["cross_entropy"] * 4 + ["distillation"] * 4
    of_pupil = [run.objective for run in scores if run.model == pupil.reference]
    assert of_pupil == ["cross_entropy"] * 4
    pruned = [run.reference for run in of(Prune, runs) if run.model == pupil.reference]
    assert [run.teacher for run in of(Retrain, runs) if run.model in pruned] == [on_pages] * 2
    timed = next(run for run in of(DecodeTime, runs) if run.models[0] == on_pages)
    assert timed.models[-3:] == [pupil.reference, *pruned]
    assert len(timed.models) == 1 + 2 * 2 + 3


def test_further_gate_seeds_are_added_to_the_first() -> None:
    alone = {"smaller": {}, "studies": [], "random_choice": []}
    plain, seeded = plan(**alone), plan(**alone, gate_seeds=[0, 1, 2], multiples=[1, 2])
    assert set(ids(plain)) < set(ids(seeded))
    added = [run for run in seeded if run.id not in ids(plain)]
    # two seeds, multiples, objectives: gates of two kinds, a model, and that retrained in two ways;
    # of the other model, without the second objective, half as much
    assert by_stage(added) == [0, 24, 12, 24, 0]
    assert {run.seed for run in of(ScoreGates, added)} == {1, 2}
