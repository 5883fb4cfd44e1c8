"""Starts a run, sends it a signal within a given step, and says so.

python -m tests.training.killed SIGNAL KIND FOLDER STEP [KIND FOLDER STEP …]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.scorers import GateScores, l0
from qaprune_lib.training import finetune
from qaprune_lib.training.trainer import SpanTrainer
from tests.training.toy import DROPOUT, WINDOWS, small_bert, toy_questions

STEPS, CHECKPOINT_STEPS = 12, 3


def start(
    kind: str, folder: Path | None, *, device: str = "cpu", **changes: Any
) -> QuestionAnsweringModel | GateScores:
    """One run of 12 optimizer steps of 2 micro-steps, with dropout, a checkpoint every 3."""
    model, questions = small_bert(**DROPOUT).to(device), toy_questions(14)
    settings: dict[str, Any] = {
        "batch_size": 4,
        "accumulation": 2,
        "epochs": 9,
        "max_steps": STEPS,
        "checkpoint_steps": CHECKPOINT_STEPS,
        "dropout": True,
        "learning_rate": 1e-2,
        **WINDOWS,
        **changes,
    }
    if kind == "fine-tune":
        return finetune(model, questions, folder=folder, **settings)
    return l0(model, questions, penalty={"attn": 0.02, "ff": 0.01}, folder=folder, **settings)


def kill_within(step: int, how: signal.Signals) -> None:
    """From now on, get a signal in the second micro-step of a step."""
    original, calls = SpanTrainer.training_step, []

    def dying(self: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = original(self, *arguments, **keywords)
        calls.append(1)
        if len(calls) == 2 * step:
            os.kill(os.getpid(), how)
        return loss

    SpanTrainer.training_step = dying  # type: ignore[method-assign]


def main() -> None:
    torch.set_num_threads(1)
    how = signal.Signals[sys.argv[1]]
    for kind, folder, step in zip(sys.argv[2::3], sys.argv[3::3], sys.argv[4::3], strict=True):
        child = os.fork()
        if child == 0:
            kill_within(int(step), how)
            start(kind, Path(folder))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{kind} was not killed: status {status}"
        assert os.WTERMSIG(status) == how


if __name__ == "__main__":
    main()
