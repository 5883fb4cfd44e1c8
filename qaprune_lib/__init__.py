"""Structured pruning of transformers for question answering.

The public names load on first use, so that `import qaprune_lib` is quick and the report part works
without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qaprune_lib import scorers
    from qaprune_lib.data.natural_questions.stream import load_natural_questions
    from qaprune_lib.data.squad.questions import load_squad
    from qaprune_lib.data.windows import Windows
    from qaprune_lib.evaluation.predict import (
        ask,
        evaluate,
        evaluate_natural_questions,
        predict,
        predict_natural_questions,
    )
    from qaprune_lib.evaluation.timing import time_decoding
    from qaprune_lib.gates.masks import Masks, apply_masks
    from qaprune_lib.models.adopt import adopt
    from qaprune_lib.models.load import load_model
    from qaprune_lib.models.topology import Topology
    from qaprune_lib.pruning.budget import MACs, Parameters, Speedup
    from qaprune_lib.pruning.compress import compress
    from qaprune_lib.pruning.export import export_onnx
    from qaprune_lib.pruning.runtimes import in_runtime
    from qaprune_lib.pruning.slicing import prune
    from qaprune_lib.scorers.scores import GateScores
    from qaprune_lib.training.objectives import Distillation
    from qaprune_lib.training.train import finetune, retrain

__version__ = "0.1.0"

_HOME = {
    "Distillation": "training.objectives",
    "GateScores": "scorers.scores",
    "MACs": "pruning.budget",
    "Masks": "gates.masks",
    "Parameters": "pruning.budget",
    "Speedup": "pruning.budget",
    "Topology": "models.topology",
    "Windows": "data.windows",
    "adopt": "models.adopt",
    "apply_masks": "gates.masks",
    "ask": "evaluation.predict",
    "compress": "pruning.compress",
    "evaluate": "evaluation.predict",
    "evaluate_natural_questions": "evaluation.predict",
    "export_onnx": "pruning.export",
    "finetune": "training.train",
    "in_runtime": "pruning.runtimes",
    "load_model": "models.load",
    "load_natural_questions": "data.natural_questions.stream",
    "load_squad": "data.squad.questions",
    "predict": "evaluation.predict",
    "predict_natural_questions": "evaluation.predict",
    "prune": "pruning.slicing",
    "retrain": "training.train",
    "time_decoding": "evaluation.timing",
}

__all__ = [
    "Distillation",
    "GateScores",
    "MACs",
    "Masks",
    "Parameters",
    "Speedup",
    "Topology",
    "Windows",
    "adopt",
    "apply_masks",
    "ask",
    "compress",
    "evaluate",
    "evaluate_natural_questions",
    "export_onnx",
    "finetune",
    "in_runtime",
    "load_model",
    "load_natural_questions",
    "load_squad",
    "predict",
    "predict_natural_questions",
    "prune",
    "retrain",
    "scorers",
    "time_decoding",
]


def __getattr__(name: str) -> Any:
    if name == "scorers":
        return importlib.import_module("qaprune_lib.scorers")
    if name in _HOME:
        return getattr(importlib.import_module(f"qaprune_lib.{_HOME[name]}"), name)
    raise AttributeError(f"module 'qaprune_lib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
