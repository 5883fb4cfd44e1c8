from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    STAGES,
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.plan.plan import Planner
from study.plan.profile import Profile, read_profile
from study.plan.single_runs import id_of

PROFILES = Path(__file__).parents[2] / "profiles"
MINIMAL: dict[str, Any] = {
    "name": "small",
    "provenance": "embedded",
    "data": {"squad2": {"source": "embedded"}},
    "base": "embedded",
    "windows": {"max_length": 128, "doc_stride": 64},
    "finetune": {"max_steps": 2},
    "curves": {"fractions": [0.5]},
    "scorers": [{"scorer": "gain", "kinds": ["attn", "ff"], "questions": 8}],
    "gates": {"max_steps": 2},
    "penalties": {"attn": [0.1, 0.2], "ff": [0.001]},
    "multiples": [1, 2],
    "retrain": {"max_steps": 1},
    "timing": {"repeats": 2},
}
POINTS = {"squad2": {"attn": 0.1, "ff": 0.001}}


def planner(**changes: Any) -> Planner:
    return Planner(Profile.model_validate({**MINIMAL, **changes}))


def by_stage(runs: list[StageParameters]) -> dict[str, int]:
    return {stage: sum(run.stage == stage for run in runs) for stage in STAGES}


def test_before_a_selection_the_base_model_is_swept() -> None:
    assert by_stage(planner().plan()) == {
        "finetune": 1,
        "score": 4,
        "prune": 0,
        "retrain": 2,  # the unpruned model, by both losses
        "time": 0,
    }


def test_a_selection_brings_operating_points() -> None:
    runs = planner().plan(POINTS)
    # 2λ of the heads is in the sweep already, 2λ of the activations is new
    assert by_stage(runs) == {"finetune": 1, "score": 5, "prune": 2, "retrain": 6, "time": 1}
    penalties = {(r.penalty_attn, r.penalty_ff) for r in runs if isinstance(r, ScoreGates)}
    assert {(None, 0.002), (0.2, None)} <= penalties


def test_every_run_is_named_once_and_after_what_it_builds_on() -> None:
    for path in sorted(PROFILES.glob("*.yml")):
        profile = read_profile(path, source="somewhere")
        points = {name: {"attn": 0.06, "ff": 8e-4} for name in profile.data}
        ids = [id_of(run) for run in Planner(profile).plan(points)]
        assert len(set(ids)) == len(ids)
        for run, name in zip(Planner(profile).plan(points), ids, strict=True):
            assert all(ids.index(above) < ids.index(name) for above in run.upstream())


def test_a_longer_sweep_keeps_the_runs_of_the_shorter_one() -> None:
    longer = planner(penalties={"attn": [0.1, 0.2, 0.4], "ff": [0.001]}, gate_seeds=[0, 1])
    before = {id_of(run) for run in planner().plan()}
    after = {id_of(run) for run in longer.plan()}
    assert before < after
    assert len(after) == 1 + 1 + 2 + 2 * (3 + 1)


def test_seeds_of_gates_finetuning_and_retraining_are_swept_apart() -> None:
    count = by_stage(planner(gate_seeds=[0, 1, 2]).plan(POINTS))
    assert count == {"finetune": 1, "score": 1 + 3 * 4, "prune": 6, "retrain": 14, "time": 1}
    count = by_stage(planner(retrain_seeds=[0, 1]).plan(POINTS))
    assert count["retrain"] == 12
    assert by_stage(planner(finetune_seeds=[0, 1]).plan(POINTS))["finetune"] == 2


def test_a_large_model_gets_the_penalties_selected_on_base() -> None:
    runs = planner(large="minilm").plan(POINTS)
    assert by_stage(runs) == {"finetune": 2, "score": 8, "prune": 2, "retrain": 6, "time": 1}
    large = id_of(planner(large="minilm").finetuned("squad2", "minilm"))
    on_large = [r for r in runs if isinstance(r, ScoreGates) and r.model == large]
    assert {r.penalty_attn or r.penalty_ff for r in on_large} == {0.1, 0.2, 0.001, 0.002}
    assert {r.model for r in runs if isinstance(r, Prune)} == {large}


