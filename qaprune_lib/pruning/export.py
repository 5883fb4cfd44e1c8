"""ONNX files of pruned and unpruned models, checked against torch before they get their name."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from qaprune_lib.cache import output_path
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.evaluation.logits import tokenizer_of
from qaprune_lib.models.adopt import check_own
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.folder import replace_folder
from qaprune_lib.models.heads import Head, head_of
from qaprune_lib.models.load import weights_digest
from qaprune_lib.pruning.runtimes import REPORT_FILE, is_installed, open_file

if TYPE_CHECKING:
    from qaprune_lib.models.pruned import QuestionAnsweringModel

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
TOLERANCE = 1e-4
LARGEST_FILE = 2**31 - 2**26  # bytes of weights; one protobuf message holds less than 2 GiB
CHECKED = ((1, 384), (1, 3), (2, 17), (5, 33))  # batch sizes and lengths, these as far as they fit

Batch = dict[str, torch.Tensor]


class ExportReport(BaseModel):
    """What was measured on exporting; `export.json` holds it. Inputs were random tokens.

    Attributes:
        deviation: largest difference of a logit from torch's.
        largest_logit: largest absolute logit.
        int8_deviation: the same of the int8 file, which is lossy; None without one.
        int8_same_argmax: share of sequences and of their logits (start, end, answer type) whose
            largest is at the same token or class in int8.
        weights: digest of the model's, by `weights_digest`.
        opset: ONNX operator set.
        torch, onnxruntime: versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    deviation: float
    largest_logit: float
    int8_deviation: float | None = None
    int8_same_argmax: float | None = None
    weights: str
    opset: int
    torch: str
    onnxruntime: str


