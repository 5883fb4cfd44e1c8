from __future__ import annotations

import math
from typing import Any

import pytest

from qaprune_lib.errors import SettingsError
from study.plan.parameters import DecodeTime, Finetune, Retrain, ScoreGates, StageParameters

NO_WORDS = ("", "..", "../x", "/x", ".a", "-a", "a b", "$(touch x)", "a;b", "a\n", "é")


def test_a_place_is_no_part_of_the_identity() -> None:
    values = {"name": "x/y", "source": "/a", "results": "/b", "runs": "/c", "profile": "d"}
    here = Finetune.checked({**values, "provenance": "measured"})
    assert here.identity() == Finetune().identity()
    assert {*here.identity(), *here.place()} == {*Finetune().identity(), *values, "provenance"}
    assert here.place() == {**values, "provenance": "measured"}


def test_the_name_stands_before_the_hash_of_all_that_tells_a_run_from_others() -> None:
    first = Finetune()
    assert first.id.startswith("smoke-")
    assert first.reference == f"run:{first.id}"
    renamed = Finetune(name="another/name")
    assert renamed.id == first.id.replace("smoke", "another/name")
    others = [
        Finetune(seed=1),
        Finetune(data="squad1"),
        Finetune(origin="files:1"),
        Finetune(origin="files:2"),
        Finetune(compute_dtype="bfloat16"),
        Finetune(version="1.1"),
        Finetune(task="natural_questions"),
        Retrain(),
        ScoreGates(),
        ScoreGates(scorer="gain"),
        ScoreGates(scorer="gain", options={"at": 0}),
    ]
    assert len({run.id for run in (first, *others)}) == 1 + len(others)


def test_what_does_not_apply_is_left_out() -> None:
    assert "compute_dtype" not in Finetune().identity()
    assert "null_rate" not in Finetune().identity()
    assert "null_rate" in Finetune(task="natural_questions").identity()
    gain = ScoreGates(scorer="gain").identity()
    assert gain == ScoreGates(scorer="gain", penalty_attn=3.0, random_seeds=9).identity()
    assert {"penalty_attn", "learning_rate", "random_seeds", "options"}.isdisjoint(gain)
    assert ScoreGates(scorer="random", random_seeds=9).identity()["random_seeds"] == 9


@pytest.mark.parametrize(
    ("stage", "values", "message"),
    [
        (Finetune, {"compute_dtype": "float16"}, "compute_dtype: .*'float32' or 'bfloat16'"),
        (Finetune, {"learning_rate": "0.1"}, "learning_rate: .*valid number.*'0.1'"),
        (Finetune, {"learning_rate": math.nan}, "learning_rate: .*finite number"),
        (Finetune, {"seed": True}, "seed: .*valid integer"),
        (Finetune, {"epochs": 0}, "epochs: .*greater than 0"),
        (Finetune, {"epochs": 1.5}, "epochs: .*valid integer"),
        (Finetune, {"max_step": 3}, "no parameter 'max_step'; did you mean 'max_steps'"),
        (Finetune, {"xyz": 3}, "no parameter 'xyz'; it takes .*learning_rate"),
        (Finetune, {"version": 1.0}, "version: .*'1.1' or '2.0'"),
        (Finetune, {"provenance": "measured"}, "generated corpus are embedded, those of files"),
        (Finetune, {"source": "/data"}, "generated corpus are embedded, those of files"),
        (Finetune, {"null_rate": 0.1}, "for Natural Questions alone"),
        (ScoreGates, {"penalty_attn": math.nan}, "penalty_attn: .*finite number"),
        (ScoreGates, {"penalty_attn": -1.0}, "penalty_attn: .*greater than or equal to 0"),
        (ScoreGates, {"kinds": ["heads"]}, "kinds.0: .*'attn', 'ff' or 'emb'.*'heads'"),
        (ScoreGates, {"kinds": ["ff"]}, "kinds are ff, penalties are given for attn"),
        (ScoreGates, {"kinds": []}, "kinds is empty"),
        (ScoreGates, {"options": {"at": 0}}, "options: L0 has a parameter for each"),
        (
            Finetune,
            {"task": "natural_questions", "train_files": ["t"], "dev_files": ["a", "b/dev.jsonl"]},
            "two dev sets would be called 'dev'",
        ),
        (Retrain, {"objective": "distillation"}, "distillation needs a teacher"),
        (Retrain, {"teacher": "embedded"}, "cross-entropy takes none"),
        *((Finetune, {"name": f"figure1/{word}"}, "name: ") for word in NO_WORDS),
        *((Finetune, {"profile": word}, "profile: ") for word in NO_WORDS),
        *((Finetune, {"data": word}, "data: ") for word in NO_WORDS),
        *((ScoreGates, {"scorer": word}, "scorer: ") for word in NO_WORDS),
    ],
)
def test_bad_values_are_named(
    stage: type[StageParameters], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        stage.checked(values)


@pytest.mark.parametrize(("given", "version"), [(1.1, "1.1"), (2.0, "2.0"), ("2.0", "2.0")])
def test_a_version_may_be_a_number(given: Any, version: str) -> None:
    assert Finetune.checked({"version": given}).version == version


def test_read_picks_its_own_names_and_checks_them() -> None:
    assert Finetune.read({"seed": 3, "np": object()}).seed == 3
    with pytest.raises(SettingsError, match="seed"):
        Finetune.read({"seed": "3"})


def test_dev_sets_are_named_by_their_files() -> None:
    files = ["dev.jsonl.gz", "dev/nq-dev-00.jsonl.gz", "v1.0-a.jsonl", "v1.0-b.jsonl.gz"]
    values = {"task": "natural_questions", "train_files": ["t.jsonl"], "dev_files": files}
    assert Finetune.checked(values).other_dev_sets == ["nq-dev-00", "v1.0-a", "v1.0-b"]
    assert Finetune.checked({}).other_dev_sets == []


def test_upstream_runs_are_told_from_models() -> None:
    run = Finetune(name="finetuned/squad2/minilm/seed0")
    models = ["minilm", "org/model", "/tmp/run/x", run.reference]
    assert DecodeTime(models=models).upstream() == [run.id]