def test_other_models_are_pruned_beside_the_base() -> None:
    other = {
        "data": ["squad2"],
        "compute_dtype": "bfloat16",
        "finetune": {"max_steps": 9},
        "retrain": {"questions": 5},
        "timing": {"compute_dtype": "float32", "batch_size": 4},
    }
    alone = planner().plan(POINTS)
    changed = planner(others={"minilm": other})
    runs = changed.plan(POINTS)
    assert {id_of(run) for run in alone} < {id_of(run) for run in runs}
    added = [run for run in runs if id_of(run) not in {id_of(run) for run in alone}]
    assert by_stage(added) == {"finetune": 1, "score": 4, "prune": 2, "retrain": 6, "time": 1}
    tuned, *later = added
    assert isinstance(tuned, Finetune)
    assert (tuned.model, tuned.max_steps, tuned.batch_size) == ("minilm", 9, Finetune().batch_size)
    assert all(set(run.upstream()) & {id_of(earlier) for earlier in added} for run in later)
    scores = [run for run in added if isinstance(run, ScoreGates)]
    assert {r.penalty_attn or r.penalty_ff for r in scores} == {0.1, 0.2, 0.001, 0.002}
    assert {(r.questions, r.max_steps) for r in added if isinstance(r, Retrain)} == {(5, 1)}
    coarse = {"compute_dtype": "bfloat16"}
    for run in added:
        assert (coarse.items() <= run.identity().items()) == (run.stage != "time")
    assert not any("compute_dtype" in run.identity() for run in alone)
    assert by_stage(changed.plan())["finetune"] == 2  # before there is a selection


def test_another_model_teaches_a_smaller_one() -> None:
    other = {"data": ["squad2"], "finetune": {"max_steps": 9}}
    smaller = {"embedded": {"max_steps": None, "questions": 7}}
    without = planner(others={"minilm": other}).plan(POINTS)
    runs = planner(others={"minilm": {**other, "smaller": smaller}}).plan(POINTS)
    added = runs[len(without) :]
    assert runs[: len(without)] == without
    taught, *later = added
    teacher = id_of(next(run for run in runs if isinstance(run, Finetune) and run.max_steps == 9))
    assert isinstance(taught, Retrain)
    assert (taught.model, taught.teacher) == ("embedded", teacher)
    assert (taught.questions, taught.max_steps, taught.objective) == (7, None, "distillation")
    assert by_stage(later) == {"finetune": 0, "score": 4, "prune": 2, "retrain": 2, "time": 0}
    for run in later:
        if isinstance(run, ScoreGates | Prune):
            assert run.model == id_of(taught)
        elif isinstance(run, Retrain):
            assert (run.teacher, run.max_steps) == (teacher, 1)


def test_controls() -> None:
    runs = planner(single_kinds=[1], random_choice=[2]).plan(POINTS)
    pruned = [run for run in runs if isinstance(run, Prune)]
    kinds = sorted((bool(p.attn), bool(p.ff), p.choice) for p in pruned)
    both = [(True, True, "random"), (True, True, "scores"), (True, True, "scores")]
    assert kinds == [(False, True, "scores"), (True, False, "scores"), *both]
    retrained = {run.model for run in runs if isinstance(run, Retrain)}
    assert retrained == {id_of(p) for p in pruned if p.attn and p.ff} | {
        id_of(planner().finetuned("squad2", "embedded"))
    }


