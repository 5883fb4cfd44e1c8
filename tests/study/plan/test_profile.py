from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.models import Encoder
from qaprune_lib.models.packaged import PACKAGED
from study.plan.bundle import _pinned
from study.plan.plan import Planner
from study.plan.profile import POSITIONS, Profile, read_profile
from tests.models.tiny import tiny_model
from tests.study.plan.made_records import PROFILE
from tests.study.records.test_record import NO_WORDS

NQ = {"task": "natural_questions", "after": "squad2", "source": "embedded"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Profile]:
    """Read the small profile, changed, from a file; or the text of one."""

    def of(content: Any, **options: Any) -> Profile:
        is_text = isinstance(content, str)
        path = tmp_path / "p.yml"
        path.write_text(content if is_text else json.dumps({**PROFILE, **content}))
        return read_profile(path, **options)

    return of


def with_nq(**changes: Any) -> dict[str, Any]:
    return {"data": {**PROFILE["data"], "nq": {**NQ, **changes}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not YAML"),
        ("name: a\nname: b", "not YAML: the key 'name' stands twice\n.*line 2"),
        ("[]", "the file: .*dictionary"),
        ("", "the file: .*dictionary"),
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"base": None}, "base: .*string"),
        ({"data": {}}, "data: .*at least 1"),
        ({"gate_seeds": [0.5]}, "gate_seeds.0: .*integer"),
        ({"penalties": {"heads": [1]}}, "penalties.heads"),
        ({"penalties": {"emb": [1]}}, "the file: .*of attn, of ff or"),
        ({"penalties": {"attn": []}}, "penalties.attn: .*at least 1"),
        ({"gates": {"scorer": "random"}}, "gates: scorer is no setting of L0"),
        ({"resources": {"finetun": {}}}, "the file: resources.finetun: the stages are finetune, s"),
        ({"random_choice": [2]}, r"the file: random_choice \(squad2\): each has to be one of mul"),
        ({"others": {"minilm": {"data": ["squad1"]}}}, "the file: others.minilm: 'squad1' is not"),
        ({"others": {"minilm": {"recipe": {"finetun": {}}}}}, "the file: a changed recipe: finet"),
        ({"others": {"minilm": {"by_data": {"squad2": {"windows": 3}}}}}, "the file: .*windows"),
        ({"smaller": {"tiny": {"by_data": {"squad1": {}}}}}, "the file: smaller.tiny: 'squad1' is"),
        ({"smaller": {"tiny": {"recipe": {"finetun": {}}}}}, "the file: a changed recipe: finetun"),
        (with_nq(after="squad1"), "the file: data.nq.after: 'squad1' is not in data"),
        (with_nq(after="nq"), "the file: data.nq.after: it comes after itself"),
        (with_nq(task="squad2"), "data.nq.task: .*'squad' or 'natural_questions'"),
        (with_nq(recipe={"multiples": [1], "random_choice": [3]}), r"the file: random_choice \(nq"),
        (with_nq(recipe={"carried": [3]}), r"the file: carried \(nq\): .*multiples of squad2"),
        (with_nq(recipe={"carried_models": [3]}), r"the file: carried \(nq\): .*multiples of squa"),
        (with_nq(recipe={"gate_seeds": []}), "the file: a changed recipe: gate_seeds: .*at least"),
        ({"scorers": [{"kinds": ["attn"]}]}, "scorers.0.scorer: Field required"),
        ({"scorers": [{"scorer": "gain", "kinds": [["ff"]]}]}, "scorers.0.kinds.0: .*'attn'"),
        ({"scorers": [{"scorer": "gain", "kinds": True}]}, "scorers.0.kinds: .*valid list"),
        ({"scorers": [{"scorer": "../x"}]}, "scorers.0.scorer: .*pattern"),
        (with_nq(recipe={"scorers": [7]}), "the file: a changed recipe: scorers.0: .*dictionary"),
        ({"carried": [1]}, r"the file: carried \(squad2\): it comes after no other data"),
        *(({"name": word}, "name: ") for word in NO_WORDS),
        *(({"data": {word: {"source": "embedded"}}}, "data.*pattern") for word in NO_WORDS),
        *((with_nq(after=word), "data.nq.after: ") for word in NO_WORDS),
        *((with_nq(folder=out), "data.nq.folder: .* leads out") for out in ("..", "a/../..", "/a")),
        ({"windows": {"max_length": 513}}, "the file: windows .squad2.: max_length=513, but emb"),
        (with_nq(recipe={"windows": {"max_length": 600}}), "the file: windows .nq.: max_length=6"),
        (
            {"smaller": {"minilm": {"recipe": {"windows": {"max_length": 520}}}}},
            r"the file: windows .squad2.: max_length=520, but minilm has positions for 512",
        ),
        ({"resources": {"time": {"mem_mb": 10**4000}}}, "resources.time.mem_mb: .*less than"),
        ({"max_loss": 10**4000}, "max_loss: .*valid number"),
        ({"penalties": {"attn": [float("inf")]}}, "not YAML|penalties"),
        ("a: " + "[" * 10**5, "not YAML"),
        ("a: " + "x" * 2**20, "no such profile .more than 131072 bytes"),
    ],
)
def test_bad_profiles_are_refused(read: Callable[..., Profile], content: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=rf"(?s)p\.yml: {message}"):
        read(content)


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_windows_fit_the_positions_of_a_model_in_a_folder(
    read: Callable[..., Profile], family: str, tmp_path: Path
) -> None:
    model = tiny_model(family, max_position_embeddings=100)
    model.save_pretrained(tmp_path / "model")
    longest = Encoder(model).longest_input()
    given = {"base": str(tmp_path / "model"), "penalties": {"attn": [0.1]}}
    assert read({**given, "windows": {"max_length": longest, "doc_stride": 9}})
    with pytest.raises(SettingsError, match=f"model has positions for {longest} tokens"):
        read({**given, "windows": {"max_length": longest + 1, "doc_stride": 9}})
    (tmp_path / "model" / "config.json").write_text("[")
    assert read(given)  # it is not what is read here


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_positions_of_packaged_models(name: str) -> None:
    try:
        folder = PACKAGED[name].locate(name)
    except ModelError:
        pytest.skip(f"the packages of {name} are not installed")
    config = json.loads((folder / "config.json").read_text())
    later = 2 * (config["model_type"] != "bert")
    assert POSITIONS[name] == config["max_position_embeddings"] - later


