"""`load_model` on all its sources, and on folders damaged in every way we could think of."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
)
from transformers.utils import logging

from qaprune_lib.errors import ModelError, QapruneWarning
from qaprune_lib.models import (
    PACKAGED,
    ModelShape,
    QuestionAnsweringModel,
    Task,
    Topology,
    load_model,
    parameter_count,
    shape_of,
    weights_digest,
)
from qaprune_lib.models.packaged import PackagedModel
from qaprune_lib.pruning import prune
from tests.models.hostile import (
    HARMLESS,
    PRUNED,
    STOCK,
    Explosive,
    Mutation,
    edit_config,
    edit_weights,
)
from tests.models.tiny import (
    assert_agree,
    logits,
    random_topology,
    tiny_batch,
    tiny_model,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A stock folder and a pruned folder, both intact."""
    folder = tmp_path_factory.mktemp("models")
    model = tiny_model("bert")
    model.save_pretrained(folder / "stock")
    prune(model, random_topology(shape_of(model.config), 0)).save_pretrained(folder / "pruned")
    return {name: folder / name for name in ("stock", "pruned")}


def load(source: str | Path, **settings: Any) -> QuestionAnsweringModel:
    return load_model(source, device="cpu", **settings)


# --- packaged weights


@pytest.fixture(scope="module")
def packaged() -> Path:
    return PACKAGED["minilm"].locate("minilm")


@pytest.mark.parametrize(("name", "layers"), [("embedded", 4), ("embedded-small", 3)])
def test_embedded_models_are_the_first_layers_of_minilm(
    name: str, layers: int, packaged: Path
) -> None:
    model = load(name)
    assert shape_of(model.config) == ModelShape(
        n_layers=layers, n_heads=12, head_size=32, d_intermediate=1536, d_embedding=384
    )
    assert not model.training
    plain = BertModel.from_pretrained(
        packaged, num_hidden_layers=layers, add_pooling_layer=False
    ).eval()
    batch = tiny_batch(model)
    with torch.no_grad():
        expected = plain(**batch).last_hidden_state
        assert torch.equal(model.base_model(**batch).last_hidden_state, expected)
        output = model(**batch)
        expected = model.get_submodule("qa_outputs")(expected)
    assert_agree(torch.stack([output.start_logits, output.end_logits], -1), expected)
    assert parameter_count(model) == sum(weights.numel() for weights in plain.parameters()) + 2 * (
        384 + 1
    )


def test_chosen_layers_equal_a_plain_model_made_of_them(packaged: Path) -> None:
    model = load("minilm", layers=[0, 2, 4])
    weights = load_file(packaged / "model.safetensors")
    config = BertConfig.from_pretrained(packaged, num_hidden_layers=3)
    plain = BertModel(config, add_pooling_layer=False).eval()
    renamed = {name: tensor for name, tensor in weights.items() if "position_ids" not in name}
    renamed = {name: w for name, w in renamed.items() if name.startswith("embeddings.")}
    for position, index in enumerate((0, 2, 4)):
        prefix = f"encoder.layer.{index}."
        for name, tensor in weights.items():
            if name.startswith(prefix):
                renamed[f"encoder.layer.{position}.{name.removeprefix(prefix)}"] = tensor
    plain.load_state_dict(renamed)
    batch = tiny_batch(model)
    with torch.no_grad():
        found = model.base_model(**batch).last_hidden_state
        assert torch.equal(found, plain(**batch).last_hidden_state)
    assert model.config.num_hidden_layers == 3