def test_embedding_gates_select_nothing() -> None:
    penalties = {"attn": [0.1], "ff": [0.001], "emb": [0.5]}
    [selection] = planner(penalties=penalties).selections().values()
    assert set(selection.candidates) == {"attn", "ff"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"gates": {"learning_rate": float("nan")}}, "learning_rate: .*finite"),
        ({"data": {"squad2": {}}}, "data 'squad2' has no source"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        planner(**changes).plan()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not YAML"),
        (yaml.safe_dump({**MINIMAL, "surprise": 1}), "surprise: Extra inputs"),
        (yaml.safe_dump({k: v for k, v in MINIMAL.items() if k != "base"}), "base: Field required"),
        (yaml.safe_dump({**MINIMAL, "data": {}}), "data: .*at least 1"),
        (
            yaml.safe_dump({**MINIMAL, "others": {"minilm": {"data": ["squad1"]}}}),
            "the file: .*others.minilm.data: 'squad1' is not in data",
        ),
        (yaml.safe_dump({**MINIMAL, "penalties": {"heads": [1]}}), "penalties.heads"),
        (yaml.safe_dump({**MINIMAL, "penalties": {"emb": [1]}}), "the file: .*of attn, of ff or"),
        (yaml.safe_dump({**MINIMAL, "penalties": {"attn": []}}), "penalties.attn: .*at least 1"),
        (
            yaml.safe_dump({**MINIMAL, "resources": {"finetun": {"gpu": 1}}}),
            "the file: .*resources.finetun: the stages are finetune, score",
        ),
        (
            yaml.safe_dump({**MINIMAL, "multiples": [1], "random_choice": [2]}),
            "the file: .*random_choice: each has to be one of multiples",
        ),
    ],
)
def test_bad_profiles_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.yml"
    path.write_text(content)
    with pytest.raises(SettingsError, match=f"{path}: {message}"):
        read_profile(path)


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such profile"):
        read_profile(tmp_path / "none.yml")


PAGES: dict[str, Any] = {
    "after": "squad2",
    "source": "embedded",
    "windows": {"max_length": 128, "doc_stride": 96},
    "null_rate": 0.1,
    "finetune": {"max_steps": 3},
    "scorers": [{"scorer": "random", "kinds": ["attn"]}],
    "gates": {"questions": 10},
    "studies": [{"questions": None}],
    "gate_objectives": ["cross_entropy", "distillation"],
    "multiples": [1, 2],
    "carried": [1, 2],
    "carried_models": [1],
    "random_choice": [1],
    "others": {"embedded-roberta": {"squad": {"max_steps": 4}, "finetune": {"max_steps": 5}}},
    "smaller": {"embedded": {"squad": {"max_steps": 6}, "finetune": {"max_steps": 7}}},
    "retrain": {"max_steps": 1},
    "timing": {"repeats": 2},
}


def on_pages(points: Any = None) -> list[StageParameters]:
    runs = planner(natural_questions=PAGES).plan(points)
    return [run for run in runs if run.data == "nq"]


def test_natural_questions_begin_where_squad_ends() -> None:
    runs = on_pages()
    assert by_stage(runs) == {"finetune": 2, "score": 1, "prune": 0, "retrain": 0, "time": 0}
    squad, *others = [run for run in planner(natural_questions=PAGES).plan() if run.data != "nq"]
    begun = next(run for run in others if isinstance(run, Finetune))
    assert (begun.model, begun.max_steps) == ("embedded-roberta", 4)
    tuned, roberta = (run for run in runs if isinstance(run, Finetune))
    assert (tuned.model, tuned.max_steps) == (id_of(squad), 3)
    assert (roberta.model, roberta.max_steps) == (id_of(begun), 5)
    assert tuned.upstream() == [id_of(squad)]
    assert roberta.upstream() == [id_of(begun)]
    assert {run.task for run in runs} == {"natural_questions"}
    assert {run.null_rate for run in runs} == {0.1}
    assert {run.task for run in [squad, *others]} == {"squad"}


