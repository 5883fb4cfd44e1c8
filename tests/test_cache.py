"""Files and folders of the cache are whole, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qaprune_lib.cache import (
    build_once,
    is_complete,
    open_atomically,
    read_or_build,
    write_atomically,
)
from qaprune_lib.errors import QapruneError


def read(folder: Path) -> str | None:
    file = folder / "words"
    return file.read_text() or None if file.is_file() else None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, "old")

    def interrupted() -> None:
        with open_atomically(path) as file:
            file.write("half")
            file.flush()
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(path.parent) == ["file"]
    write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_folder_is_built_once_however_many_ask(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "words").write_text("whole")

    def ask(_: int) -> str:
        return read_or_build(tmp_path / "kept", build, read)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {"whole"}
    assert len(built) == 1
    (tmp_path / "kept" / "words").write_text("")  # damaged
    assert ask(0) == "whole"
    assert len(built) == 2
    assert names(tmp_path) == ["kept"]


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("file", ["words", "numbers", "complete.json"])
@pytest.mark.parametrize(
    "damage",
    [flip, Path.unlink, lambda file: os.truncate(file, 2), lambda file: file.write_text("[1]")],
)
def test_a_damaged_file_makes_the_folder_again(
    file: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    def build(folder: Path) -> None:
        (folder / "words").write_text("whole")
        (folder / "numbers").write_text("12345")

    folder = build_once(tmp_path / "kept", build)
    assert is_complete(folder)
    damage(folder / file)
    assert not is_complete(folder)
    build_once(folder, build)
    assert is_complete(folder)
    assert (folder / "words").read_text() == "whole"


def test_what_fails_leaves_no_folder(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "words").write_text("")

    with pytest.raises(QapruneError, match="cannot be read back"):
        read_or_build(tmp_path / "empty", build, read)
    with pytest.raises(ZeroDivisionError):
        read_or_build(tmp_path / "never", lambda _: 1 / 0, read)
    assert names(tmp_path) == ["empty"]
