"""A pruned folder: what is in it, and that a fresh process reads it in one call."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

import qaprune_lib
from qaprune_lib.errors import ModelError
from qaprune_lib.models import Topology, architecture_of, load_model, shape_of, weights_digest
from qaprune_lib.pruning import prune
from tests.models.tiny import (
    READERS,
    TESTED,
    assert_agree,
    logits,
    random_topology,
    tiny_batch,
    tiny_model,
)

IN_A_FRESH_PROCESS = """
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file
{load}
for folder in map(Path, sys.argv[1:]):
    model = read(str(folder / "small")).eval()
    output = model(**load_file(folder / "batch.safetensors"))
    save_file({{"start": output.start_logits.detach().contiguous(),
               "end": output.end_logits.detach().contiguous()}}, folder / "found.safetensors")
"""
LOADERS = {
    "load_model": """
from qaprune_lib.models import load_model
def read(folder): return load_model(folder, device="cpu")
""",
    "transformers": """
import qaprune_lib.models
from transformers import AutoModelForQuestionAnswering
read = AutoModelForQuestionAnswering.from_pretrained
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("loader", LOADERS)
def test_a_fresh_process_loads_in_one_call(loader: str, tmp_path: Path) -> None:
    expected = {}
    for architecture in TESTED:
        model = tiny_model(architecture, trained=True)
        small = prune(model, random_topology(shape_of(model.config), 4))
        folder = tmp_path / architecture
        small.save_pretrained(folder / "small")
        batch = tiny_batch(small)
        save_file(batch, folder / "batch.safetensors")
        expected[architecture] = logits(small, batch)
    library = str(Path(next(iter(qaprune_lib.__path__))).parent)
    search = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [
            sys.executable,
            "-c",
            IN_A_FRESH_PROCESS.format(load=LOADERS[loader]),
            *(str(tmp_path / architecture) for architecture in TESTED),
        ],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search, "HF_HUB_OFFLINE": "1"},
    )
    for architecture in TESTED:
        found = load_file(tmp_path / architecture / "found.safetensors")
        real = load_file(tmp_path / architecture / "batch.safetensors")["attention_mask"].bool()
        assert_agree(torch.cat([found["start"][real], found["end"][real]]), expected[architecture])