def test_a_model_cut_to_some_layers_is_saved_as_such(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = load(folders["stock"], layers=[2, 0])
    model.save_pretrained(tmp_path)
    batch = tiny_batch(model)
    plain = BertForQuestionAnswering.from_pretrained(tmp_path).eval()
    assert plain.config.num_hidden_layers == 2
    assert torch.equal(logits(plain, batch), logits(model, batch))
    assert torch.equal(logits(load(tmp_path), batch), logits(model, batch))


@pytest.mark.parametrize(
    "layers", [0, 4, [0, 3], [], [1, 1], [-1], 10**9, range(10**9), "2", ["0"], [None], 1.5, True]
)
def test_layers_that_do_not_fit_are_refused(layers: Any, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="does not fit a model of 3 layers"):
        load(folders["stock"], layers=layers)


def test_layers_of_a_pruned_model_are_not_chosen_again(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="unpruned model only"):
        load(folders["pruned"], layers=2)


def test_packaged_weights_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    known = PACKAGED["minilm"]
    assert isinstance(known, PackagedModel)
    absent = PackagedModel("no_such_package", known.folder, known.sha256)
    altered = PackagedModel(known.package, known.folder, "0" * 64)
    monkeypatch.setattr("qaprune_lib.models.load.PACKAGED", {"absent": absent, "altered": altered})
    with pytest.raises(ModelError, match=r"not installed.*--no-deps no-such-package"):
        load("absent")
    with pytest.raises(ModelError, match=r"sha256 is 53aa.*, expected 0000.*reinstall"):
        load("altered")


# --- the head of a bare encoder


@pytest.fixture(scope="module")
def bare(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as pretraining leaves it: with a pooler and a language-model head."""
    folder = tmp_path_factory.mktemp("bare")
    torch.manual_seed(0)
    BertForPreTraining(BertConfig.from_pretrained(folders["stock"])).save_pretrained(folder)
    tiny_model("bert").tokenizer.save_pretrained(folder)
    return folder


def test_the_new_head_is_seeded(bare: Path) -> None:
    state = torch.get_rng_state()
    digests = [weights_digest(load(bare, head_seed=seed)) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), state)
    heads = [load(bare, head_seed=seed).get_parameter("qa_outputs.weight") for seed in (0, 1)]
    for head in heads:
        assert 0.005 < head.std().item() < 0.05


@pytest.mark.parametrize("n_labels", [1, 3, 9])
def test_a_classifier_gives_its_encoder_and_says_so(n_labels: int, tmp_path: Path) -> None:
    config = BertConfig.from_dict({**tiny_model("bert").config.to_dict(), "num_labels": n_labels})
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tiny_model("bert").tokenizer.save_pretrained(tmp_path)
    said = (
        r"2 weights of the head are new, .*\(qa_outputs.bias, .*; 4 weights were left out .*pooler"
    )
    with pytest.warns(QapruneWarning, match=said):
        model = load(tmp_path)
    assert logits(model, tiny_batch(model)).isfinite().all()
    assert model.get_parameter("qa_outputs.bias").shape == (2,)


@pytest.mark.parametrize("task", ["squad", "natural_questions"])
def test_a_head_of_another_name_is_said(
    task: Task, folders: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(folders["stock"], tmp_path, dirs_exist_ok=True)

    def rename(weights: dict[str, torch.Tensor]) -> None:
        for name in ("weight", "bias"):
            weights[f"qa_head.{name}"] = weights.pop(f"qa_outputs.{name}")

    edit_weights(rename)(tmp_path)
    edit_config(architectures=["BertForSpans"])(tmp_path)
    with pytest.warns(QapruneWarning, match=r"left out \(qa_head.bias, qa_head.weight\)"):
        load(tmp_path, task=task)


def test_a_new_layer_for_another_task_is_said(folders: dict[str, Path]) -> None:
    with pytest.warns(QapruneWarning, match=r"2 weights of the head are new.*answer_type_outputs"):
        load(folders["stock"], task="natural_questions")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(folders["stock"])  # nothing is new
        load("embedded-small")  # an encoder by name


def test_a_gpu_s_random_state_is_left_alone(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the random state of a GPU was set")

    for name in ("manual_seed", "manual_seed_all"):
        monkeypatch.setattr(torch.cuda, name, fail)
    load(bare)
    load(bare, task="natural_questions")


def test_a_head_that_is_there_is_not_seeded(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        digests = {weights_digest(load(folder, head_seed=seed)) for seed in (0, 1)}
        assert len(digests) == 1
    assert weights_digest(load(folders["stock"])) == weights_digest(tiny_model("bert"))


def test_an_encoder_with_more_layers_than_its_configuration_says_is_refused(
    bare: Path, tmp_path: Path
) -> None:
    shutil.copytree(bare, tmp_path, dirs_exist_ok=True)
    edit_config(num_hidden_layers=2)(tmp_path)
    with pytest.raises(ModelError, match=r"unexpected weights, the first bert.encoder.layer.2"):
        load(tmp_path)


# --- where a model is loaded to, and how quietly


def test_attention_and_type(folders: dict[str, Path], tmp_path: Path) -> None:
    for attention in ("eager", "sdpa"):
        model = load(folders["pruned"], attn_implementation=attention)
        assert model.config._attn_implementation == attention
    model.bfloat16()
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert {weights.dtype for weights in again.parameters()} == {torch.float32}
    assert len(weights_digest(model)) == 64


def test_token_types_are_not_given_to_a_model_without_them(tmp_path: Path) -> None:
    """MPNet would take and ignore them; a tokenizer of no class of its own makes them."""
    model = tiny_model("mpnet")
    model.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    types = ["input_ids", "token_type_ids", "attention_mask"]
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": types}
    file.write_text(json.dumps(settings))
    found = load(tmp_path)
    assert found.tokenizer.model_input_names == ["input_ids", "attention_mask"]
    assert set(found.tokenizer("Ann?", "Rome.")) == {"input_ids", "attention_mask"}
    assert torch.equal(logits(found, tiny_batch(model)), logits(model, tiny_batch(model)))
    with pytest.raises(ModelError, match="scaled_dot_product_attention"):
        load(tmp_path, attn_implementation="sdpa")


def test_loading_is_quiet_and_leaves_logging_alone(
    bare: Path, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    logging.set_verbosity_warning()
    verbosity = logging.get_verbosity()
    logging.enable_progress_bar()
    load(bare)
    with pytest.raises(ModelError):
        load(folders["stock"], attn_implementation="none")
    assert logging.get_verbosity() == verbosity
    assert logging.is_progress_bar_enabled()
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_digest_and_count_notice_every_weight() -> None:
    model = tiny_model("bert")
    digest = weights_digest(model)
    assert digest == weights_digest(tiny_model("bert"))
    assert digest != weights_digest(tiny_model("bert", seed=1))
    with torch.no_grad():
        model.get_parameter("qa_outputs.bias")[1] += 1e-6
    assert weights_digest(model) != digest
    assert parameter_count(model) == 22756  # counted by hand from the sizes below
    d, d_ff, vocabulary = 32, 22, 80
    embeddings = (vocabulary + 80 + 2) * d + 2 * d
    layer = 4 * (d * d + d) + (d * d_ff + d_ff) + (d_ff * d + d) + 4 * d
    assert parameter_count(model) == embeddings + 3 * layer + 2 * d + 2


# --- the Hub


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and an empty cache of the Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("source", ["someone/some-model", "bert-base-uncased"])
def test_without_the_hub_it_says_what_to_do(source: str, offline: Path) -> None:
    with pytest.raises(ModelError, match=f"'{source}' is neither a folder here nor") as caught:
        load(source)
    assert "download the model elsewhere (config.json, model.safetensors and" in str(caught.value)
    assert "pass its folder, or use one of 'minilm', 'embedded'" in str(caught.value)


@pytest.mark.parametrize("kind", ["stock", "pruned"])
def test_models_in_the_cache_of_the_hub_load_by_their_id(
    kind: str, offline: Path, folders: dict[str, Path]
) -> None:
    repository = offline / "models--someone--small"
    (repository / "snapshots" / "0123").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(folders[kind].iterdir()):  # links, as the Hub's client makes
        shutil.copy(path, repository / "blobs" / str(number))
        (repository / "snapshots" / "0123" / path.name).symlink_to(f"../../blobs/{number}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    model = load("someone/small")
    assert weights_digest(model) == weights_digest(load(folders[kind]))
    assert Topology.of(model) == Topology.of(load(folders[kind]))


# --- damaged folders


@pytest.fixture
def bounds() -> Iterator[None]:
    """An answer within 20 s (a FIFO that is opened never gives one) and 1 GiB."""

    def late(*_: Any) -> None:
        raise AssertionError("no answer within 20 s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [
        pytest.param(kind, *case, id=f"{kind}: {name}")
        for kind, cases in (("stock", STOCK), ("pruned", PRUNED))
        for name, case in cases.items()
    ],
)
def test_a_damaged_folder_gives_one_clear_error(
    kind: str,
    damage: Mutation,
    message: str,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bounds: None,
) -> None:
    monkeypatch.setenv("EXPLODED", str(tmp_path / "exploded"))
    folder = tmp_path / "model"
    shutil.copytree(folders[kind], folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert not (tmp_path / "exploded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mutation", HARMLESS.values(), ids=HARMLESS)
def test_what_says_how_to_run_a_model_changes_nothing(
    mutation: Mutation,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bounds: None,
) -> None:
    monkeypatch.setenv("EXPLODED", str(tmp_path / "exploded"))
    batch = tiny_batch(tiny_model("bert"))
    for kind, intact in folders.items():
        folder = tmp_path / kind
        shutil.copytree(intact, folder)
        mutation(folder)
        assert torch.equal(logits(load(folder), batch), logits(load(intact), batch))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere", "a/b/c", "../nowhere"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(source: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load(source)


def test_a_file_is_not_a_folder(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"config.json: no such folder"):
        load(folders["stock"] / "config.json")


def test_a_missing_shard_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    model = load(folders["stock"])
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert weights_digest(load(tmp_path)) == weights_digest(model)
    shards[1].unlink()
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load(tmp_path)
    assert shards[1].name in str(caught.value)


def test_old_position_ids_are_no_damage(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["stock"], tmp_path, dirs_exist_ok=True)
    ids = {"bert.embeddings.position_ids": torch.arange(80)[None]}
    edit_weights(lambda weights: weights.update(ids))(tmp_path)
    assert weights_digest(load(tmp_path)) == weights_digest(load(folders["stock"]))


def test_a_pickle_beside_the_weights_is_not_opened(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exploded = tmp_path / "exploded"
    monkeypatch.setenv("EXPLODED", str(exploded))
    folder = tmp_path / "model"
    shutil.copytree(folders["pruned"], folder)
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl"):
        (folder / name).write_bytes(pickle.dumps(Explosive()))
    load(folder)
    assert not exploded.exists()