@pytest.mark.parametrize("name", ["none.yml", ".", "pipe", "x" * 5000])
def test_a_missing_profile_is_named(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SettingsError, match="no such profile"):
        read_profile(tmp_path / name)


def test_a_profile_adds_to_the_one_that_it_extends(
    read: Callable[..., Profile], tmp_path: Path
) -> None:
    read({"others": {"minilm": {"data": ["squad2"]}}})
    more = {"extends": "p", "others": {"mpnet-base": {}}, "max_loss": 3.0}
    (tmp_path / "more.yml").write_text(json.dumps(more))
    profile = read_profile(tmp_path / "more.yml")
    assert profile == read(
        {"others": {"minilm": {"data": ["squad2"]}, "mpnet-base": {}}, "max_loss": 3.0}
    )


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("../p", "'../p' is not the name of a profile"),
        (3, "3 is not the name"),
        ("again", "again extends another profile itself"),
        ("none", "no such profile"),
        ("further", "further extends another profile itself"),
    ],
)
def test_what_cannot_be_extended_is_named(
    read: Callable[..., Profile], named: Any, message: str, tmp_path: Path
) -> None:
    read({})
    (tmp_path / "further.yml").write_text("extends: p")
    (tmp_path / "again.yml").write_text(json.dumps({"extends": named}))
    with pytest.raises(SettingsError, match=message):
        read_profile(tmp_path / "again.yml")


@pytest.mark.parametrize("written", ["1.1", "'1.1'", '"1.1"'])
def test_a_version_may_be_written_as_a_number(read: Callable[..., Profile], written: str) -> None:
    data = f"{{squad2: {{source: embedded, version: {written}}}}}"
    profile = read(json.dumps({**PROFILE, "data": None}).replace('"data": null', f'"data": {data}'))
    assert profile.data["squad2"].version == "1.1"


def test_a_changed_recipe_adds_to_mappings_and_replaces_the_rest(
    read: Callable[..., Profile],
) -> None:
    other = {"data": ["nq"], "recipe": {"finetune": {"epochs": 5}}, "by_data": {"nq": {}}}
    profile = read(
        {
            **with_nq(recipe={"finetune": {"max_steps": 3}, "penalties": {}, "multiples": [7]}),
            "finetune": {"epochs": 2, "max_steps": 1},
            "others": {"minilm": other},
        }
    )
    assert profile.models_of("squad2") == ["embedded"]
    assert profile.models_of("nq") == ["embedded", "minilm"]
    first, after = (profile.recipe_of(data, "embedded") for data in ("squad2", "nq"))
    assert (first.finetune, first.multiples) == ({"epochs": 2, "max_steps": 1}, [1])
    assert (after.finetune, after.multiples) == ({"epochs": 2, "max_steps": 3}, [7])
    assert (first.penalties, after.penalties) == (PROFILE["penalties"], {})
    assert profile.recipe_of("nq", "minilm").finetune == {"epochs": 5, "max_steps": 3}


