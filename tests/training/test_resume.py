"""A killed run continues where its newest whole checkpoint stands, bit for bit."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qaprune_lib.cache import remove, write_digests
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError
from qaprune_lib.scorers import GateScores
from qaprune_lib.training.checkpoints import forget_checkpoints, newest_intact_checkpoint
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.hostile import Explosive
from tests.training.killed import CHECKPOINT_STEPS, STEPS, start

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("fine-tune", "gates")
PER_STEP = 2  # micro-steps
STATE = "trainer_state.json"


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Any]:
    return {kind: start(kind, None) for kind in KINDS}


def assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, GateScores):
        for kind in expected.kinds():
            assert np.array_equal(found.get(kind), expected.get(kind))
        assert found.settings["report"]["open"] == expected.settings["report"]["open"]
        assert found.settings["report"]["steps"] == STEPS
        return
    weights = found.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in expected.state_dict().items())
    assert found.training_report.losses == expected.training_report.losses
    assert len(found.training_report.losses) == STEPS


@pytest.fixture
def micro_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one entry with every micro-step of this process."""
    calls: list[int] = []
    original = SpanTrainer.training_step

    def counting(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(SpanTrainer, "training_step", counting)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_runs_killed_at_a_random_step_end_as_if_nothing_had_been(
    how: str, uninterrupted: dict[str, Any], micro_steps: list[int], tmp_path: Path
) -> None:
    killed_in = {kind: random.SystemRandom().randint(CHECKPOINT_STEPS + 1, STEPS) for kind in KINDS}
    print("killed in step", killed_in)
    arguments = [x for k in KINDS for x in (k, str(tmp_path / k), str(killed_in[k]))]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "tests.training.killed", how, *arguments],
        cwd=REPOSITORY,
        env=environment,
        check=True,
    )
    for kind, step in killed_in.items():
        micro_steps.clear()
        found = start(kind, tmp_path / kind)
        kept = step if how == "SIGTERM" else (step - 1) // CHECKPOINT_STEPS * CHECKPOINT_STEPS
        assert len(micro_steps) == PER_STEP * (STEPS - kept)  # what had been kept did not run again
        assert_same(found, uninterrupted[kind])
        micro_steps.clear()
        assert_same(start(kind, tmp_path / kind), uninterrupted[kind])
        assert not micro_steps  # a finished run is only read


class Interrupted(Exception):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str, at: int) -> None:
    """Raise in the given call of a trainer's method."""
    calls: list[int] = []
    original = getattr(SpanTrainer, method)

    def failing(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise Interrupted
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(SpanTrainer, method, failing)


@pytest.mark.slow
def test_every_step_is_a_good_one_to_stop_at(uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    """One run of each kind that stops again and again, in first and second micro-steps."""
    for kind in KINDS:
        for at in (3, 1, 4, 2, 3):
            with pytest.MonkeyPatch.context() as patch:
                interrupt(patch, "training_step", PER_STEP * at - at % 2)
                with pytest.raises(Interrupted):
                    start(kind, tmp_path / kind, checkpoint_steps=1)
        expected, found = uninterrupted[kind], start(kind, tmp_path / kind, checkpoint_steps=1)
        if isinstance(expected, GateScores):
            assert np.array_equal(found.get("attn"), expected.get("attn"))  # type: ignore[union-attr]
        else:
            assert_same(found, expected)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {"flip": flip, "truncate": truncate, "empty": Path.write_text, "remove": Path.unlink}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended, with two checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    start("fine-tune", folder)
    return folder


def test_a_checkpoint_with_any_damage_is_passed_over_aloud(whole: Path, tmp_path: Path) -> None:
    files = [path.name for path in (whole / "checkpoint-12").iterdir()]
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= {*files}
    for name in files:
        for how, damage in DAMAGES.items():
            copy = shutil.copytree(whole, tmp_path / f"{how}-{name}")
            file = copy / "checkpoint-12" / name
            damage(file, "") if how == "empty" else damage(file)
            with pytest.warns(UserWarning, match="checkpoint-12: cut off or damaged"):
                assert newest_intact_checkpoint(copy) == copy / "checkpoint-9"
            assert not (copy / "checkpoint-12").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "digests.json"])
