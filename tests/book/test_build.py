"""The build refuses what must not become a book."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from qaprune_lib.errors import RecordError
from study import build
from study.build import BookError

pytest.importorskip("papermill", reason="papermill is not installed: .[run]")

from tests.book.small import notebook


def written(folder: Path, *cells: str) -> Path:
    path = folder / "page.ipynb"
    nbformat.write(notebook("# A page", *cells), path)
    return path


def toc(root: Path, *pages: str) -> None:
    files = "".join(f"\n  - file: {page}" for page in pages)
    (root / "_toc.yml").write_text(f"format: jb-book\nroot: book/intro\nchapters:{files}\n")
    (root / "notebooks/report").mkdir(parents=True)


def test_imports_without_torch() -> None:
    code = "import sys, study.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ALONE = """
import json
import sys
from importlib import metadata
from pathlib import Path

lock = {line.partition("==")[0].replace("_", "-").lower() for line in open(sys.argv[1])}
owners = {name: {o.replace("_", "-").lower() for o in of}
          for name, of in metadata.packages_distributions().items()}

class Absent:
    def find_spec(self, name, *_):
        top = name.partition(".")[0]
        if top in owners and not owners[top] & (lock | {"qaprune", "setuptools", "pip"}):
            raise ModuleNotFoundError(f"{top} is not in {sys.argv[1]}", name=top)

sys.meta_path.insert(0, Absent())
import study.build
for page in Path("notebooks/report").glob("*.ipynb"):
    for cell in json.loads(page.read_text())["cells"]:
        lines = "".join(cell["source"] if cell["cell_type"] == "code" else "").splitlines()
        for line in lines:
            if line.startswith("from study") and not line.endswith("("):
                exec(line)
"""


def test_what_makes_the_book_needs_no_more_than_its_lock() -> None:
    command = [sys.executable, "-c", ALONE, "requirements-book.lock"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_notebook_reads_records_and_keeps_outputs(tmp_path: Path) -> None:
    code = "from pathlib import Path; print(Path(results).is_absolute(), Path(results).name)"
    build.run_notebooks([written(tmp_path, code)], tmp_path, Path("records"))
    executed = nbformat.read(tmp_path / "book/_generated/page.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "True records\n"


def test_failed_notebook_is_named_and_kept(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"page\.ipynb failed.*ZeroDivisionError") as caught:
        build.run_notebooks([written(tmp_path, "1 / 0")], tmp_path, tmp_path)
    kept = tmp_path / "book/_generated/page.ipynb"
    assert str(kept) in str(caught.value)
    assert "ZeroDivisionError" in kept.read_text()


def test_an_error_that_a_notebook_shows_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, "1 / 0")
    pages = nbformat.read(path, as_version=4)
    pages.cells[-1].metadata.tags = ["raises-exception"]
    nbformat.write(pages, path)
    with pytest.raises(BookError, match="ZeroDivisionError"):
        build.run_notebooks([path], tmp_path, tmp_path)


def test_page_without_notebook(tmp_path: Path) -> None:
    toc(tmp_path, "book/method", "book/_generated/lost", "book/_generated/api/data")
    with pytest.raises(BookError, match=r"names pages without a notebook.*\['lost'\]"):
        build.report_notebooks(tmp_path)


def test_notebook_without_page(tmp_path: Path) -> None:
    toc(tmp_path, "book/method")
    written(tmp_path / "notebooks/report")
    with pytest.raises(BookError, match=r"does not name: \['page'\]"):
        build.report_notebooks(tmp_path)


def test_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured/torn.json").write_text('{"stage": "fine')
    with pytest.raises(RecordError, match=r"torn\.json"):
        build.build(tmp_path, tmp_path, tmp_path)


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://example.org/a.js"></script>',
        '<img src="//example.org/a.png">',
        '<img srcset="https://example.org/a.png 2x">',
        '<link rel="stylesheet" href="http://example.org/a.css">',
        '<link rel="preconnect" href="https://example.org">',
        "<style>@import url(https://example.org/a.css);</style>",
        "<p style=\"background: url('https://example.org/a.png')\">x</p>",
        '<iframe src="https://example.org"></iframe>',
    ],
)
def test_foreign_load_is_found(tmp_path: Path, element: str) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{element}</body></html>")
    [found] = build.foreign_loads(tmp_path)
    assert found.startswith("page.html: ")
    assert "example.org" in found


@pytest.mark.parametrize(
    "element",
    [
        '<a href="https://example.org">a link is not loaded</a>',
        '<link rel="canonical" href="https://example.org">',
        '<script src="_static/a.js"></script>',
        '<img src="data:image/png;base64,AAAA">',
        "<script>const address = 'https://example.org';</script>",
        "<style>/* @import url(https://example.org/a.css); */</style>",
    ],
)
def test_what_loads_nothing_passes(tmp_path: Path, element: str) -> None:
    (tmp_path / "page.html").write_text(f"<html><body>{element}</body></html>")
    assert build.foreign_loads(tmp_path) == []


def test_foreign_load_of_a_style_sheet(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url(https://example.org/a.woff2); }")
    assert build.foreign_loads(tmp_path) == ["a.css: https://example.org/a.woff2"]


def checkout(folder: Path) -> Path:
    for name in (
        "_config.yml",
        "book/a.md",
        "qaprune_lib/x.py",
        "study/templates/x.jinja",
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
    "changed",
    [
        *("_config.yml", "book/a.md", "book/new.png", "results/r.json"),
        *("qaprune_lib/x.py", "study/templates/x.jinja"),
    ],
)
def test_any_input_counts(tmp_path: Path, changed: str) -> None:
    root = checkout(tmp_path)
    before = build.inputs_digest(root, root / "results")
    (root / changed).write_text("other")
    assert build.inputs_digest(root, root / "results") != before


@pytest.mark.parametrize(
    "made", ["book/_generated/a.svg", "README.md", "qaprune_lib/__pycache__/x.py"]
)
def test_what_is_made_or_not_shown_does_not(tmp_path: Path, made: str) -> None:
    root = checkout(tmp_path)
    before = build.inputs_digest(root, root / "results")
    (root / made).parent.mkdir(parents=True, exist_ok=True)
    (root / made).write_text("other")
    assert build.inputs_digest(root, root / "results") == before


def test_a_file_that_moves_counts(tmp_path: Path) -> None:
    root = checkout(tmp_path)
    before = build.inputs_digest(root, root / "results")
    (root / "book" / "a.md").rename(root / "book" / "b.md")
    assert build.inputs_digest(root, root / "results") != before


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
            raise BookError("a warning")

    monkeypatch.setattr(build, "_jupyter_book", jupyter_book)
    monkeypatch.setattr(build, "copy_assets", lambda folder: None)
    for _ in range(2):
        assert build.build(root, root / "results", root) == root / "_build" / "html" / "index.html"
    assert len(built) == 1
    (root / "book" / "bad.md").write_text("bad")
    for _ in range(2):
        with pytest.raises(BookError):
            build.build(root, root / "results", root)
    assert len(built) == 3
