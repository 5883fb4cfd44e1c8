from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from study import build as module
from study.build import build
from study.inputs import inputs_digest


def checkout(folder: Path) -> Path:
    for name in (
        "_config.yml",
        "book/a.md",
        "qaprune_lib/x.py",
        "profiles/p.yml",
        "results/r.json",
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (folder / "notebooks" / "report").mkdir(parents=True)
    (folder / "_toc.yml").write_text("root: book/a")
    return folder


@pytest.mark.parametrize(
    "changed", ["_config.yml", "book/a.md", "book/new.png", "qaprune_lib/x.py", "results/r.json"]
)
def test_any_input_counts(tmp_path: Path, changed: str) -> None:
    root = checkout(tmp_path)
    before = inputs_digest(root, root / "results")
    (root / changed).write_text("other")
    assert inputs_digest(root, root / "results") != before


@pytest.mark.parametrize(
    "made", ["book/_generated/a.svg", "README.md", "qaprune_lib/__pycache__/x.py"]
)
def test_what_is_made_or_not_shown_does_not(tmp_path: Path, made: str) -> None:
    root = checkout(tmp_path)
    before = inputs_digest(root, root / "results")
    (root / made).parent.mkdir(parents=True, exist_ok=True)
    (root / made).write_text("other")
    assert inputs_digest(root, root / "results") == before


def test_a_file_that_moves_counts(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    before = inputs_digest(root, root / "results")
    (root / "book" / "a.md").rename(root / "book" / "b.md")
    assert inputs_digest(root, root / "results") != before


def test_an_unchanged_book_is_not_built_again_and_a_failed_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = checkout(tmp_path)
    (root / "results" / "r.json").unlink()
    built: list[Path] = []

    def jupyter_book(root: Path, output: Path) -> None:
        built.append(root)
        html = output / "_build" / "html"
        html.mkdir(parents=True, exist_ok=True)
        (html / "index.html").write_text("<p>a page</p>")
        if (root / "book" / "bad.md").exists():
            raise module.BookError("a warning")

    monkeypatch.setattr(module, "_jupyter_book", jupyter_book)
    monkeypatch.setattr(module, "copy_assets", lambda folder: None)
    for _ in range(2):
        assert build(root, root / "results", root) == root / "_build" / "html" / "index.html"
    assert len(built) == 1
    (root / "book" / "bad.md").write_text("bad")
    for _ in range(2):
        with pytest.raises(module.BookError):
            build(root, root / "results", root)
    assert len(built) == 3


def test_the_report_part_needs_no_torch() -> None:
    program = "import sys, study.build; print({'torch'} & set(sys.modules))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "set()\n"