def test_it_goes_on_from_the_one_before(
    name: str, whole: Path, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    copy = shutil.copytree(whole, tmp_path / "copy")
    (copy / "checkpoint-12" / name).unlink()
    with pytest.warns(UserWarning, match="checkpoint-12"):
        assert_same(start("fine-tune", copy), uninterrupted["fine-tune"])
    for path in copy.glob("checkpoint-*/model.safetensors"):
        flip(path)
    with pytest.warns(UserWarning, match="checkpoint-9"):  # none is left: from the start
        assert_same(start("fine-tune", copy), uninterrupted["fine-tune"])


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors", STATE]
)
def test_other_things_with_right_digests_are_refused(
    name: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPLODED", str(tmp_path / "exploded"))
    copy = shutil.copytree(whole, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoint-12")
    (copy / "checkpoint-9" / name).write_bytes(pickle.dumps(Explosive()))
    write_digests(copy / "checkpoint-9")
    with pytest.raises(SettingsError, match="checkpoint-9: cannot be gone on from"):
        start("fine-tune", copy)
    assert not (tmp_path / "exploded").exists()


def test_other_folders_are_left_alone(whole: Path, tmp_path: Path) -> None:
    assert newest_intact_checkpoint(tmp_path) is None
    others = ["checkpoint-notes", "checkpoint-12-mine", "checkpoint-²", "checkpoint-013"]
    for name in others:
        (tmp_path / name).mkdir()
    shutil.copytree(whole / "checkpoint-9", tmp_path / "checkpoint-10")
    shutil.copytree(whole / "checkpoint-9", tmp_path / "checkpoint-9")
    assert newest_intact_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert len(list(tmp_path.iterdir())) == 2 + len(others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_run_is_refused(kind: str, tmp_path: Path) -> None:
    start(kind, tmp_path, max_steps=1)
    for changes in ({"max_steps": 2}, {"learning_rate": 2e-2}, {"windows": Windows(26, 10)}):
        with pytest.raises(SettingsError, match="another run"):
            start(kind, tmp_path, **{"max_steps": 1, **changes})
    for content in (b"{", b"\xff\xfe"):
        (tmp_path / "run.json").write_bytes(content)
        with pytest.raises(SettingsError, match="another run"):
            start(kind, tmp_path, max_steps=1)
    for path in (tmp_path / "run.json", tmp_path / "run.json" / "inside"):
        with pytest.raises(SettingsError, match=r"a file stands where a folder|Not a direct"):
            start(kind, path, max_steps=1)


@pytest.mark.parametrize("what", ["nothing", "folder", "pipe", "link"])
def test_checkpoints_of_another_program_are_left_alone(what: str, tmp_path: Path) -> None:
    """As those that the Trainer of transformers leaves in the folder of its output."""
    theirs = tmp_path / "checkpoint-500" / "model.safetensors"
    theirs.parent.mkdir()
    theirs.write_text("theirs")
    ways: dict[str, Callable[[Path], object]] = {
        "nothing": lambda _: None,
        "folder": Path.mkdir,
        "pipe": os.mkfifo,
        "link": lambda path: path.symlink_to("nowhere"),
    }
    ways[what](tmp_path / "run.json")
    with pytest.raises(SettingsError, match=r"holds checkpoints, but no run\.json"):
        start("fine-tune", tmp_path, max_steps=1)
    assert theirs.read_text() == "theirs"


def test_a_kill_while_checkpoints_are_forgotten_leaves_whose_they_are(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [whole]
    while left[-1].exists():
        folder = Path(shutil.copytree(whole, tmp_path / str(len(left))))
        calls = iter(range(len(left) - 1))

        def dying(path: Path, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            remove(path)

        monkeypatch.setattr("qaprune_lib.training.checkpoints.remove", dying)
        with contextlib.suppress(KeyboardInterrupt):
            forget_checkpoints(folder)
        left.append(folder)
    assert [(path / "run.json").exists() for path in left] == [True] * 4 + [False]


def test_checkpoints_of_gates_hold_only_the_gates(tmp_path: Path) -> None:
    start("gates", tmp_path)
    folders = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert folders == ["checkpoint-12", "checkpoint-9"]  # the two newest
    weights = load_file(tmp_path / "checkpoint-12" / "model.safetensors")
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        "gates.attn.log_alpha": (2, 4),
        "gates.ff.log_alpha": (2, 16),
    }
    state = torch.load(tmp_path / "checkpoint-12" / "optimizer.pt", weights_only=True)
    assert len(state["state"]) == 2
