"""ONNX files: what they compute, what stands beside them, and that a wrong one never appears."""

from __future__ import annotations

import copy
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models.architecture import shape_of
from qaprune_lib.models.heads import Task, head_of
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning import export
from qaprune_lib.pruning.export import ExportReport, export_onnx
from qaprune_lib.pruning.slicing import prune
from tests.models.tiny import (
    PROJECTED,
    TESTED,
    TINY,
    random_topology,
    tiny_batch,
    tiny_model,
)

pytestmark = pytest.mark.slow


def pruned(architecture: str, attention: str, task: Task = "squad") -> QuestionAnsweringModel:
    """No head in layer 0, no activation in layer 1, odd counts, embedding dimensions removed."""
    model = tiny_model(architecture, attention=attention, task=task)
    small = prune(model, random_topology(shape_of(model.config), seed=3))
    counts = Topology.of(small)
    assert counts.counts("attn")[0] == 0 == counts.counts("ff")[1]
    assert counts.removed("emb") > 0
    return small


@pytest.fixture(scope="module")
def bert() -> QuestionAnsweringModel:
    return pruned("bert", "sdpa")


@pytest.fixture(scope="module")
def exported(bert: QuestionAnsweringModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    bert.train()
    bert.compute_dtype = "bfloat16"  # of the model here, not of the file
    path = export_onnx(bert, tmp_path_factory.mktemp("onnx") / "new" / "bert", int8=True)
    assert bert.training
    assert bert.compute_dtype == "bfloat16"
    bert.eval()
    bert.compute_dtype = "float32"
    return path


def onnx_logits(path: Path, batch: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: values.numpy() for name, values in batch.items()}
    return np.concatenate([logits.ravel() for logits in session.run(None, feeds)])


def assert_same_as_torch(path: Path, model: QuestionAnsweringModel) -> None:
    """Real text with padding, one row, one token more than nothing, and the longest that fits."""
    text = tiny_batch(model, padding=4)
    longest = model.config.max_position_embeddings - 2
    long_text = {name: values.repeat(2, longest)[:, :longest] for name, values in text.items()}
    batches = [text]
    for n_rows, length in ((1, longest), (2, 5), (1, 1), (6, longest)):
        batches.append({name: values[:n_rows, :length] for name, values in long_text.items()})
    for batch in batches:
        with torch.no_grad():
            output = model(**batch)
        expected = np.concatenate([output[name].numpy().ravel() for name in head_of(model).logits])
        found = onnx_logits(path, batch)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def test_bert_by_sdpa(exported: Path, bert: QuestionAnsweringModel) -> None:
    assert_same_as_torch(exported, bert)
    graph = onnx.load(exported).graph
    values = [*graph.input, *graph.output]
    names = ["input_ids", "attention_mask", "token_type_ids", "start_logits", "end_logits"]
    assert [value.name for value in values] == names
    for value in values:
        axes = [dimension.dim_param for dimension in value.type.tensor_type.shape.dim]
        assert axes == ["batch", "length"]


def test_an_older_operator_set(tmp_path: Path) -> None:
    model = pruned("roberta", "sdpa")
    path = export_onnx(model, tmp_path / "roberta", opset=18)
    assert_same_as_torch(path, model)
    used = {entry.version for entry in onnx.load(path).opset_import if entry.domain == ""}
    assert used == {18}


@pytest.mark.parametrize("architecture", [name for name in TESTED if "electra" not in name])
def test_every_architecture_with_all_its_outputs(architecture: str, tmp_path: Path) -> None:
    """With fewer heads than before in some layer, which MPNet's shared bias has to follow."""
    tiny = TINY[architecture]
    model = pruned(architecture, tiny.attentions[0], tiny.tasks[-1])
    assert any(0 < count < 4 for count in Topology.of(model).counts("attn"))
    path = export_onnx(model, tmp_path / "onnx", int8=architecture == "bert")
    assert_same_as_torch(path, model)
    graph = onnx.load(path).graph
    names = model.tokenizer.model_input_names
    assert sorted(value.name for value in graph.input) == sorted(names)
    assert tuple(value.name for value in graph.output) == head_of(model).logits
    axes = [
        [dimension.dim_param or dimension.dim_value for dimension in o.type.tensor_type.shape.dim]
        for o in graph.output
    ]
    assert axes == [["batch", "length"], ["batch", "length"], ["batch", 5]][: len(axes)]


def test_an_operator_set_out_of_reach_is_refused(
    bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fallback:
        """What torch gives when it cannot convert to the operator set that was asked for."""

        model = SimpleNamespace(opset_imports={"": 18})

        def save(self, *_: object, **__: object) -> None: ...

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Fallback())
    with pytest.raises(ModelError, match="opset=5"):
        export_onnx(bert, tmp_path / "old", opset=5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opset", [27, 99, 2**31 - 1])
def test_an_operator_set_that_the_runtime_refuses_is_said_before_exporting(
    opset: int, bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: pytest.fail("it was exported"))
    with pytest.raises(ModelError, match=f"opset={opset} is not one .* till opset"):
        export_onnx(bert, tmp_path / "new", opset=opset)
    for wrong in (0, -1, 18.5, "18", True):
        with pytest.raises(SettingsError, match="opset="):
            export_onnx(bert, tmp_path / "new", opset=wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_electra_with_weights_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for models of more than 2 GB; the folder can be moved."""
    monkeypatch.setattr(export, "LARGEST_FILE", 0)
    model = tiny_model(PROJECTED)
    path = export_onnx(model, tmp_path / "electra")
    moved = Path(shutil.move(path.parent, tmp_path / "moved"))
    assert (moved / "model.onnx.data").is_file()
    assert_same_as_torch(moved / path.name, model)


def test_what_stands_beside(exported: Path, bert: QuestionAnsweringModel) -> None:
    folder = exported.parent
    assert list(folder.parent.iterdir()) == [folder]
    assert not list(folder.glob("*.data"))
    config = AutoConfig.from_pretrained(folder)
    assert config.topology == bert.config.topology
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("Ann was born")["input_ids"] == bert.tokenizer("Ann was born")["input_ids"]
    report = ExportReport.model_validate_json((folder / "export.json").read_text())
    assert 0 <= report.deviation <= 1e-4 * max(1, report.largest_logit)
    assert report.onnxruntime == onnxruntime.__version__


def test_int8_is_smaller_and_its_loss_is_told(exported: Path, bert: QuestionAnsweringModel) -> None:
    folder = exported.parent
    types = {
        weights.data_type for weights in onnx.load(folder / "model.int8.onnx").graph.initializer
    }
    assert onnx.TensorProto.INT8 in types
    report = ExportReport.model_validate_json((folder / "export.json").read_text())
    assert report.int8_deviation is not None
    assert report.int8_same_argmax is not None
    assert report.deviation < report.int8_deviation < report.largest_logit
    batch = tiny_batch(bert)
    lossy = onnx_logits(folder / "model.int8.onnx", batch)
    exact = onnx_logits(exported, batch)
    assert np.abs(lossy - exact).max() <= 2 * report.int8_deviation
    assert 0 < report.int8_same_argmax <= 1


def use_exported(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """In place of torch's exporter, which takes long: it gives what it gave before."""

    def give(_: torch.nn.Module, __: object, path: Path, ___: int | None) -> int:
        shutil.copy(exported, path)
        return 20

    monkeypatch.setattr(export, "_export", give)


def changed(
    model: QuestionAnsweringModel, change: Callable[[torch.Tensor], object]
) -> QuestionAnsweringModel:
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other.get_parameter("qa_outputs.bias"))
    return other


def test_a_wrong_file_never_appears(
    exported: Path, bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_exported(monkeypatch, exported)
    for change in (lambda bias: bias.add_(0.01), lambda bias: bias.fill_(float("nan"))):
        with pytest.raises(ModelError, match="differs from torch"):
            export_onnx(changed(bert, change), tmp_path / "wrong")
        assert not list(tmp_path.iterdir())


def test_a_broken_int8_file_never_appears(
    exported: Path, bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_exported(monkeypatch, exported)
    run = export._run

    def broken(path: Path, *arguments: Any) -> list[list[np.ndarray]]:
        logits = run(path, *arguments)
        if "int8" in path.name:
            logits[1][0][0, 0] = np.nan
        return logits

    monkeypatch.setattr(export, "_run", broken)
    with pytest.raises(ModelError, match="not finite"):
        export_onnx(bert, tmp_path / "broken", int8=True)
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_is_replaced(
    exported: Path, bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_exported(monkeypatch, exported)
    folder = tmp_path / "again"
    folder.mkdir()
    export_onnx(bert, folder, int8=True)
    assert (folder / "model.int8.onnx").is_file()
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(ModelError):
        export_onnx(changed(bert, lambda bias: bias.add_(1)), folder)
    assert (folder / "model.int8.onnx").is_file()
    assert (folder / "model.onnx").read_bytes() == before
    export_onnx(bert, folder)
    assert not (folder / "model.int8.onnx").exists()
    assert list(tmp_path.iterdir()) == [folder]


def test_other_content_is_left_alone(bert: QuestionAnsweringModel, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    bert.save_pretrained(folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ModelError, match="holds something other than an export"):
        export_onnx(bert, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    with pytest.raises(ModelError, match="holds something other than an export"):
        export_onnx(bert, folder / "config.json")


def test_missing_packages_are_named(
    bert: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(ModelError, match=r"needs onnxscript, .*pip install 'qaprune\[onnx\]'"):
        export_onnx(bert, tmp_path / "new")


def test_a_model_without_tokenizer_is_refused(bert: QuestionAnsweringModel, tmp_path: Path) -> None:
    other = copy.deepcopy(bert)
    del other.tokenizer
    with pytest.raises(ModelError, match="carries no tokenizer"):
        export_onnx(other, tmp_path / "new")
