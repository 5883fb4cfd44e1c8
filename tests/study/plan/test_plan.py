"""What a profile's plan holds, in which order, and under which names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    PLACE,
    STAGES,
    Compress,
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.plan.plan import Planner
from study.plan.profile import Data, read_profile
from study.records.record import hash_of, write_record
from tests.quick import at_most
from tests.study.plan import made_records
from tests.study.plan.made_records import record

PROFILES = Path(__file__).parents[3] / "profiles"
MINIMAL: dict[str, Any] = {
    "finetune": {"max_steps": 2},
    "scorers": [{"scorer": "gain", "kinds": ["attn", "ff"], "questions": 8}],
    "gates": {"max_steps": 2},
    "multiples": [1, 2],
    "retrain": {"max_steps": 1},
}
POINTS = {"squad2": {"attn": 0.1, "ff": 0.001}}


def planner(results: str | Path = "results", **changes: Any) -> Planner:
    return made_records.planner(results, **{**MINIMAL, **changes})


def by_stage(runs: list[StageParameters]) -> list[int]:
    """How many runs of finetune, score, prune, retrain and time there are."""
    return [sum(run.stage == stage for run in runs) for stage in STAGES if stage != "compress"]


def of(stage: type[StageParameters], runs: list[StageParameters]) -> list[Any]:
    return [run for run in runs if isinstance(run, stage)]


def ids(runs: list[StageParameters]) -> list[str]:
    return [run.id for run in runs]


def tuned(runs: list[StageParameters], model: str) -> str:
    """The reference of the run that fine-tunes a model."""
    [run] = [run for run in of(Finetune, runs) if run.model == model]
    return str(run.reference)


def penalties(runs: list[Any]) -> set[float]:
    return {run.penalty_attn or run.penalty_ff for run in runs}


def test_a_model_is_compressed_to_each_target() -> None:
    targets = [{"macs": 0.5}, {"speedup": 2.0, "budget": "10min"}]
    runs = planner(compress=targets).plan()
    half, twice = of(Compress, runs)
    [finetuning] = of(Finetune, runs)
    assert half.upstream() == twice.upstream() == [finetuning.id]
    assert (half.macs, half.speedup) == (0.5, None)
    assert (twice.macs, twice.speedup, twice.budget) == (None, 2.0, "10min")
    assert half.name == f"compressed/squad2/{finetuning.model}/macs-0.5"
    with pytest.raises(SettingsError, match="either speedup or macs"):
        planner(compress=[{"macs": 0.5, "speedup": 2.0}]).plan()


def test_before_a_selection_the_base_model_is_swept() -> None:
    assert by_stage(planner().plan()) == [1, 4, 0, 2, 0]  # the unpruned model, by both losses


def test_a_selection_brings_operating_points() -> None:
    runs = planner().plan(POINTS)
    # 2λ of the heads is in the sweep already, 2λ of the activations is new
    assert by_stage(runs) == [1, 5, 2, 6, 1]
    assert {0.002, 0.2} <= penalties(of(ScoreGates, runs))
    [times] = of(DecodeTime, runs)
    assert times.models == [tuned(runs, "embedded"), *(run.reference for run in of(Prune, runs))]


def test_a_longer_sweep_keeps_the_runs_of_the_shorter_one() -> None:
    longer = planner(penalties={"attn": [0.1, 0.2, 0.4], "ff": [0.001]}, gate_seeds=[0, 1])
    before, after = set(ids(planner().plan())), set(ids(longer.plan()))
    assert before < after
    assert len(after) == 1 + 1 + 2 + 2 * (3 + 1)


def test_seeds_of_gates_finetuning_and_retraining_are_swept_apart() -> None:
    three = {"gate_seeds": [0, 1, 2]}
    assert by_stage(planner(**three).plan(POINTS)) == [1, 1 + 3 * 4, 6, 14, 1]
    assert by_stage(planner(**three, penalty_seeds=[0]).plan()) == [1, 4, 0, 2, 0]
    further = planner(**three, further_objectives=["cross_entropy"]).plan(POINTS)
    assert by_stage(further)[3] == 2 + 2 * 2 + 2 * 2
    assert by_stage(planner(retrain_seeds=[0, 1]).plan(POINTS))[3] == 12
    assert by_stage(planner(finetune_seeds=[0, 1]).plan(POINTS))[0] == 2
    [times] = of(DecodeTime, planner(**three).plan(POINTS))
    assert len(times.models) == 1 + 2  # of the first seed


def test_a_large_model_gets_the_penalties_selected_on_base() -> None:
    runs = planner(large="minilm").plan(POINTS)
    assert by_stage(runs) == [2, 8, 2, 6, 1]
    large = tuned(runs, "minilm")
    assert penalties([run for run in of(ScoreGates, runs) if run.model == large]) == {
        *(0.1, 0.2, 0.001, 0.002)
    }
    assert {run.model for run in of(Prune, runs)} == {large}


OTHER = {
    "compute_dtype": "bfloat16",
    "finetune": {"max_steps": 9},
    "retrain": {"questions": 5},
    "timing": {"compute_dtype": "float32", "batch_size": 4},
}


def test_other_models_are_pruned_beside_the_base() -> None:
    alone = planner().plan(POINTS)
    changed = planner(others={"minilm": {"data": ["squad2"], "recipe": OTHER}})
    runs = changed.plan(POINTS)
    assert set(ids(alone)) < set(ids(runs))
    added = [run for run in runs if run.id not in ids(alone)]
    assert by_stage(added) == [1, 4, 2, 6, 1]
    tuned, *later = added
    assert isinstance(tuned, Finetune)
    assert (tuned.model, tuned.max_steps, tuned.batch_size) == ("minilm", 9, 16)
    assert all(set(run.upstream()) & set(ids(added)) for run in later)
    assert penalties(of(ScoreGates, added)) == {0.1, 0.2, 0.001, 0.002}
    assert {(run.questions, run.max_steps) for run in of(Retrain, added)} == {(5, 1)}
    for run in added:
        assert (run.compute_dtype == "bfloat16") == (run.stage != "time")
    assert {run.compute_dtype for run in alone} == {"float32"}
    assert by_stage(changed.plan())[0] == 2  # before there is a selection


def test_another_model_teaches_a_smaller_one() -> None:
    lesson = {"embedded": {"recipe": {"finetune": {"max_steps": None, "questions": 7}}}}
    without, runs = (
        planner(others={"minilm": {"data": ["squad2"], "recipe": {**OTHER, **more}}}).plan(POINTS)
        for more in ({}, {"smaller": lesson})
    )
    assert set(ids(without)) < set(ids(runs))
    taught, *later = [run for run in runs if run.id not in ids(without)]
    teacher = tuned(runs, "minilm")
    assert isinstance(taught, Retrain)
    assert (taught.model, taught.teacher) == ("embedded", teacher)
    assert (taught.questions, taught.max_steps, taught.objective) == (7, None, "distillation")
    assert by_stage(later) == [0, 4, 2, 2, 0]
    assert {run.model for run in (*of(ScoreGates, later), *of(Prune, later))} == {taught.reference}
    assert {(run.teacher, run.max_steps) for run in of(Retrain, later)} == {(teacher, 1)}


def test_controls() -> None:
    runs = planner(single_kinds=[1], random_choice=[2]).plan(POINTS)
    pruned = of(Prune, runs)
    kinds = sorted((bool(run.attn), bool(run.ff), run.choice) for run in pruned)
    both = [(True, True, "random"), (True, True, "scores"), (True, True, "scores")]
    assert kinds == [(False, True, "scores"), (True, False, "scores"), *both]
    [times] = of(DecodeTime, runs)
    assert len(times.models) == 1 + 4  # not at random
    retrained = {run.model for run in of(Retrain, runs)}
    of_both = {run.reference for run in pruned if run.attn and run.ff}
    assert retrained == of_both | {tuned(runs, "embedded")}
    few = planner(random_choice=[2], control_objectives=["cross_entropy"]).plan(POINTS)
    controls = [run for run in of(Retrain, few) if "random" in run.name or "unpruned" in run.name]
    assert [run.objective for run in controls] == ["cross_entropy"] * 2


def test_studies_run_on_base_or_at_the_operating_point() -> None:
    studies = [{"kinds": ["attn"], "penalty_attn": 0.7, "dropout": True}, {"questions": 3}]
    without, before, after = (
        of(ScoreGates, made.plan(points))
        for made, points in (
            (planner(), POINTS),
            (planner(studies=studies), None),
            (planner(studies=studies), POINTS),
        )
    )
    [named] = [run for run in before if run.dropout]
    assert (named.penalty_attn, named.kinds, named.max_steps) == (0.7, ["attn"], 2)
    at_point = [run for run in after if run.questions == 3]
    assert {(run.penalty_attn, run.penalty_ff) for run in at_point} == {(0.1, None), (None, 0.001)}
    assert len(after) == len(without) + 3


def test_arguments_of_a_scorer_are_told_from_parameters_of_the_stage() -> None:
    gain = {"scorer": "gain", "kinds": ["attn"], "questions": 8, "at": 0, "normalize": True}
    [run] = [run for run in of(ScoreGates, planner(scorers=[gain]).plan()) if run.options]
    assert (run.scorer, run.questions) == ("gain", 8)
    assert run.options == {"at": 0, "normalize": True}
    assert {"at", "normalize"}.isdisjoint(run.identity())


def test_embedding_gates_select_nothing() -> None:
    penalties = {"attn": [0.1], "ff": [0.001], "emb": [0.5]}
    [selection] = planner(penalties=penalties).selections().values()
    assert set(selection.candidates) == {"attn", "ff"}


def test_without_penalties_and_multiples_nothing_is_selected() -> None:
    plan = planner(penalties={}, multiples=[], compress=[{"macs": 0.5}])
    assert plan.selections() == {}
    compressed = of(Compress, plan.plan())
    assert [run.macs for run in compressed] == [0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"finetune": {"learning_rat": 1}}, "did you mean 'learning_rate'"),
        ({"gates": {"learning_rate": float("nan")}}, "learning_rate: .*finite"),
        ({"gates": {"dropout": "yes"}}, "dropout: .*boolean"),
        ({"provenance": "measured", "data": {"squad2": {}}}, "data 'squad2' has no source"),
        ({"provenance": "measured"}, "provenance='measured' with source='embedded'"),
        *(
            ({part: {name: "/elsewhere"}}, f"small: {name} is no setting of a stage")
            for part in ("finetune", "gates", "retrain", "timing")
            for name in sorted(PLACE)
        ),
        ({"scorers": [{"scorer": "gain", "runs": "x"}]}, r"runs is no setting of a stage \(score"),
        ({"tuning": [{"results": "x"}]}, "results is no setting"),
        ({"compress": [{"macs": 0.5, "name": "x"}]}, "name is no setting"),
        ({"data": {"squad2": {"source": "embedded", "recipe": {"finetune": {"runs": "x"}}}}}, "ru"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        planner(**changes).plan({"squad2": {"attn": 0.1}})


@pytest.mark.parametrize("folder", ["a\0b", "x" * 5000, "\ud800", f"{__file__}/below"])
def test_folders_that_cannot_be_are_refused_before_anything_runs(folder: str) -> None:
    profile = planner().profile
    for folders in ((folder, "runs"), ("results", folder)):
        with pytest.raises(SettingsError, match="cannot be written"):
            Planner(profile, *folders)


# names and hashes


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yml")), ids=lambda path: path.stem)
def test_every_profile_is_planned_each_run_once_upstream_first(path: Path, tmp_path: Path) -> None:
    version = {"squad2": "2.0", "squad1": "1.1"}
    for split, number in ((s, n) for s in ("train", "dev") for n in version.values()):
        touch(tmp_path / "squad" / f"{split}-v{number}.json")
    for name in ("train", "dev", "dev-real-questions"):
        touch(tmp_path / "nq" / f"{name}.jsonl.gz")
    is_pinned = any(data.origin for data in read_profile(path).data.values())
    profile = read_profile(path, source=None if is_pinned else str(tmp_path))
    plan = Planner(profile)
    points = {name: {"attn": 0.06, "ff": 8e-4} for name in plan.selections()}
    check_order(plan.plan(points))
    first, all_runs = set(ids(plan.plan())), set(ids(plan.plan(points)))
    assert first < all_runs if points else first == all_runs
    # where the files are not at hand, the origin that they had names the same runs
    away = {
        name: data.model_copy(update={"source": None} if data.folder else {})
        for name, data in profile.data.items()
    }
    pinned = Planner(profile.model_copy(update={"data": away}))
    assert ids(pinned.plan(points)) == ids(plan.plan(points))


def touch(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.touch()


def check_order(runs: list[StageParameters]) -> None:
    names = ids(runs)
    assert len({hash_of(name) for name in names}) == len(names)
    for number, run in enumerate(runs):
        assert set(run.upstream()) <= set(names[:number]), run.id


CHAIN = {
    "squad1": Data(source="embedded", version="1.1"),
    "squad2": Data(source="embedded", after="squad1"),
    "nq": Data(
        task="natural_questions",
        source="embedded",
        after="squad2",
        recipe={"carried": [1, 2], "carried_models": [1], "smaller": {"tiny": {}}},
    ),
    "alone": Data(source="embedded"),
}


@settings(max_examples=at_most(25))
@given(
    order=st.permutations(list(CHAIN)),
    points=st.sets(st.sampled_from(["squad1", "alone"])),
    large=st.sampled_from([None, "minilm"]),
    studied=st.booleans(),
)
def test_order_and_names_do_not_depend_on_how_a_profile_is_written_or_planned(
    order: list[str], points: set[str], large: str | None, studied: bool
) -> None:
    def made() -> Planner:
        return planner(
            data={name: CHAIN[name].model_dump() for name in order},
            large=large,
            others={"mpnet-base": {"data": ["nq"]}},
            studies=[{"kinds": ["attn"], "penalty_attn": 0.2}] * studied,
        )

    at = dict.fromkeys(points, POINTS["squad2"])
    first, again = made(), made()
    first.plan()
    first.plan(dict(list(at.items())[:1]))
    runs = again.plan(at)
    check_order(runs)
    assert set(ids(first.plan(at))) == set(ids(runs)) == set(ids(again.plan(at)))


def test_a_run_that_was_recorded_under_another_name_keeps_it(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"single_kinds": [1], "scorers": []}
    plain = planner(tmp_path, **changes).plan(POINTS)
    for number, run in enumerate(plain):
        renamed = run.model_copy(update={"name": f"once/called-{number}"})
        path = write_record(tmp_path, record(renamed, {}))
        assert path == planner(tmp_path, **changes).record_file(renamed.id)
    later = planner(tmp_path, **changes).plan(POINTS)
    assert [run.name for run in later] == [f"once/called-{n}" for n in range(len(plain))]
    assert list(map(hash_of, ids(later))) == list(map(hash_of, ids(plain)))
    check_order(later)


def test_the_planned_name_is_preferred_and_a_foreign_one_ignored(tmp_path: Path) -> None:
    run = planner().plan()[0]
    folder = planner(tmp_path).folder
    folder.mkdir(parents=True)
    (folder / f"a name-{hash_of(run.id)}.json").touch()
    assert planner(tmp_path).plan()[0].id == run.id
    write_record(tmp_path, record(run.model_copy(update={"name": "another"}), {}))
    assert planner(tmp_path).plan()[0].name == "another"
    write_record(tmp_path, record(run, {}))
    assert planner(tmp_path).plan()[0].id == run.id


hostile = st.sampled_from(["../../x", "/etc/passwd", "a b", "$(touch x)", "`x`", "-rf", ".git"])


@given(
    model=hostile | st.text(min_size=1).filter(lambda text: text.strip() != ""),
    part=st.sampled_from(["base", "large", "others", "smaller"]),
)
def test_no_name_of_a_model_makes_a_strange_path(model: str, part: str) -> None:
    changes: dict[str, Any] = {
        "base": {"base": model},
        "large": {"large": model},
        "others": {"others": {model: {"data": ["squad2"]}}},
        "smaller": {"smaller": {model: {}}},
    }[part]
    made = planner(**changes)
    runs = made.plan(POINTS)
    check_order(runs)
    assert any(model in run.references() for run in runs)
    for run in runs:
        path = made.record_file(run.id)
        assert path.resolve().is_relative_to(made.folder.resolve())
        assert re.fullmatch(r"[A-Za-z0-9._/-]+", str(path))
        assert not any(name[0] in ".-" for name in path.parts)
