"""A killed run continues where its newest whole checkpoint stands, bit for bit."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError
from qaprune_lib.scorers import GateScores
from qaprune_lib.training.checkpoints import newest_complete_checkpoint
from qaprune_lib.training.trainer import SpanTrainer
from tests.training.killed import CHECKPOINT_STEPS, STEPS, start

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = ("fine-tune", "gates")
PER_STEP = 2  # micro-steps


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


def test_runs_killed_at_a_random_step_end_as_if_nothing_had_been(
    uninterrupted: dict[str, Any], micro_steps: list[int], tmp_path: Path
) -> None:
    killed_in = {kind: random.SystemRandom().randint(CHECKPOINT_STEPS + 1, STEPS) for kind in KINDS}
    print("killed in step", killed_in)
    arguments = [x for k in KINDS for x in (k, str(tmp_path / k), str(killed_in[k]))]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "tests.training.killed", *arguments],
        cwd=REPOSITORY,
        env=environment,
        check=True,
    )
    for kind, step in killed_in.items():
        micro_steps.clear()
        found = start(kind, tmp_path / kind)
        left = STEPS - (step - 1) // CHECKPOINT_STEPS * CHECKPOINT_STEPS
        assert len(micro_steps) == PER_STEP * left  # only what had not been kept ran again
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


def truncate_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [truncate_all, lambda folder: None])
def test_a_torn_checkpoint_is_deleted_and_the_one_before_it_used(
    damage: Any, uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:  # stop before the marker of the second checkpoint
        original, calls = SpanTrainer._save_rng_state, []

        def failing(self: Any, folder: str) -> None:
            original(self, folder)
            calls.append(1)
            if len(calls) == 2:
                raise Interrupted

        patch.setattr(SpanTrainer, "_save_rng_state", failing)
        with pytest.raises(Interrupted):
            start("fine-tune", tmp_path)
    torn, whole = (tmp_path / f"checkpoint-{2 * CHECKPOINT_STEPS}", tmp_path / "checkpoint-3")
    assert torn.is_dir()
    damage(torn)
    copied = tmp_path / "copy"
    shutil.copytree(tmp_path, copied, ignore=lambda *_: ["copy"])
    assert newest_complete_checkpoint(copied) == copied / whole.name
    assert not (copied / torn.name).exists()
    assert_same(start("fine-tune", tmp_path), uninterrupted["fine-tune"])


def test_only_torn_checkpoints_means_from_the_start(tmp_path: Path) -> None:
    for number in (3, 12):
        (tmp_path / f"checkpoint-{number}").mkdir()
    (tmp_path / "checkpoint-notes").mkdir()
    assert newest_complete_checkpoint(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-notes"]
    for number in (9, 10):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "complete").touch()
    assert newest_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_of_another_run_is_refused(kind: str, tmp_path: Path) -> None:
    start(kind, tmp_path, max_steps=1)
    for changes in ({"max_steps": 2}, {"learning_rate": 2e-2}, {"windows": Windows(26, 10)}):
        with pytest.raises(SettingsError, match="another run"):
            start(kind, tmp_path, **{"max_steps": 1, **changes})
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(SettingsError, match="another run"):
        start(kind, tmp_path, max_steps=1)


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
    assert (tmp_path / "checkpoint-12" / "complete").is_file()
