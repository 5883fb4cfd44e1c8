"""`load_model` on all its sources, and on folders damaged in every way we could think of."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForPreTraining, BertForQuestionAnswering, BertModel
from transformers.utils import logging

from qaprune_lib.errors import ModelError
from qaprune_lib.models import (
    PACKAGED,
    ModelShape,
    QuestionAnsweringModel,
    Topology,
    load_model,
    parameter_count,
    shape_of,
    weights_digest,
)
from qaprune_lib.models.packaged import PackagedModel
from qaprune_lib.pruning import prune
from tests.models.tiny import (
    assert_agree,
    logits,
    random_topology,
    tiny_batch,
    tiny_model,
)

WEIGHT = "bert.encoder.layer.2.output.dense.weight"


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


@pytest.mark.parametrize("layers", [0, 4, [0, 3], [], [1, 1], [-1]])
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
    shutil.copytree(folders[kind], repository / "snapshots" / "0123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    model = load("someone/small")
    assert weights_digest(model) == weights_digest(load(folders[kind]))
    assert Topology.of(model) == Topology.of(load(folders[kind]))


# --- damaged folders


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return edit


def edit_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return edit


def edit_topology(*, both: bool = True, **changes: Any) -> Callable[[Path], None]:
    """Edit topology.json and, if `both`, the configuration to agree with it."""

    def edit(folder: Path) -> None:
        topology = {**json.loads((folder / "topology.json").read_text()), **changes}
        (folder / "topology.json").write_text(json.dumps(topology))
        if both:
            edit_config(topology=topology)(folder)

    return edit


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return edit


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, n_bytes: int) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-n_bytes])

    return edit


def only_a_pickle(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def a_pickle_and_other_tensors(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    only_a_pickle(folder)


def set_value(value: float) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights[WEIGHT].view(-1)[5:6].fill_(value)


def narrow(weights: dict[str, torch.Tensor]) -> None:
    weights[WEIGHT] = weights[WEIGHT][:, :3].contiguous()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (remove("config.json"), "config.json is missing"),
    "config not JSON": (write("config.json", b"{'a': 1}"), "config.json: not valid JSON"),
    "config cut": (cut("config.json", 20), "config.json: not valid JSON"),
    "config binary": (write("config.json", b"\xff\xfe\x00"), "config.json: not valid JSON"),
    "config a list": (write("config.json", b"[]"), "model_type"),
    "config empty": (write("config.json", b"{}"), "model_type"),
    "unknown type": (edit_config(model_type="foo"), "model type `foo`"),
    "unsupported": (edit_config(model_type="albert"), "'albert' is not supported; .*bert"),
    "text for a number": (edit_config(num_hidden_layers="three"), "num_hidden_layers"),
    "no heads": (edit_config(num_attention_heads=0), "config.json"),
    "no layers": (edit_config(num_hidden_layers=0), "n_layers"),
    "vocabulary": (edit_config(vocab_size=90), r"embeddings.weight: \[80, .*needs \[90"),
    "truncated": (cut("model.safetensors", 1000), "cannot be loaded: .*incomplete"),
    "weights empty": (write("model.safetensors", b""), "cannot be loaded: .*header"),
    "weights garbage": (write("model.safetensors", bytes(range(256)) * 9), "cannot be loaded"),
    "missing tensor": (
        edit_weights(lambda weights: weights.pop(WEIGHT)),
        f"1 weights are missing, the first {WEIGHT}",
    ),
    "half a head": (
        edit_weights(lambda weights: weights.pop("qa_outputs.bias")),
        "1 weights are missing, the first qa_outputs.bias",
    ),
    "no head": (
        edit_weights(lambda weights: [weights.pop(f"qa_outputs.{n}") for n in ("weight", "bias")]),
        "2 weights are missing, the first qa_outputs.bias",
    ),
    "extra tensor": (
        edit_weights(lambda weights: weights.update(extra=torch.ones(2))),
        "unexpected weights, the first extra",
    ),
    "NaN": (edit_weights(set_value(float("nan"))), f"{WEIGHT} holds values that are not finite"),
    "infinite": (edit_weights(set_value(float("inf"))), f"{WEIGHT} holds values that are not"),
    "wrong shape": (edit_weights(narrow), rf"1 weights of a wrong shape, .*{WEIGHT}: \[\d+, 3\]"),
    "no weights": (remove("model.safetensors"), "no model.safetensors"),
    "only a pickle": (only_a_pickle, "pickles and are never loaded"),
    "a pickle, other tensors": (a_pickle_and_other_tensors, "cannot be loaded: .*safetensors"),
    "no tokenizer": (remove("tokenizer.json"), "tokenizer.json is missing"),
    "tokenizer not JSON": (write("tokenizer.json", b"{"), "the tokenizer cannot be loaded"),
}
STOCK_DAMAGE = {
    "heads": (
        edit_config(num_attention_heads=3),
        "not a multiple of the number of",
    ),
    "hidden size": (edit_config(hidden_size=16), r"wrong shape.*\[32\].* needs \[16\]"),
    "width": (edit_config(intermediate_size=21), r"9 weights of a wrong shape.*\[22\].*\[21\]"),
    "more layers": (edit_config(num_hidden_layers=4), "16 weights are missing, .*layer.3"),
    "fewer layers": (edit_config(num_hidden_layers=2), "unexpected weights, .*layer.2"),
}
PRUNED_DAMAGE = {
    "no topology": (remove("topology.json"), "topology.json is missing"),
    "topology not JSON": (cut("topology.json", 5), "topology.json: not a topology: .*line 19"),
    "topology edited": (edit_topology(both=False, emb="0-31"), "topology.json and .* differ"),
    "config without it": (edit_config(topology=None), "config.json holds no topology"),
    "topology a text": (edit_config(topology="all"), "malformed topology"),
    "one layer": (edit_topology(attn=["0-3"]), "attn lists 1 layers, the shape has 3"),
    "head outside": (edit_topology(attn=["0-3", "", "4"]), "index 4 is outside of a size of 4"),
    "reversed": (edit_topology(ff=["5-2", "", ""]), "not in ascending order"),
    "wider": (edit_topology(ff=["0-21"] * 3), "missing|wrong shape"),
    "no embedding": (edit_topology(emb=""), "no embedding dimension is left"),
    "number": (edit_topology(emb=3), "malformed topology"),
    "of another shape": (
        edit_topology(
            shape={
                "n_layers": 3,
                "n_heads": 8,
                "head_size": 4,
                "d_intermediate": 22,
                "d_embedding": 32,
            }
        ),
        "was made for a model of 3 layers of 8 heads of size 4",
    ),
    "head count": (edit_config(num_attention_heads=8), "was made for a model of 3 layers of 4"),
    "fewer layers": (edit_config(num_hidden_layers=2), "was made for a model of 3 layers"),
}
CASES = [
    (kind, name, *case)
    for kind, cases in (
        ("stock", {**DAMAGE, **STOCK_DAMAGE}),
        ("pruned", {**DAMAGE, **PRUNED_DAMAGE}),
    )
    for name, case in cases.items()
]


@pytest.mark.parametrize(
    ("kind", "damage", "message"),
    [pytest.param(case[0], *case[2:], id=f"{case[0]}: {case[1]}") for case in CASES],
)
def test_a_damaged_folder_gives_one_clear_error(
    kind: str,
    damage: Callable[[Path], None],
    message: str,
    folders: dict[str, Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders[kind], folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


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


class Explosive:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EXPLODED"],)


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
