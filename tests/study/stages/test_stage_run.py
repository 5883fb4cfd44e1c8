"""A run's beginning, which refuses what cannot become a record, and its end, which is whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.cache import remove
from qaprune_lib.errors import RecordError, SettingsError
from study.plan.parameters import Finetune, Prune, Retrain
from study.records.record import FINISHED, read_record, read_records
from study.stages import stage_run
from study.stages.questions import Questions
from study.stages.stage_run import StageRun, artifacts

COMMIT = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    made_at(COMMIT, monkeypatch)


def made_at(commit: str, monkeypatch: pytest.MonkeyPatch, *, dirty: bool = False) -> None:
    """As if the tree were that of a commit, or differed from it."""
    environment = {"device": "none", "packages": {}, "commit": commit, "dirty": dirty}
    monkeypatch.setattr(stage_run, "environment", lambda: environment)


def small(folder: Path, **values: Any) -> Finetune:
    """A fine-tuning run on a few questions, of the corpus unless another source is given."""
    few = {"train_questions": 6, "heldout_questions": 3, "dev_questions": 3}
    places = {"results": f"{folder}/results", "runs": f"{folder}/runs", "name": "finetuned/few"}
    return Finetune.checked({**few, **places, **values})


def write_squad(folder: Path, word: str = "Rome") -> Path:
    """Official files of a train and a dev set, of ten and two articles."""
    folder.mkdir()
    for split, count in (("train", 10), ("dev", 2)):
        articles = [
            {
                "title": f"{split} {n}",
                "paragraphs": [
                    {
                        "context": f"Ann {n} lives in {word}.",
                        "qas": [
                            {
                                "id": f"{split}{n}",
                                "question": f"Where does Ann {n} live?",
                                "is_impossible": False,
                                "answers": [
                                    {"text": word, "answer_start": len(f"Ann {n} lives in ")}
                                ],
                            }
                        ],
                    }
                ],
            }
            for n in range(count)
        ]
        content = {"version": "v2.0", "data": articles}
        (folder / f"{split}-v2.0.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading questions is too late for what is refused."""

    def load(parameters: Any) -> None:
        raise AssertionError("questions were read")

    monkeypatch.setattr(Questions, "load", load)


def test_a_run_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_at(COMMIT, monkeypatch, dirty=True)  # it measures nothing
    run = StageRun.begin(small(tmp_path))
    assert run.parameters.origin == run.source == "embedded"
    assert run.folder == tmp_path / "runs" / "embedded" / "smoke" / run.parameters.id
    path = run.finish({"f1": 1.0})
    record = read_record(path)
    assert path == tmp_path / "results" / "embedded" / "smoke" / f"{record.id}.json"
    assert (record.id, record.name) == (run.parameters.id, "finetuned/few")
    assert (record.source, record.commit, record.dirty) == ("embedded", COMMIT, True)
    assert (run.folder / FINISHED).read_text() == f"{record.id}\n"


def test_a_measured_run(tmp_path: Path) -> None:
    folder = write_squad(tmp_path / "files")
    values = {"source": str(folder), "provenance": "measured"}
    run = StageRun.begin(small(tmp_path, **values))
    record = read_record(run.finish({}))
    assert record.source == "dev-v2.0.json, train-v2.0.json"
    assert record.parameters["origin"] == run.parameters.origin
    assert (record.provenance, record.data_digest) == ("measured", run.questions.digest)
    # moved, it is the same run; changed, another
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    again = StageRun.begin(small(tmp_path, **{**values, "source": str(moved)}))
    assert again.parameters.id == record.id
    other = write_squad(tmp_path / "other", "Oslo")
    assert StageRun.begin(small(tmp_path, **{**values, "source": str(other)})).parameters.id != (
        record.id
    )
    assert len(read_records(tmp_path / "results")) == 1


@pytest.mark.usefixtures("unread")
def test_other_questions_than_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    folder = write_squad(tmp_path / "files")
    values = {"source": str(folder), "provenance": "measured", "origin": "files:0011"}
    with pytest.raises(SettingsError, match=r"files: .*origin files:[0-9a-f]{16}\).*files:0011"):
        StageRun.begin(small(tmp_path, **values))


