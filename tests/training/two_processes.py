"""What each process of a distributed run does; the first one writes what came out.

python -m torch.distributed.run --standalone --nproc_per_node 2 -m tests.training.two_processes OUT
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from qaprune_lib.scorers import l0
from qaprune_lib.training import finetune
from qaprune_lib.training.trainer import SpanTrainer
from tests.training.toy import WINDOWS, small_bert, toy_questions


def losses() -> dict[str, Any]:
    """Losses and final gates of runs at one global batch, by name."""
    model, questions = small_bert(), toy_questions(26)
    settings: dict[str, Any] = {
        "batch_size": 8,
        "epochs": 9,
        "max_steps": 8,
        "learning_rate": 3e-3,
        "dropout": False,
        **WINDOWS,
    }
    result: dict[str, Any] = {}
    for accumulation in (1, 2):
        trained = finetune(model, questions, accumulation=accumulation, **settings)
        result[f"fine-tune {accumulation}"] = trained.training_report.losses
    for optimizer in ("adam", "bert_adam"):
        penalty = {"attn": 0.02, "ff": 0.01}
        gates = {**settings, "learning_rate": 0.1, "optimizer": optimizer}
        scores = l0(model, questions, penalty=penalty, teacher=small_bert(seed=1), **gates)
        result[f"gates {optimizer}"] = scores.settings["report"]["losses"]
        result[f"log alpha {optimizer}"] = scores.get("ff").ravel().tolist()
    return result


def main(out: Path) -> None:
    torch.set_num_threads(1)
    original, sizes = SpanTrainer.training_step, set()

    def checked(self: Any, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        assert torch.distributed.get_world_size() == 2, "one process is no test"
        assert torch.distributed.get_backend() == "gloo"
        sizes.add(len(inputs["input_ids"]))
        return original(self, model, inputs, *rest)

    SpanTrainer.training_step = checked  # type: ignore[method-assign]
    result = losses()
    rank = int(os.environ["RANK"])
    out.with_suffix(f".{rank}").write_text(json.dumps({"sizes": sorted(sizes), **result}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
