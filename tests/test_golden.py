"""Numbers of a tiny chain, compared with committed ones, so that a change of results is seen.

`python tests/test_golden.py` writes what the code gives now; a change of `golden.json` in a commit
wants a word on why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.scorers import SCORERS

GOLDEN = Path(__file__).with_name("golden.json")
WINDOWS = qp.Windows(max_length=128, doc_stride=64)
TRAINING: dict[str, Any] = {"batch_size": 8, "learning_rate": 1e-3, "dropout": False}


def chain() -> dict[str, Any]:
    """Fine-tune, every scorer, prune, reconstruct, retrain, evaluate: on the generated corpus."""
    torch.set_num_threads(1)
    squad = qp.load_squad("embedded")
    few, held = squad["train"].select(range(96)), squad["heldout"].select(range(24))
    fresh = qp.load_model("embedded-small", layers=2, device="cpu")
    tuned = qp.finetune(fresh, few, max_steps=12, windows=WINDOWS, **TRAINING)
    found: dict[str, Any] = {"finetune": [*tuned.training_report.losses], "tuned": f1(tuned, held)}
    scores = {}
    for name, scorer in SCORERS.items():
        settings: dict[str, Any] = {} if scorer.questions is None else {"windows": WINDOWS}
        questions = [] if scorer.questions is None else [held]
        if name == "l0":
            settings |= {"penalty": {"attn": 0.2, "ff": 2e-3}, "max_steps": 4, "batch_size": 4}
            settings |= {"learning_rate": 1.0}
        scores[name] = scorer.function(tuned, *questions, **settings)
        found[name] = {
            kind: [float(v) for v in np.percentile(scores[name].get(kind), [0, 25, 50, 75, 100])]
            for kind in scores[name].kinds()
        }
    kept = qp.Topology.from_scores(scores["fisher"], fraction=0.5)
    small = qp.prune(tuned, kept)
    found["pruned"] = {"kept": [kept.counts("attn"), kept.counts("ff")], **f1(small, held)}
    for teacher in (None, tuned):
        again = qp.retrain(small, few, teacher=teacher, max_steps=4, windows=WINDOWS, **TRAINING)
        name = "distil" if teacher else "retrain"
        found[name] = {"losses": [*again.training_report.losses], **f1(again, held)}
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def f1(model: Any, questions: Any) -> dict[str, float]:
    """F1 at threshold 0, and the mean score of the best spans."""
    predictions = qp.predict(model, questions, windows=WINDOWS, progress=False)
    f1 = qp.evaluate(model, questions, windows=WINDOWS).f1
    return {"f1": f1, "score": sum(p.score for p in predictions) / len(predictions)}


def close(found: Any, golden: Any, where: str = "") -> None:
    """Numbers agree to 1e-3 of their size: processors round otherwise, changes of code do more.

    F1 may move by one of the 24 questions, whose answer rounding decides.
    """
    if isinstance(golden, dict):
        assert list(found) == list(golden), where
        for name in golden:
            close(found[name], golden[name], f"{where}.{name}")
    elif isinstance(golden, list):
        assert len(found) == len(golden), where
        for index, value in enumerate(golden):
            close(found[index], value, f"{where}[{index}]")
    else:
        of_f1 = "f1" in where or "leave_one_out" in where
        assert found == pytest.approx(golden, rel=1e-3, abs=4.2 if of_f1 else 1e-4), where


def test_numbers_are_those_of_the_last_commit() -> None:
    close(chain(), json.loads(GOLDEN.read_text()))


def test_a_small_change_is_seen() -> None:
    golden = json.loads(GOLDEN.read_text())
    changed = json.loads(GOLDEN.read_text())
    changed["finetune"][-1] *= 1.01
    with pytest.raises(AssertionError, match="finetune"):
        close(changed, golden)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(chain(), indent=1) + "\n")
