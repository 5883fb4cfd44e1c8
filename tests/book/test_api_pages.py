"""The reference has what packages export, where it lives, and the classes of signatures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("autoapi", reason="sphinx-autoapi is not installed: .[book]")
ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "book" / "_ext"))
from api_pages import Library  # noqa: E402


def test_names_are_followed_to_their_home(tmp_path: Path) -> None:
    files = {
        "__init__": "from qaprune_lib.data import load\n__all__ = ['load', 'data']",
        "data/__init__": "from qaprune_lib.data.reader import load\n__all__ = ['load']",
        "data/reader": "from qaprune_lib.data.kinds import Rows\n"
        "Limit: TypeAlias = int\n"
        "def load(path: str, most: Limit) -> Rows | None: ...",
        "data/kinds": "class Cell: ...\n"
        "class Hidden: ...\n"
        "class Rows:\n"
        "    cells: list[Cell]\n"
        "    def _private(self) -> Hidden: ...",
        "errors": "class QapruneError(Exception): ...",
    }
    for name, text in files.items():
        path = tmp_path / "qaprune_lib" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    library = Library(tmp_path)
    assert set(library.public()) == {
        "qaprune_lib.data.reader.load",
        "qaprune_lib.data.kinds.Rows",
        "qaprune_lib.data.kinds.Cell",
        "qaprune_lib.errors.QapruneError",
    }
    assert "Limit" in library.constants()
    assert "Missing" not in library.constants()


def test_every_public_name_of_the_library_has_an_entry() -> None:
    import qaprune_lib

    entries = {full.rpartition(".")[2] for full in Library(ROOT).public()}
    functions = {name for name in qaprune_lib.__all__ if callable(getattr(qaprune_lib, name))}
    assert functions <= entries