def export_onnx(
    model: QuestionAnsweringModel,
    folder: str | os.PathLike[str],
    *,
    int8: bool = False,
    opset: int | None = None,
) -> Path:
    """Write `model.onnx` in float32, with the tokenizer, `config.json` and `export.json` beside it.

    Inputs are input_ids, attention_mask and, if the model takes them, token_type_ids: int64
    [batch, length], both axes free. Outputs are start_logits and end_logits, float32
    [batch, length], and answer_type_logits [batch, 5] of a model for Natural Questions. The file
    is run by ONNX Runtime at several batch sizes and lengths, with padding, before the folder
    appears; if it differs from torch by more than 1e-4·max(1, max|logit|), there is no folder.

    Args:
        model: pruned or not; it stays as it is.
        folder: a new or an empty folder, or an earlier export, which is replaced.
        int8: write `model.int8.onnx` too, weights in 8 bits, activations quantised as it runs.
            It is lossy: `export.json` says how much.
        opset: ONNX operator set; by default what torch recommends.

    Returns:
        The path of `model.onnx`.

    Raises:
        ModelError: a missing package, a folder with other content, an operator set that ONNX
            Runtime refuses, a model that cannot be exported, or an exported file that differs
            from torch.

    >>> from qaprune_lib import load_model
    >>> export_onnx(load_model("embedded"), "onnx")  # doctest: +SKIP
    PosixPath('onnx/model.onnx')
    """
    require_onnx()
    tokenizer_of(model)
    check_own(model)
    _check_opset(opset)
    target = output_path(folder)
    if target.exists() and not _replaceable(target):
        raise ModelError(
            f"{target}: holds something other than an export; choose a new or an empty folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        _write(model, new, int8=int8, opset=opset)
        replace_folder(new, target, ("*.onnx", "*.onnx.data", "export.json"))
    return target / MODEL_FILE


def _write(model: QuestionAnsweringModel, folder: Path, *, int8: bool, opset: int | None) -> None:
    whole = copy.deepcopy(model)
    whole.compute_dtype = "float32"
    # sdpa leaves out masks that the traced inputs do not need, as ModernBERT's of short windows
    whole.config._attn_implementation = "eager"
    reference = _Logits(whole).to(device="cpu", dtype=torch.float32).eval()
    batches = _batches(model)
    path = folder / MODEL_FILE
    used_opset = _export(reference, batches[-1], path, opset)
    with torch.inference_mode():
        expected = [[x.numpy() for x in reference(*batch.values())] for batch in batches]
    largest = max(float(np.abs(logits).max()) for row in expected for logits in row)
    outputs = reference.outputs
    found = _run(path, batches, outputs)
    deviation = _deviation(found, expected)
    if not deviation <= TOLERANCE * max(1.0, largest):  # NaN fails too
        raise ModelError(
            f"the exported model differs from torch by {deviation:.2g}, at logits of up to "
            f"{largest:.2g}; nothing was written"
        )
    int8_deviation = int8_same_argmax = None
    if int8:
        found = _run(_quantize(path), batches, outputs)
        int8_deviation = _deviation(found, expected)
        if not np.isfinite(int8_deviation):
            raise ModelError("the int8 model gives logits that are not finite; nothing was written")
        int8_same_argmax = _same_argmax(found, expected, batches, head_of(model))
    import onnxruntime

    report = ExportReport(
        deviation=deviation,
        largest_logit=largest,
        int8_deviation=int8_deviation,
        int8_same_argmax=int8_same_argmax,
        weights=weights_digest(whole),
        opset=used_opset,
        torch=torch.__version__,
        onnxruntime=onnxruntime.__version__,
    )
    (folder / REPORT_FILE).write_text(report.model_dump_json(indent=1) + "\n")
    model.config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


class _Logits(nn.Module):
    """A model with plain inputs and outputs, as ONNX has them."""

    def __init__(self, model: QuestionAnsweringModel) -> None:
        super().__init__()
        self.model = model
        self.outputs = head_of(model).logits

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(output[name] for name in self.outputs)


def _export(model: _Logits, example: Batch, path: Path, opset: int | None) -> int:
    """Write the file; returns its operator set."""
    axes = {0: "batch", 1: "length"}
    size = sum(weights.numel() * weights.element_size() for weights in model.parameters())
    try:
        with _quiet():
            program = torch.onnx.export(
                model,
                tuple(example.values()),
                input_names=list(example),
                output_names=list(model.outputs),
                dynamic_shapes=(axes,) * len(example),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(path, external_data=size > LARGEST_FILE)
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"torch cannot export this model: {reason}") from error
    used = int(program.model.opset_imports[""])
    if opset not in (None, used):  # torch only logs that it fell back to another one
        raise ModelError(f"torch cannot export to opset={opset}, only to {used} for instance")
    return used


def _quantize(path: Path) -> Path:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = path.with_name(INT8_FILE)
    with _quiet():
        quantize_dynamic(path, target, per_channel=True, weight_type=QuantType.QInt8)
    return target


def _batches(model: QuestionAnsweringModel) -> list[Batch]:
    """Random tokens at the sizes that are checked, each but the first row padded."""
    config, tokenizer = model.config, model.tokenizer
    longest = Encoder(model).longest_input()
    generator = torch.Generator().manual_seed(0)
    batches = []
    for n_rows, length in CHECKED:
        length = min(length, longest)
        ids = torch.randint(0, config.vocab_size, (n_rows, length), generator=generator)
        ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
        real = (length - torch.arange(n_rows) * 5).clamp(min=1)
        mask = (torch.arange(length) < real[:, None]).long()
        batch = {
            "input_ids": ids.where(mask == 1, config.pad_token_id),
            "attention_mask": mask,
        }
        if "token_type_ids" in tokenizer.model_input_names:
            second = torch.arange(length) >= length // 2
            batch["token_type_ids"] = mask * second * (config.type_vocab_size > 1)
        batches.append(batch)
    return batches


Outputs = list[list[np.ndarray]]  # of each batch, in the order of the model's logits


def _run(path: Path, batches: list[Batch], names: tuple[str, ...]) -> Outputs:
    run = open_file(path, names, "onnxruntime")
    return [run(batch) for batch in batches]


def _deviation(found: Outputs, expected: Outputs) -> float:
    pairs = [
        (a, b) for rows in zip(found, expected, strict=True) for a, b in zip(*rows, strict=True)
    ]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    # np.max, unlike Python's, hands a NaN on
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def _same_argmax(found: Outputs, expected: Outputs, batches: list[Batch], head: Head) -> float:
    same = []
    for rows, batch in zip(zip(found, expected, strict=True), batches, strict=True):
        padding = np.where(batch["attention_mask"].numpy() == 1, 0, -np.inf)
        for name, a, b in zip(head.logits, *rows, strict=True):
            extra = padding if name in head.positions else 0
            same.append((a + extra).argmax(-1) == (b + extra).argmax(-1))
    return float(np.concatenate(same).mean())


def _check_opset(opset: int | None) -> None:
    """Let the runtime read a file of one node, before minutes go into one that it refuses."""
    import onnx
    import onnxruntime
    from onnx import helper as make

    if opset is None:
        return
    if type(opset) is not int or opset < 1:
        raise SettingsError(f"opset={opset!r} must be an integer of at least 1")
    ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = make.make_graph([make.make_node("Identity", ["x"], ["y"])], "probe", ends[:1], ends[1:])
    probe = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=8)
    try:
        onnxruntime.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises kinds of its own
        reason = str(error).strip().rpartition(". ")[2]
        raise ModelError(
            f"opset={opset} is not one that onnxruntime {onnxruntime.__version__} runs: {reason}"
        ) from error


def require_onnx() -> None:
    """Refuse to go on without the packages that exporting takes.

    Raises:
        ModelError: their names.
    """
    packages = ("onnx", "onnxscript", "onnxruntime")
    missing = [name for name in packages if not is_installed(name)]
    if missing:
        raise ModelError(
            f"exporting needs {' and '.join(missing)}, not installed here: "
            "pip install 'qaprune[onnx]'"
        )


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / REPORT_FILE).is_file() or not any(folder.iterdir()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on optional packages and on their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