@pytest.mark.parametrize("architecture", TESTED)
def test_a_pruned_folder_holds_no_pickle_and_no_code(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    topology = random_topology(shape_of(model.config), 0)
    prune(model, topology).save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.rglob("*")}
    assert {"model.safetensors", "config.json", "topology.json", "tokenizer.json"} <= names
    assert {Path(name).suffix for name in names} <= {".safetensors", ".json", ".txt"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "pruned-" + architecture.removesuffix("-projected")
    names = architecture_of(model.config)
    sizes = [names.n_layers, names.n_heads, names.d_embedding, names.d_intermediate]
    assert [config[name] for name in sizes] == [3, 4, 32, 22]
    assert config["topology"] == json.loads((tmp_path / "topology.json").read_text())
    assert "auto_map" not in config
    assert Topology.load(tmp_path / "topology.json") == topology


def test_the_file_is_smaller_by_what_was_removed(tmp_path: Path) -> None:
    model = tiny_model("bert")
    topology = random_topology(shape_of(model.config), 0, emb=False)
    prune(model, topology).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        numel = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    removed = Topology.of(model).encoder_parameters() - topology.encoder_parameters()
    assert numel == sum(weights.numel() for weights in model.parameters()) - removed


@pytest.mark.parametrize("architecture", TESTED)
def test_saving_again_changes_nothing(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    small = prune(model, random_topology(shape_of(model.config), 0))
    small.save_pretrained(tmp_path / "one")
    load_model(tmp_path / "one", device="cpu").save_pretrained(tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in ("model.safetensors", "topology.json", "tokenizer.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("architecture", TESTED)
def test_the_tokenizer_travels_with_the_model(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    small = prune(model, random_topology(shape_of(model.config), 0))
    small.save_pretrained(tmp_path)
    for tokenizer in (
        load_model(tmp_path, device="cpu").tokenizer,
        AutoTokenizer.from_pretrained(tmp_path),
    ):
        assert tokenizer.model_input_names == model.tokenizer.model_input_names
        assert tokenizer("Ann?", "in Rome.") == model.tokenizer("Ann?", "in Rome.")


@pytest.mark.parametrize("architecture", TESTED)
def test_an_unpruned_model_saves_as_a_stock_folder(architecture: str, tmp_path: Path) -> None:
    model = tiny_model(architecture)
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "topology.json").exists()
    batch = tiny_batch(model)
    for read in (
        lambda: AutoModelForQuestionAnswering.from_pretrained(tmp_path),
        lambda: load_model(tmp_path, device="cpu"),
    ):
        again = read().eval()
        assert again.config.model_type == model.config.model_type
        assert torch.equal(logits(again, batch), logits(model, batch))


@pytest.mark.parametrize("architecture", READERS)
def test_transformers_reads_a_pruned_folder_for_natural_questions(
    architecture: str, tmp_path: Path
) -> None:
    model = tiny_model(architecture, task="natural_questions")
    small = prune(model, random_topology(shape_of(model.config), 4))
    small.save_pretrained(tmp_path)
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path).eval()
    assert type(again) is type(small)
    batch = tiny_batch(small)
    assert torch.equal(logits(again, batch), logits(small, batch))


def test_a_pruned_model_can_be_copied() -> None:
    model = tiny_model("bert")
    small = prune(model, random_topology(shape_of(model.config), 0))
    batch = tiny_batch(small)
    assert torch.equal(logits(copy.deepcopy(small), batch), logits(small, batch))


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_kill_while_saving_leaves_the_old_model_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruned model over a stock one, stopped before each of its writes in turn."""
    old, stock = tiny_model("bert"), tiny_model("bert", seed=1)
    new = prune(stock, random_topology(shape_of(stock.config), 0))
    target, digests, n_calls = tmp_path / "model", set[str](), 0
    old.save_pretrained(target)
    (target / "notes.md").write_text("mine")

    def dying(step: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            if next(calls, None) is None:
                raise Killed
            return step(*arguments, **options)

        return one

    while weights_digest(new) not in digests:
        calls = iter(range(n_calls))
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for name in ("replace", "link", "fsync", "open", "rename", "unlink"):
                patch.setattr(os, name, dying(getattr(os, name)))
            patch.setattr("safetensors.torch.save_file", dying(save_file))
            new.save_pretrained(target)
        digests.add(weights_digest(load_model(target, device="cpu")))
        assert (target / "notes.md").read_text() == "mine"
        n_calls += 1
    assert digests == {weights_digest(old), weights_digest(new)}
    assert n_calls > 5
    new.save_pretrained(target)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("where", ["beside", "inside", "no exchange"])
def test_saving_over_another_model_leaves_nothing_of_it(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    model = tiny_model("roberta")
    prune(model, random_topology(shape_of(model.config), 0)).save_pretrained(
        folder, max_shard_size="20KB"
    )
    (folder / "kept").mkdir()
    (folder / "kept" / "notes.md").write_text("mine")
    (folder / "link").symlink_to("nowhere")
    if where == "inside":
        monkeypatch.chdir(folder)
    if where == "no exchange":
        monkeypatch.setattr("qaprune_lib.models.folder._exchange", lambda *_: False)
    bert = tiny_model("bert")
    bert.save_pretrained("." if where == "inside" else folder)
    assert Path.cwd().exists()
    own = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == {*own, "kept", "link"}
    assert (folder / "kept" / "notes.md").read_text() == "mine"
    assert weights_digest(load_model(folder, device="cpu")) == weights_digest(bert)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("what", ["file", "pipe", "folder", "link"])
def test_what_a_process_that_died_has_left_is_no_part_of_a_model(what: str, tmp_path: Path) -> None:
    folder, left = tmp_path / "model", tmp_path / ".model.saving"
    tiny_model("bert").save_pretrained(folder)
    ways: dict[str, Callable[[], object]] = {
        "file": left.touch,
        "pipe": lambda: os.mkfifo(left),
        "folder": lambda: (left.mkdir(), (left / "added_tokens.json").write_text("{")),
        "link": lambda: left.symlink_to("nowhere"),
    }
    ways[what]()
    new = tiny_model("bert", seed=1)
    new.save_pretrained(folder)
    assert weights_digest(load_model(folder, device="cpu")) == weights_digest(new)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_to_a_model_goes_on_to_lead_there(is_there: bool, tmp_path: Path) -> None:
    """As one to another disk."""
    old, new = tiny_model("bert"), tiny_model("bert", seed=1)
    if is_there:
        old.save_pretrained(tmp_path / "disk")
    (tmp_path / "model").symlink_to("disk")
    new.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").is_symlink()
    assert weights_digest(load_model(tmp_path / "disk", device="cpu")) == weights_digest(new)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "disk"}


def test_a_model_is_on_the_disk_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a power cut leaves no empty files under the final names."""
    synced = set[tuple[int, int]]()
    fsync = os.fsync

    def one(descriptor: int) -> None:
        status = os.fstat(descriptor)
        synced.add((status.st_dev, status.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", one)
    tiny_model("bert").save_pretrained(tmp_path / "model")
    for path in (tmp_path, tmp_path / "model", *(tmp_path / "model").iterdir()):
        assert (path.stat().st_dev, path.stat().st_ino) in synced, path


def test_a_model_is_not_saved_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ModelError, match="is a file"):
        tiny_model("bert").save_pretrained(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