# where questions come from


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with `squad` and `nq` in it."""
    folder = tmp_path / "files"
    for name in ("squad/train-v2.0.json", "squad/dev-v2.0.json", "nq/train.jsonl", "nq/dev.jsonl"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


ON_FILES = {
    "provenance": "measured",
    "data": {"squad2": {"folder": "squad"}, "nq": {**NQ, "source": None, "folder": "nq"}},
}


def hashes(profile: Profile) -> list[str]:
    return [run.id for run in Planner(profile).plan({"squad2": {"attn": 0.1}})]


def test_all_sources_are_parts_of_one_folder(read: Callable[..., Profile], files: Path) -> None:
    runs = Planner(read(ON_FILES, source=str(files))).plan()
    assert {(run.data, run.source) for run in runs} == {
        ("squad2", f"{files}/squad"),
        ("nq", f"{files}/nq"),
    }


def test_a_moved_copy_has_the_same_runs_and_changed_files_have_others(
    read: Callable[..., Profile], files: Path, tmp_path: Path
) -> None:
    before = hashes(read(ON_FILES, source=str(files)))
    copy = shutil.copytree(files, tmp_path / "a copy; of 'it'")
    assert hashes(read(ON_FILES, source=str(copy))) == before
    (copy / "nq" / "dev.jsonl").write_text("other")
    after = hashes(read(ON_FILES, source=str(copy)))
    assert {run for run in before if "/squad2/" in run} == set(before) & set(after)
    assert len(after) == len(before)


def test_a_pinned_origin_names_runs_without_the_files_and_refuses_others(
    read: Callable[..., Profile], files: Path
) -> None:
    located = read(ON_FILES, source=str(files))
    pins = {name: data.origin for name, data in located.data.items()}
    pinned = {
        **ON_FILES,
        "data": {name: {**ON_FILES["data"][name], "origin": pins[name]} for name in pins},  # type: ignore[index]
    }
    assert hashes(read(pinned)) == hashes(located)
    assert read(pinned, source=str(files)) == located
    assert hashes(read(pinned, source=str(files / "nq"))) == hashes(located)
    (files / "squad" / "dev-v2.0.json").write_text("other")
    with pytest.raises(SettingsError, match=rf"squad: .*files:[0-9a-f]+\) .*{pins['squad2']}"):
        read(pinned, source=str(files))


def test_a_bundle_pins_all_origins(
    read: Callable[..., Profile], files: Path, tmp_path: Path
) -> None:
    located = read(ON_FILES, source=str(files))
    assert hashes(read(_pinned(Planner(located), tmp_path / "p.yml"))) == hashes(located)


@pytest.mark.parametrize("source", ["none", "files/nq"])
def test_a_folder_without_the_questions_is_named(
    read: Callable[..., Profile], files: Path, source: str
) -> None:
    place = files.parent / source
    with pytest.raises(SettingsError, match=f"{place}/squad: no such file or folder of questions"):
        read(ON_FILES, source=str(place))


def test_files_that_are_not_there_are_named(read: Callable[..., Profile], files: Path) -> None:
    first = {"source": f"{files}/squad"}
    named = {"source": f"{files}/nq", "train_files": ["train.jsonl"], "dev_files": ["x.jsonl"]}
    content = {"provenance": "measured", "data": {"squad2": first, "nq": {**NQ, **named}}}
    with pytest.raises(DataError, match=r"nq/x\.jsonl: cannot be read: No such file"):
        read(content)
    content["data"]["squad2"] = {"source": f"{files}/squat"}
    with pytest.raises(DataError, match="squat: no such file or folder of questions"):
        read(content)
    (files / "squad" / "dev-v2.0.json").rename(files / "squad" / "x.json")
    (files / "squad" / "train-v2.0.json").unlink()
    content["data"]["squad2"] = {"source": f"{files}/squad"}
    with pytest.raises(DataError, match=r"squad: it must hold train\*\.json"):
        read(content)


@pytest.mark.parametrize(
    ("has_gpu", "has_amx", "expected"),
    [(False, False, "float32"), (False, True, "bfloat16"), (True, False, "bfloat16")],
)
def test_the_fastest_precision_is_the_machines(
    has_gpu: bool,
    has_amx: bool,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: has_amx)
    path = tmp_path / "p.yml"
    path.write_text(json.dumps({**PROFILE, "compute_dtype": "fastest"}))
    assert {run.compute_dtype for run in Planner(read_profile(path)).plan()} == {expected}
