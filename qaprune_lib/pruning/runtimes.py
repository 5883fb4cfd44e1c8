"""Exported files in the runtimes that serve them: as functions, and as models to score and time."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models.adopt import check_own
from qaprune_lib.models.heads import head_of
from qaprune_lib.models.load import weights_digest
from qaprune_lib.models.saved import read_json
from qaprune_lib.models.sharing import frozen_copy

if TYPE_CHECKING:
    from qaprune_lib.models.pruned import QuestionAnsweringModel

Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
REPORT_FILE = "export.json"
EXTRAS = {"onnxruntime": "onnx"}
"""The extra of this package that installs a runtime, where that has another name."""

Run = Callable[[Mapping[str, Tensor]], list[np.ndarray]]


def in_runtime(
    model: QuestionAnsweringModel, file: str | os.PathLike[str], runtime: Runtime = "onnxruntime"
) -> QuestionAnsweringModel:
    """The model, but that its exported file computes the logits: to ask, score and time that.

    On the CPU, with as many threads as torch has. It takes what `ask`, `predict`, `evaluate` and
    `time_decoding` give; training, gates, pruning and exporting refuse it.

    Args:
        model: what was exported; it stays as it is.
        file: `model.onnx` or `model.int8.onnx` of `export_onnx`.
        runtime: "onnxruntime" or "openvino".

    Raises:
        ModelError: the runtime is not installed, no such file, one that the runtime cannot read,
            one with other logits than the model's, or one of other weights, by its `export.json`.
        SettingsError: an unknown runtime.

    >>> from qaprune_lib import ask, load_model
    >>> served = in_runtime(load_model("small"), "onnx/model.int8.onnx")  # doctest: +SKIP
    >>> ask(served, "Who wrote it?", "Ada wrote it in 1843.").text  # doctest: +SKIP
    'Ada'
    """
    check_own(model)
    names = head_of(model).logits
    run = open_file(file, names, runtime)
    served: Any = frozen_copy(model).to("cpu")  # type: ignore[arg-type]
    served.compute_dtype = "float32"
    if _exported_weights(Path(file)) not in (None, weights_digest(served)):
        raise ModelError(f"{file}: was exported from a model of other weights than this one")
    served.exported_file = os.fspath(file)

    def forward(**inputs: Tensor) -> SimpleNamespace:
        if torch.is_grad_enabled():
            raise ModelError(f"{file}: an exported file gives no gradients; train the model itself")
        return SimpleNamespace(**dict(zip(names, map(torch.from_numpy, run(inputs)), strict=True)))

    served.forward = forward
    return cast("QuestionAnsweringModel", served)


def _exported_weights(file: Path) -> str | None:
    """Digest of the weights that a file was exported from, if a report beside it says so."""
    report = file.with_name(REPORT_FILE)
    if not report.exists():
        return None
    try:
        return str(read_json(report)["weights"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{report}: not a report of export_onnx: {error}") from error


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def open_file(file: str | os.PathLike[str], names: tuple[str, ...], runtime: str) -> Run:
    """A function from a batch, of which it takes what the file does, to logits of these names.

    Raises:
        ModelError, SettingsError: as `in_runtime`.
    """
    path = Path(file)
    if runtime not in RUNTIMES:
        raise SettingsError(f"runtime={runtime!r} is unknown; there are {', '.join(RUNTIMES)}")
    if not is_installed(runtime):
        extra = EXTRAS.get(runtime, runtime)
        raise ModelError(f"{runtime} is not installed here: pip install 'qaprune[{extra}]'")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; export_onnx writes one")
    try:
        return (_in_onnxruntime if runtime == "onnxruntime" else _in_openvino)(path, names)
    except Exception as error:  # each runtime raises kinds of its own
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: {runtime} cannot run this file: {reason:.200}") from error


def _in_onnxruntime(path: Path, names: tuple[str, ...]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        os.fspath(path), options, providers=["CPUExecutionProvider"]
    )
    _check_outputs([value.name for value in session.get_outputs()], names)
    wanted = [value.name for value in session.get_inputs()]
    return lambda batch: session.run(
        list(names), {name: batch[name].cpu().numpy() for name in wanted}
    )


def _in_openvino(path: Path, names: tuple[str, ...]) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # as the file says; by itself it may choose bfloat16
    }
    compiled = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
    _check_outputs([value.get_any_name() for value in compiled.outputs], names)
    wanted = [value.get_any_name() for value in compiled.inputs]

    def run(batch: Mapping[str, Tensor]) -> list[np.ndarray]:
        found = compiled({name: batch[name].cpu().numpy() for name in wanted})
        # the next call overwrites what this one gave
        return [np.array(found[name]) for name in names]

    return run


def _check_outputs(found: list[str], names: tuple[str, ...]) -> None:
    if set(found) != set(names):
        raise ValueError(f"it gives {', '.join(found)}, and the model {', '.join(names)}")