def test_natural_questions_take_the_point_chosen_on_squad() -> None:
    runs = on_pages(POINTS)
    scores = [run for run in runs if isinstance(run, ScoreGates) and run.scorer == "l0"]
    # two kinds each: two multiples under two objectives, a study; two multiples of the other model
    # and of the smaller one
    assert len(scores) == 2 * (2 * 2 + 1 + 2 + 2)
    penalties = {(run.penalty_attn, run.penalty_ff) for run in scores}
    assert penalties == {(0.1, None), (None, 0.001), (0.2, None), (None, 0.002)}
    assert sorted({str(run.questions) for run in scores}) == ["10", "None"]
    prunes = {id_of(run): run for run in runs if isinstance(run, Prune)}
    # own gates, random choice, SQuAD's gates; the other model, the smaller one
    assert len(prunes) == 4 + 1 + 2 + 2 + 2
    [random] = [run for run in prunes.values() if run.choice == "random"]
    carried = [name for name, run in prunes.items() if "squad2" in str(run.attn)]
    assert len(carried) == 2
    retrained = [run for run in runs if isinstance(run, Retrain)]
    then: dict[str, list[str]] = {}
    for run in retrained:
        then.setdefault(run.model, []).append(run.objective)
    both = ["cross_entropy", "distillation"]
    assert then.pop(id_of(random)) == ["cross_entropy"]
    # Table 3: goes on with its weights
    [on_squad] = [name for name in then if name.startswith("prune/squad2")]
    assert then.pop(on_squad) == ["cross_entropy"]
    [unpruned] = [name for name in then if name.startswith("finetune/")]
    assert then.pop(unpruned) == ["cross_entropy"]
    on_squad_data = planner(natural_questions=PAGES).plan(POINTS)
    [begun] = [r for r in on_squad_data if isinstance(r, Retrain) and r.model == "embedded"]
    squad = planner().finetuned("squad2", "embedded")
    assert (begun.teacher, begun.max_steps, begun.data) == (id_of(squad), 6, "squad2")
    [smaller] = [run for run in retrained if run.model == id_of(begun)]
    assert (smaller.teacher, smaller.max_steps) == (unpruned, 7)
    assert then.pop(id_of(begun)) == ["distillation"]
    again = {name for name, run in prunes.items() if run.model == id_of(smaller)}
    assert [then.pop(name) for name in sorted(again)] == [["distillation"]] * 2
    assert {run.teacher for run in retrained if run.model in again} == {unpruned}
    assert {run.model for run in scores if id_of(run) in _gates(prunes, again)} == {id_of(smaller)}
    assert then == dict.fromkeys(set(prunes) - {id_of(random)} - again, both)
    # beside the unpruned model its own operating points, and the smaller one before and after
    timed, of_roberta = (run for run in runs if isinstance(run, DecodeTime))
    own = {
        name
        for name, run in prunes.items()
        if run.model == unpruned and run.choice == "scores" and name not in carried
    }
    assert timed.models[0] == unpruned
    assert set(timed.models) == {unpruned, *own, id_of(smaller), *again}
    assert len(of_roberta.models) == 1 + len(PAGES["multiples"])
    order = [id_of(run) for run in runs]
    assert order.index(id_of(timed)) > max(order.index(name) for name in timed.models)


