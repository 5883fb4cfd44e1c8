"""A model's folder, checked before anything in it is opened for use."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import stat
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import safe_open

from qaprune_lib.cache import sync
from qaprune_lib.errors import ModelError
from qaprune_lib.models.saved import MAX_JSON_BYTES, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_OPENED = {".json", ".safetensors", ".txt", ".model", ".jinja"}
_READ_HERE = ("config.json", "tokenizer_config.json", "special_tokens_map.json",
              "added_tokens.json", "topology.json", INDEX)  # fmt: skip
_OF_MODELS = (
    *("config.json", "generation_config.json", "topology.json", WEIGHTS, INDEX),
    *("model-*.safetensors", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "chat_template.*", "adapter_config.json"),
)


def is_local(source: str | os.PathLike[str]) -> bool:
    """Whether a source names a folder of this machine, and not a model of the Hub."""
    name = os.fspath(source)
    return (
        isinstance(source, Path)
        or os.path.exists(name)
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
    )


def local_folder(source: str | os.PathLike[str]) -> Path:
    """The folder of a source; of a Hub id that of its files here, downloaded if they are not."""
    if is_local(source):
        return Path(source)
    name = os.fspath(source)
    return Path(snapshot_download(name, allow_patterns=list(_OF_MODELS), ignore_patterns=["*/*"]))


def read_folder(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """A model's configuration and the files of its weights.

    Every file that may be opened is a regular one that lies in the folder (or where the Hub's
    cache keeps it), and the JSON files among them can be parsed.

    Raises:
        ModelError: the first file that is not so, or that is missing.
    """
    if not os.path.isdir(folder):
        raise ModelError(
            f"{str(folder)[:1000]}: no such folder; a model is a folder with a config.json"
        )
    _check_files(folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder}: holds an adapter (adapter_config.json); merge it into its model with "
            "merge_and_unload() and save that"
        )
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).exists():
            raise ModelError(
                f"{folder}: {name} is missing; save the model and its tokenizer into one folder"
            )
    content = {name: _object(folder / name) for name in _READ_HERE if (folder / name).exists()}
    return content["config.json"], _weight_files(folder, content.get(INDEX))


def _check_files(folder: Path) -> None:
    real = folder.resolve()
    inside = [real]
    if real.parent.name == "snapshots":  # of the Hub's cache, whose files are links
        inside.append(real.parent.parent / "blobs")
    for path in (*folder.iterdir(), *folder.glob("additional_chat_templates/*")):
        if path.suffix not in _OPENED:
            continue
        try:
            target = path.resolve(strict=True)
            is_file = stat.S_ISREG(target.stat().st_mode)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{path}: a link that leads nowhere") from error
        if is_file and path.suffix != ".safetensors" and target.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(
                f"{path}: {target.stat().st_size} bytes, more than the {MAX_JSON_BYTES} that are "
                "read of such a file"
            )
        if not is_file:
            raise ModelError(f"{path}: not a regular file")
        if not any(target.is_relative_to(root) for root in inside):
            raise ModelError(
                f"{path}: a link to {target}, outside of the model's folder; copy the file there"
            )


def _object(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object, as {path.name} is")
    return found


def _weight_files(folder: Path, index: dict[str, Any] | None) -> list[Path]:
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if index is None:
        raise ModelError(
            f"{folder}: no {WEIGHTS}; other weight files (pytorch_model.bin) are pickles and are "
            "never loaded, convert them first"
        )
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{folder / INDEX}: no weight_map")
    for name in names.values():
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\]+\.safetensors", name):
            raise ModelError(
                f"{folder / INDEX}: names {str(name)[:200]!r}; only .safetensors files of the same "
                "folder are loaded"
            )
        if not (folder / name).exists():
            raise ModelError(f"{folder}: the model cannot be loaded: {name} is missing")
    return [folder / name for name in sorted(set(names.values()))]


def count_weights(files: list[Path]) -> int:
    """How many numbers the files of weights hold, by their headers alone.

    Raises:
        SafetensorError, OSError: a file that is damaged.
    """
    total = 0
    for path in files:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                total += math.prod(file.get_slice(name).get_shape())
    return total


def replace_folder(new: Path, target: Path, own: Sequence[str] = _OF_MODELS) -> None:
    """Let a new folder take the place of an earlier one, whose other files it takes over.

    Files with names like `own` are the earlier one's, and go with it.

    At any moment the target holds the old model or the new one: both names change in one step
    where the system can do that, and file by file where a folder cannot be renamed.
    """
    for path in (*new.rglob("*"), new):
        sync(path)
    if not target.exists():
        os.replace(new, target)
        sync(target.parent)
        return
    stale = [
        path
        for path in target.iterdir()
        if any(fnmatch(path.name, pattern) for pattern in own) and not (new / path.name).exists()
    ]
    if Path.cwd().is_relative_to(target) or not _exchange(new, target, stale):
        for path in sorted(new.iterdir()):
            os.replace(path, target / path.name)
        for path in stale:
            path.unlink()
    sync(target)


def _exchange(new: Path, target: Path, stale: list[Path]) -> bool:
    """Swap two folders, if the system can; files of the target that are no model's are linked."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
        for path in target.iterdir():
            if path in stale or (new / path.name).exists():
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, new / path.name, symlinks=True, copy_function=os.link)
            else:
                os.link(path, new / path.name, follow_symlinks=False)
        shutil.copymode(target, new)
    except (OSError, AttributeError, shutil.Error):
        return False
    here, both_names = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap(here, os.fsencode(new), here, os.fsencode(target), both_names) == 0
