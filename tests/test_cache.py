"""Files and folders of the cache are whole, or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.cache import (
    DIGESTS,
    build_once,
    cache_root,
    is_intact,
    open_atomically,
    read_or_build,
    write_atomically,
)
from qaprune_lib.errors import SettingsError
from tests.quick import at_most


def read(folder: Path) -> str:
    return (folder / "words").read_text()


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
    assert names(tmp_path) == ["kept"]


damaged = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 10**6)),
    st.tuples(st.just("cut"), st.integers(0, 10**6)),
    st.tuples(st.sampled_from(["remove", "empty", "folder", "link", "pipe", "device"]), st.just(0)),
)


@settings(max_examples=at_most(25), deadline=None)
@given(file=st.sampled_from(["words", "deep/er", DIGESTS]), damage=damaged)
def test_any_damage_is_mended(file: str, damage: tuple[str, int]) -> None:
    def build(folder: Path) -> None:
        (folder / "words").write_text("whole")
        (folder / "deep").mkdir()
        (folder / "deep" / "er").write_text("too")

    with tempfile.TemporaryDirectory() as root:
        kept = build_once(Path(root) / "kept", build)
        assert is_intact(kept)
        path, (how, where) = kept / file, damage
        content = bytearray(path.read_bytes())
        path.unlink()
        if how == "flip":
            content[where % len(content)] ^= 1
            path.write_bytes(content)
        elif how == "cut":
            path.write_bytes(content[: where % len(content)])
        elif how == "empty":
            path.touch()
        elif how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "device":
            path.symlink_to("/dev/zero")
        elif how == "link":
            path.symlink_to("nowhere")
        assert not is_intact(kept)
        (kept / "beside").touch()  # as a data set's own cache
        assert build_once(kept, build) == kept
        assert is_intact(kept)
        assert not (kept / "beside").exists()
        (kept / "beside").touch()
        assert is_intact(kept)


WAYS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("x"),
    "empty": lambda path: path.touch(),
    "folder": lambda path: (path.mkdir(), (path / "words").touch()),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "link": lambda path: path.symlink_to("nowhere"),
    "loop": lambda path: path.symlink_to(path),
    "other folder": lambda path: path.symlink_to(path.with_name("other")),
    **{
        content[:20]: partial(Path.write_text, data=content)
        for content in ("{}", "[]", "1", '{"words": 1}', "[" * 10**5)
    },
}


@pytest.mark.parametrize("place", ["kept", "kept.partial", "kept/words", f"kept/{DIGESTS}"])
@pytest.mark.parametrize("way", WAYS)
def test_whatever_stands_in_a_place_of_the_cache(place: str, way: str, tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "words").write_text("whole")

    path = tmp_path / place
    if path.parent != tmp_path:
        build_once(path.parent, build)
        path.unlink()
    other = path.with_name("other")
    other.mkdir()
    (other / "notes").touch()
    WAYS[way](path)
    assert read_or_build(tmp_path / "kept", build, read) == "whole"
    assert is_intact(tmp_path / "kept")
    assert names(tmp_path / "kept") == [DIGESTS, "words"]
    if path.parent == tmp_path:
        assert names(other) == ["notes"]


def test_a_file_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("QAPRUNE_CACHE", f"{tmp_path}/file")
    with pytest.raises(SettingsError, match="file: a file stands where the folder of the cache"):
        cache_root()


def test_what_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        read_or_build(tmp_path / "never", lambda _: 1 / 0, read)
    assert names(tmp_path) == []
