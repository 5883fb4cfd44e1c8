"""Ways to serve a pruned model on a CPU, each scored and timed beside the unpruned one in torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from pydantic import BaseModel, ConfigDict

from qaprune_lib.data.tasks import task_of
from qaprune_lib.data.windows import Windows
from qaprune_lib.device import has_bfloat16
from qaprune_lib.evaluation.predict import predict
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.evaluation.timing import time_decoding
from qaprune_lib.models.pruned import ComputeDtype, QuestionAnsweringModel
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.pruning.export import INT8_FILE, MODEL_FILE
from qaprune_lib.pruning.runtimes import in_runtime, is_installed


class Served(BaseModel):
    """One way to serve a model.

    Attributes:
        way: what runs it, and what it computes in.
        f1: on held-out questions, at the threshold that the model was given.
        milliseconds: a window, the median over the rounds.
        speedup: over the unpruned model in torch, float32: median over the rounds; speedup_low and
            speedup_high are the extremes.
        mib: of the weights, or of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: str
    f1: float
    milliseconds: float
    speedup: float
    speedup_low: float
    speedup_high: float
    mib: float


def ways_to_serve(
    model: QuestionAnsweringModel,
    small: QuestionAnsweringModel,
    folder: Path,
    heldout: Dataset,
    *,
    thresholds: tuple[float, float],
    timed: int,
    batch_size: int,
    windows: Windows | None,
) -> tuple[Served, ...]:
    """Score and time the unpruned model in torch, then the small one in each way that there is.

    Those are torch in float32 and, where the CPU has instructions for it, bfloat16; ONNX Runtime
    in float32 and 8 bits; OpenVINO, if it is installed, in float32: its kernels for 8 bits do not
    take what ONNX Runtime quantises as it runs.

    Args:
        model, small: unpruned and pruned, of SQuAD.
        folder: that `export_onnx` wrote, with 8 bits.
        heldout: questions to score, and to time some of.
        thresholds: of both models, for "no answer".
        timed: questions to time.
        batch_size, windows: as for `time_decoding`.
    """
    whole, eight = folder / MODEL_FILE, folder / INT8_FILE
    ways: dict[str, Any] = {
        "unpruned, torch float32": _in_torch(model, "float32"),
        "torch float32": _in_torch(small, "float32"),
    }
    if has_bfloat16(torch.device("cpu")):
        ways["torch bfloat16"] = _in_torch(small, "bfloat16")
    ways["ONNX Runtime float32"] = in_runtime(small, whole)
    ways["ONNX Runtime int8"] = in_runtime(small, eight)
    if is_installed("openvino"):
        ways["OpenVINO float32"] = in_runtime(small, whole, "openvino")
    rows = task_of(heldout).some(heldout, timed)
    times = time_decoding(list(ways.values()), rows, batch_size=batch_size, windows=windows)
    served: list[Served] = []
    for (way, each), time in zip(ways.items(), times, strict=True):
        found = predict(each, heldout, windows=windows)
        file = each.exported_file
        served.append(
            Served(
                way=way,
                f1=score_predictions(heldout, found, threshold=thresholds[len(served) > 0]).f1,
                milliseconds=1000 * time.seconds / time.windows,
                speedup=time.speedup,
                speedup_low=time.speedup_low,
                speedup_high=time.speedup_high,
                mib=time.size_mib if file is None else Path(file).stat().st_size / 2**20,
            )
        )
    return tuple(served)


def _in_torch(model: QuestionAnsweringModel, dtype: ComputeDtype) -> QuestionAnsweringModel:
    shown: Any = frozen_copy(model).to("cpu")  # type: ignore[arg-type]
    shown.compute_dtype = dtype
    return shown