@pytest.mark.usefixtures("unread")
def test_a_measured_run_of_a_changed_tree_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_at(COMMIT, monkeypatch, dirty=True)
    folder = write_squad(tmp_path / "files")
    with pytest.raises(RecordError, match="commit them first"):
        StageRun.begin(small(tmp_path, source=str(folder), provenance="measured"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("unread")
def test_what_it_builds_on_must_be_there_and_finished(tmp_path: Path) -> None:
    first = small(tmp_path)
    values = {**first.place(), "origin": "embedded"}
    run = Prune.checked({**values, "model": first.reference})
    folder = artifacts(run) / first.id
    message = f"{folder}: .*stage prune builds on is not there"
    with pytest.raises(RecordError, match=message):
        StageRun.begin(run)
    (folder / "model").mkdir(parents=True)
    with pytest.raises(RecordError, match=message):
        StageRun.begin(run)
    (folder / FINISHED).touch()
    with pytest.raises(AssertionError, match="questions were read"):
        StageRun.begin(run)
    lesson = {"objective": "distillation", "teacher": "run:x-0123456789"}
    teacher = Retrain.checked({**values, **lesson})
    with pytest.raises(RecordError, match=r"x-0123456789: .*stage retrain builds on"):
        StageRun.begin(teacher)


def test_the_record_is_written_last_and_checkpoints_go_only_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StageRun.begin(small(tmp_path))
    assert run.checkpoints is not None
    run.checkpoints.mkdir()
    with pytest.raises(RecordError, match="f1 is nan"):  # after hours, perhaps: it can resume
        run.finish({"f1": float("nan")})
    assert run.checkpoints.is_dir()
    assert not (run.folder / FINISHED).exists()

    def full(*_: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr(stage_run, "write_record", full)
    with pytest.raises(OSError, match="no space"):
        run.finish({})
    assert (run.folder / FINISHED).exists()
    assert not run.checkpoints.exists()
    # with another model it is not finished any more
    again: Any = StageRun.begin(small(tmp_path))
    assert (run.folder / FINISHED).exists()
    again.save_model(Model("new"))
    assert not (run.folder / FINISHED).exists()


@pytest.mark.parametrize("damage", ["flip", "remove", "other"])
def test_a_damaged_model_is_refused_and_counts_as_unfinished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    first: Any = StageRun.begin(small(tmp_path))
    first.save_model(Model("weights"))
    first.finish({})
    prune = Prune.checked(
        {**first.parameters.place(), "origin": "embedded", "model": first.parameters.reference}
    )
    with monkeypatch.context() as patch:
        patch.setattr(Questions, "load", lambda parameters: None)
        StageRun.begin(prune)
        file = first.folder / "model" / "a"
        if damage == "remove":
            shutil.rmtree(file.parent)
        else:
            file.write_text("weightt" if damage == "flip" else "")
        with pytest.raises(RecordError, match=f"{first.folder}: .* damaged or gone.* makes it aga"):
            StageRun.begin(prune)
        assert not (first.folder / FINISHED).exists()
        with pytest.raises(RecordError, match="is not there, or has not come to its end"):
            StageRun.begin(prune)
    first.save_model(Model("weights"))
    first.finish({})
    monkeypatch.setattr(Questions, "load", lambda parameters: None)
    StageRun.begin(prune)


@pytest.mark.parametrize("wrong", ["../../x", "a/../b", "/etc", "$(x)", ""])
def test_a_run_is_never_looked_for_elsewhere(tmp_path: Path, wrong: str) -> None:
    values = {**small(tmp_path).place(), "model": f"run:{wrong}"}
    with pytest.raises(SettingsError, match="no run has such a name"):
        Prune.checked(values)
    with pytest.raises(SettingsError, match="no run has such a name"):
        Prune.checked({**values, "model": "embedded", "attn": f"run:{wrong}"})


class Model:
    """Writes two files, as a model would."""

    def __init__(self, content: str) -> None:
        self.content = content

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir()
        for name in ("a", "b"):
            (folder / name).write_text(self.content)


def content(folder: Path) -> str:
    [found] = {(folder / name).read_text() for name in ("a", "b")}
    return found


@pytest.mark.parametrize("kill", range(6))
def test_a_model_is_saved_whole_and_never_less_is_left_than_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: int
) -> None:
    run: Any = StageRun.begin(small(tmp_path))
    run.save_model(Model("old"))

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            if next(calls) == kill:
                raise KeyboardInterrupt
            return step(*arguments, **options)

        return one

    calls = iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr("study.stages.stage_run.remove", dying(remove))
        patch.setattr(Model, "save_pretrained", dying(Model.save_pretrained))
        with pytest.raises(KeyboardInterrupt):
            run.save_model(Model("new"))
    folders = [run.folder / name for name in ("model", ".old-model")]
    wholes = [content(folder) for folder in folders if folder.is_dir()]
    assert {"old", "new"} & set(wholes)
    # it dies again before anything new is whole
    calls = iter([kill])
    with monkeypatch.context() as patch:
        patch.setattr(Model, "save_pretrained", dying(Model.save_pretrained))
        with pytest.raises(KeyboardInterrupt):
            run.save_model(Model("newer"))
    assert content(run.folder / "model") in {"old", "new"}
    run.save_model(Model("newest"))
    assert content(run.folder / "model") == "newest"
    assert not list(run.folder.glob(".*"))
