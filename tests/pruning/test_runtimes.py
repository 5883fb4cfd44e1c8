"""Exported files as models: their logits, scores and times, and what refuses them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, head_of, shape_of, weights_digest
from qaprune_lib.pruning import export_onnx, in_runtime
from qaprune_lib.pruning.export import INT8_FILE
from qaprune_lib.pruning.runtimes import RUNTIMES, Runtime
from tests.models.tiny import TINY, random_topology, tiny_batch, tiny_model
from tests.training.toy import toy_questions

WINDOWS = qp.Windows(40, 12)


def pruned(architecture: str = "bert", **settings: Any) -> QuestionAnsweringModel:
    model = tiny_model(architecture, trained=True, **settings)
    return qp.prune(model, random_topology(shape_of(model.config), seed=3, emb=False))


@pytest.fixture(scope="module")
def model() -> QuestionAnsweringModel:
    return pruned()


@pytest.fixture(scope="module")
def file(model: QuestionAnsweringModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("onnx") / "bert", int8=True)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "mpnet", "modernbert"])
def test_logits_are_those_of_the_model(architecture: str, tmp_path: Path) -> None:
    tiny = TINY[architecture]
    model = pruned(architecture, attention=tiny.attentions[-1], task=tiny.tasks[-1])
    file = export_onnx(model, tmp_path / "onnx")
    for runtime in RUNTIMES:
        check_logits(model, in_runtime(model, file, runtime))


def check_logits(model: QuestionAnsweringModel, served: QuestionAnsweringModel) -> None:
    earlier = None
    for padding in (0, 4):
        batch = tiny_batch(model, padding=padding)
        with torch.inference_mode():
            expected, found = model(**batch), served(**batch)
        real = batch["attention_mask"].bool()  # beside them it may say anything
        for name in head_of(model).logits:
            rows = real if name in head_of(model).positions else ...
            ours, theirs = (getattr(output, name)[rows].numpy() for output in (expected, found))
            assert np.abs(ours - theirs).max() <= 1e-4 * max(1, np.abs(ours).max())
        kept = found.start_logits.clone()
        if earlier is not None:  # no call writes into what another has given
            assert torch.equal(*earlier)
        earlier = (found.start_logits, kept)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_it_is_scored_asked_and_timed_as_the_model(
    model: QuestionAnsweringModel, file: Path, runtime: Runtime
) -> None:
    served, rows = in_runtime(model, file, runtime), toy_questions(12)
    assert (
        qp.evaluate(served, rows, windows=WINDOWS).f1
        == qp.evaluate(model, rows, windows=WINDOWS).f1
    )
    text = "Ann was born in Rome. Bob was born in Oslo."
    question = "Where was Bob born?"
    answers = [qp.ask(each, question, text, windows=WINDOWS).text for each in (model, served)]
    assert answers[0] == answers[1]
    _, timing = qp.time_decoding([model, served], rows, repeats=1, windows=WINDOWS)
    assert (timing.windows, timing.macs_ratio) == (12, 1)
    assert timing.speedup > 0


def test_eight_bits_are_those_of_the_file(model: QuestionAnsweringModel, file: Path) -> None:
    whole, eight = (in_runtime(model, path) for path in (file, file.with_name(INT8_FILE)))
    # three teachers, whose logits are kept by this
    assert len({weights_digest(each) for each in (model, whole, eight)}) == 3
    batch = tiny_batch(model)
    with torch.inference_mode():
        exact, coarse = (each(**batch).start_logits for each in (whole, eight))
    assert 0 < (exact - coarse).abs().max() < 0.5 * exact.abs().max()


def test_what_needs_gates_weights_or_gradients_refuses_it(
    model: QuestionAnsweringModel, file: Path, tmp_path: Path
) -> None:
    served, rows = in_runtime(model, file), toy_questions(8)
    kept = qp.Topology.of(model)
    uses: list[Any] = [
        lambda: qp.prune(served, kept),
        lambda: export_onnx(served, tmp_path / "again"),
        lambda: apply_masks(served, Masks.from_topology(kept, ("attn",))).__enter__(),
        lambda: qp.scorers.gain(served, rows, windows=WINDOWS),
        lambda: qp.scorers.leave_one_out(served, rows, windows=WINDOWS),
        lambda: qp.scorers.l0(served, rows, penalty={"attn": 0.1}, windows=WINDOWS),
        lambda: qp.scorers.random(served),
        lambda: qp.retrain(served, rows, max_steps=1, windows=WINDOWS),
        lambda: qp.compress(served, {"train": rows, "heldout": rows}, windows=WINDOWS),
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"model\.onnx"):
            use()


def test_what_cannot_run_is_refused(
    model: QuestionAnsweringModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="'tensorrt' is unknown; there are onnxruntime, open"):
        in_runtime(model, file, "tensorrt")  # type: ignore[arg-type]
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(file.read_bytes()[:1000])
    questions = tiny_model("bert", task="natural_questions")
    with pytest.raises(ModelError, match="from a model of other weights"):
        in_runtime(tiny_model("bert"), file)
    for runtime in RUNTIMES:
        with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
            in_runtime(model, tmp_path / "none.onnx", runtime)
        with pytest.raises(ModelError, match=rf"model\.onnx: {runtime} cannot run this file"):
            in_runtime(model, damaged, runtime)
        with pytest.raises(ModelError, match="it gives start_logits, end_logits, and the model"):
            in_runtime(questions, file, runtime)
    whole = tmp_path / "whole"
    shutil.copytree(file.parent, whole)
    for text in ("{", "[]", "{}"):
        (whole / "export.json").write_text(text)
        with pytest.raises(ModelError, match=r"export\.json: not a report of export_onnx"):
            in_runtime(model, whole / "model.onnx")
    (whole / "export.json").unlink()
    in_runtime(model, whole / "model.onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"onnxruntime is not installed .*qaprune\[onnx\]"):
        in_runtime(model, file)
    with pytest.raises(ModelError, match=r"openvino is not installed .*qaprune\[openvino\]"):
        in_runtime(model, file, "openvino")
