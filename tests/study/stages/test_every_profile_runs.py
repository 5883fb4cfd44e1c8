"""The paper's profile, executed on tiny stand-ins for its models and its questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from study.plan.parameters import STAGES, ScoreGates, StageParameters
from study.plan.plan import Planner
from study.plan.profile import Profile, profile_content
from study.records.record import read_record
from study.stages.side_by_side import execute
from tests.models.tiny import tiny_model

ROOT = Path(__file__).parents[3]
WINDOWS = {"max_length": 480, "doc_stride": 360}  # of letters
TRAINING = {"epochs": 1, "max_steps": 1, "batch_size": 4}
OTHERS = sorted({path.stem for path in (ROOT / "profiles").glob("*.yml")} - {"paper"})
POINT = {"attn": 0.02, "ff": 4e-4}


def small(content: dict[str, Any], models: Mapping[str, str]) -> dict[str, Any]:
    """A profile with other models, the embedded questions, few of them, and few steps."""
    few = {"source": "embedded", "train_questions": 10, "heldout_questions": 3, "dev_questions": 6}
    data = {
        name: {**settings, **few, "recipe": shrunk(settings.get("recipe", {}))}
        for name, settings in content["data"].items()
    }
    made = {**shrunk(content), "data": data, "provenance": "embedded", "gate_seeds": [0]}
    return dict(named(made, models))


def shrunk(recipe: dict[str, Any]) -> dict[str, Any]:
    """The same parts, but small: one multiple, few questions and steps."""
    less: dict[str, Any] = {
        "windows": WINDOWS,
        "finetune": TRAINING,
        "retrain": {**TRAINING, "questions": 4},
        "gates": {**TRAINING, "questions": 4, "curve_questions": 2},
        "curves": {"fractions": [0.5], "curve_questions": 2},
        "timing": {"repeats": 1, "max_questions": 4},
    }
    smaller = {name: {**recipe[name], **part} for name, part in less.items() if name in recipe}
    for name in ("multiples", "single_kinds", "carried", "carried_models", "random_choice"):
        if recipe.get(name):
            smaller[name] = [1]
    if "scorers" in recipe:
        few = {"questions": 2, "curve_questions": 2}
        smaller["scorers"] = [{**settings, **few} for settings in recipe["scorers"]]
    return {**recipe, **smaller}


def named(content: Any, models: Mapping[str, str]) -> Any:
    """With other models in place of those, wherever they are named."""
    match content:
        case dict():
            return {models.get(k, k): named(value, models) for k, value in content.items()}
        case list():
            return [named(value, models) for value in content]
        case str():
            return models.get(content, content)
    return content


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    """The paper's profile on tiny models, in a folder with a cache of its own."""
    folder = tmp_path_factory.mktemp("paper")
    models = {}
    for name in ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large"):
        sizes = {"max_position_embeddings": 520, "num_hidden_layers": 2 + ("large" in name)}
        tiny_model(name.partition("-")[0], **sizes).save_pretrained(folder / name)
        models[name] = str(folder / name)
    content = small(profile_content(ROOT / "profiles" / "paper.yml"), models)
    content["data"]["squad2"]["recipe"]["compress"] = [{"macs": 0.7}]  # as other profiles have
    content["compute_dtype"] = "float32"  # bfloat16 is slow without its instructions
    profile = Profile.model_validate(content).located(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QAPRUNE_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        yield Planner(profile)


def kind_of(run: StageParameters) -> tuple[Any, ...]:
    """What tells the code that a run takes from that of others."""
    kind: list[Any] = [run.name.split("/")[0], run.stage, run.task]
    kind += [getattr(run, "objective", None), getattr(run, "choice", None)]
    if run.name.startswith("finetuned/"):
        kind.append(run.name.split("/")[2])
    if isinstance(run, ScoreGates):
        kind += [run.scorer, *run.options, run.penalty_on, run.optimizer, "emb" in run.kinds]
    return tuple(kind)


def one_of_each(plan: Planner) -> list[StageParameters]:
    """A run of each kind, with those that it builds on, upstream first."""
    runs = plan.plan(dict.fromkeys(plan.selections(), POINT))
    first = {kind_of(run): run.id for run in reversed(runs)}
    wanted = set(first.values())
    for run in reversed(runs):
        wanted |= set(run.upstream()) if run.id in wanted else set()
    return [run for run in runs if run.id in wanted]


@pytest.mark.parametrize("name", OTHERS)
def test_the_papers_profile_has_all_kinds_of_runs(plan: Planner, name: str) -> None:
    """So what is executed below covers the other profiles too."""
    content = profile_content(ROOT / "profiles" / f"{name}.yml")
    for data in content["data"].values():
        for of_files in ("origin", "folder", "version", "train_files", "dev_files"):
            data.pop(of_files, None)
    other = Planner(Profile.model_validate(small(content, {"mpnet-base": "minilm"})).located(None))
    kinds, found = (
        {
            (*kind_of(run)[1:5], getattr(run, "scorer", None))
            for run in profile.plan(dict.fromkeys(profile.selections(), POINT))
        }
        for profile in (plan, other)
    )
    assert found <= kinds


@pytest.mark.slow
def test_every_kind_of_run_of_the_papers_profile(plan: Planner) -> None:
    runs = one_of_each(plan)
    assert {run.stage for run in runs} == set(STAGES)
    scorers = {run.scorer for run in runs if isinstance(run, ScoreGates)}
    assert scorers == {"random", "gain", "fisher", "leave_one_out", "l0"}
    failed = {}
    for run in runs:
        notebook = ROOT / "notebooks" / f"{run.notebook}.ipynb"
        try:
            execute(notebook, {**run.identity(), **run.place()})
        except Exception as error:
            failed[run.id] = f"{type(error).__name__}: {error}"
    assert failed == {}
    for run in runs:
        assert read_record(plan.record_file(run.id)).parameters == run.identity()