def test_another_model_on_natural_questions_teaches_a_smaller_one() -> None:
    """Table 5 and Figure 4, which are of RoBERTa-large and RoBERTa-base."""
    large: dict[str, Any] = {"gate_objectives": ["cross_entropy", "distillation"]}
    large["smaller"] = {"minilm": {"squad": {"max_steps": 8}, "finetune": {"max_steps": 9}}}
    pages: dict[str, Any] = {**PAGES, "smaller": {}, "gate_objectives": ["cross_entropy"]}
    runs = planner(natural_questions={**pages, "others": {"embedded-roberta": large}}).plan(POINTS)
    tuned = {run.model: id_of(run) for run in runs if isinstance(run, Finetune)}
    on_squad = tuned["embedded-roberta"]
    on_pages = tuned[on_squad]
    lessons = {
        run.teacher: run for run in runs if isinstance(run, Retrain) and run.max_steps in (8, 9)
    }
    begun, pupil = lessons[on_squad], lessons[on_pages]
    assert (begun.model, begun.data, begun.max_steps) == ("minilm", "squad2", 8)
    assert (pupil.model, pupil.data, pupil.max_steps) == (id_of(begun), "nq", 9)
    scores = [run for run in runs if isinstance(run, ScoreGates)]
    driven = [run.objective for run in scores if run.model == on_pages]
    assert sorted(driven) == ["cross_entropy"] * 4 + ["distillation"] * 4
    assert [run.objective for run in scores if run.model == id_of(pupil)] == ["cross_entropy"] * 4
    pruned = {id_of(r): r for r in runs if isinstance(r, Prune) and r.model == id_of(pupil)}
    again = [run for run in runs if isinstance(run, Retrain) and run.model in pruned]
    assert [run.teacher for run in again] == [on_pages] * 2
    timed = next(r for r in runs if isinstance(r, DecodeTime) and r.models[0] == on_pages)
    assert timed.models[-3:] == [id_of(pupil), *pruned]
    assert len(timed.models) == 1 + 2 * 2 + 3


def test_further_gate_seeds_at_one_multiple_on_natural_questions() -> None:
    pages: dict[str, Any] = {**PAGES, "smaller": {}, "others": {}, "studies": []}
    plain = {id_of(run) for run in planner(natural_questions=pages).plan(POINTS)}
    seeded = planner(natural_questions={**pages, "gate_seeds": {2: [0, 1, 2]}}).plan(POINTS)
    added = [run for run in seeded if id_of(run) not in plain]
    assert plain <= {id_of(run) for run in seeded}
    # two seeds, two objectives: gates of two kinds, a model, and that retrained in two ways
    counts = {"finetune": 0, "score": 8, "prune": 4, "retrain": 8, "time": 0}
    assert by_stage(added) == counts
    scores = [run for run in added if isinstance(run, ScoreGates)]
    assert {(run.seed, run.penalty_attn or run.penalty_ff) for run in scores} == {
        (seed, penalty) for seed in (1, 2) for penalty in (0.2, 0.002)
    }


def _gates(prunes: dict[str, Prune], names: set[str]) -> set[str | None]:
    return {gates for name in names for gates in (prunes[name].attn, prunes[name].ff)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"natural_questions": {**PAGES, "after": "squad1"}}, "after 'squad1'"),
        ({"natural_questions": {**PAGES, "gate_seeds": {3: [0]}}}, "gate_seeds:"),
        ({"natural_questions": {**PAGES, "gate_seeds": {1: []}}}, "gate_seeds"),
        ({"natural_questions": {**PAGES, "random_choice": [3]}}, "random_choice:"),
        ({"natural_questions": {**PAGES, "carried": [3]}}, "carried:"),
        ({"natural_questions": {**PAGES, "carried_models": [3]}}, "carried_models:"),
        ({"data": {"nq": {"source": "embedded"}}}, "names Natural Questions"),
    ],
)
def test_natural_questions_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        planner(**changes)


def test_the_source_of_each_kind_of_data_is_a_part_of_one_folder(tmp_path: Path) -> None:
    pages = {**PAGES, "folder": "pages"}
    del pages["source"]
    content = {**MINIMAL, "data": {"squad2": {"folder": "squad"}}, "natural_questions": pages}
    path = tmp_path / "some.yml"
    path.write_text(yaml.safe_dump(content))
    runs = Planner(read_profile(path, source="files")).plan()
    assert {(run.data, run.source) for run in runs} == {
        ("squad2", "files/squad"),
        ("nq", "files/pages"),
    }
