"""Build the book from records: `python -m study book`.

Reads the records, runs the report notebooks over them, and hands the result to Jupyter Book. The
book is refused where a record is damaged or stale, a notebook fails, a page is missing, or a page
would load something from another host. Needs no torch.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from qaprune_lib.errors import QapruneError
from study.inputs import STAMP, inputs_digest
from study.plan.status import records_of
from study.stages.run import KERNEL_SECONDS

REPORT = Path("notebooks/report")
GENERATED = Path("book/_generated")
STATIC = GENERATED / "_static"

LOADING = {"src", "srcset", "data", "poster"}
"""Attributes by which an HTML element loads something."""

NOT_LOADED = {"canonical", "author", "license", "next", "prev", "index", "search"}
"""Values of `rel` with which a <link> only points."""

FOREIGN = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
FOREIGN_IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class BookError(QapruneError):
    """The book cannot be built, or must not be: says what is wrong and where."""


def build(root: Path, results: Path, output: Path) -> Path:
    """Build the book of a checkout, unless it has been built of the same files before.

    Args:
        root: folder of `_config.yml` and `_toc.yml`.
        results: folder of records.
        output: folder in which `_build/html` is made.

    Returns:
        The book's `index.html`.

    Raises:
        RecordError: a damaged record.
        BookError: a stale record, a page in the table of contents without a notebook or the other
            way round, a notebook that fails, a warning of Jupyter Book, or a page that loads
            something from another host.
    """
    _say("==> records")
    check_records(results)
    html = output / "_build" / "html"
    digest = inputs_digest(root, results)
    stamp = html.parent / STAMP
    if (html / "index.html").is_file() and stamp.is_file() and stamp.read_text() == digest:
        _say("nothing has changed since the book was built")
        return html / "index.html"
    notebooks = report_notebooks(root)
    _say(f"==> {len(notebooks)} report pages")
    run_notebooks(notebooks, root, results)
    _say("==> scripts and fonts of the pages")
    copy_assets(root / STATIC)
    _say("==> Jupyter Book")
    stamp.unlink(missing_ok=True)
    _jupyter_book(root, output)
    if problems := foreign_loads(html):
        raise BookError("pages load from other hosts:\n" + "\n".join(problems))
    stamp.write_text(digest)
    return html / "index.html"


def check_records(results: Path) -> None:
    """Read every record under a folder and refuse stale ones."""
    records = records_of(results)
    _say(f"{len(records)} records under {results}")


def report_notebooks(root: Path) -> list[Path]:
    """The report notebooks, each a page of the table of contents.

    Raises:
        BookError: a page without its notebook, or a notebook that is no page.
    """
    import yaml

    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    folder = GENERATED.as_posix() + "/"
    pages = {page.removeprefix(folder) for page in _pages(toc) if page.startswith(folder)}
    pages = {page for page in pages if "/" not in page}
    notebooks = {path.stem: path for path in sorted((root / REPORT).glob("*.ipynb"))}
    if missing := sorted(pages - notebooks.keys()):
        raise BookError(f"_toc.yml names pages without a notebook in {REPORT}: {missing}")
    if extra := sorted(notebooks.keys() - pages):
        raise BookError(f"notebooks in {REPORT} that _toc.yml does not name: {extra}")
    return list(notebooks.values())


def _pages(entry: Any) -> Iterator[str]:
    match entry:
        case dict():
            yield from (value for key, value in entry.items() if key in ("file", "root"))
            for value in entry.values():
                yield from _pages(value)
        case list():
            for item in entry:
                yield from _pages(item)


def run_notebooks(notebooks: Sequence[Path], root: Path, results: Path) -> None:
    """Run report notebooks with papermill, as many at a time as there are processors.

    The executed ones lie under `book/_generated`; that of a failed notebook stays there too.

    Raises:
        BookError: one fails or shows an error; all others are run all the same.
    """
    (root / GENERATED).mkdir(parents=True, exist_ok=True)
    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {pool.submit(_run, path, root, results): path for path in notebooks}
        for number, run in enumerate(as_completed(runs), start=1):
            error = run.result()
            _say(f"[{number}/{len(runs)}] {runs[run].stem}{': failed' if error else ''}")
            failures += [error] if error else []
    if failures:
        raise BookError("\n".join(failures))


def _run(notebook: Path, root: Path, results: Path) -> str | None:
    """Run one notebook; returns what went wrong."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    executed = root / GENERATED / notebook.name
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters={"results": str(results.resolve())},
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            start_timeout=KERNEL_SECONDS,
            resources={"metadata": {"path": str(root)}},  # cwd= would move all threads
            extra_arguments=["--log-level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        return f"{notebook} failed, see {executed}: {error.ename}: {error.evalue}"
    except DeadKernelError as error:
        return f"{notebook} failed: {error}; is there enough memory?"
    page = nbformat.read(executed, as_version=4)
    for cell in page.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata.tags = [*tags, "remove-cell"]  # it names a folder of this machine
        for shown in cell.get("outputs", ()):
            if shown.output_type == "error":
                return f"{notebook} shows an error, see {executed}: {shown.ename}: {shown.evalue}"
    nbformat.write(page, executed)
    return None


def copy_assets(folder: Path) -> None:
    """Copy MathJax and the classes of Jupyter's widgets from the packages that carry them.

    Raises:
        BookError: a package is not installed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    mathjax = _package_folder("sphinx-mathjax-offline", "static/mathjax")
    for part in ("tex-chtml.js", "output/chtml/fonts", "input/tex/extensions"):
        _copy(mathjax / part, folder / "mathjax" / part)
    widgets = _package_folder("widgetsnbextension", "widgetsnbextension/static")
    _copy(widgets / "extension.js", folder / "jupyter-widgets" / "extension.js")
    _copy(folder.parent.parent / "_static" / "widgets.js", folder / "jupyter-widgets/widgets.js")


def _package_folder(distribution: str, folder: str) -> Path:
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise BookError(f"{distribution} is not installed: pip install {distribution}") from error
    for file in files:
        _, found, tail = file.as_posix().partition(folder + "/")
        if found:
            return Path(str(file.locate())).parents[tail.count("/")]
    raise BookError(f"{distribution} has no folder {folder}: another version of it?")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def _jupyter_book(root: Path, output: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(root), "--path-output", str(output), "--all", "-W", "-n", "--keep-going"]
    html = output / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)  # no page of an earlier book may stay
    if subprocess.run(command, check=False).returncode:
        raise BookError("Jupyter Book failed; what it says above names the page and the line")


class _Loads(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes of one element."""
        values = dict(attrs)
        loads = [value for name, value in attrs if name in LOADING]
        if tag == "link" and not NOT_LOADED & set((values.get("rel") or "").split()):
            loads.append(values.get("href"))
        self.found += [value for value in loads if value and FOREIGN.match(value)]
        self.found += FOREIGN_IN_CSS.findall(values.get("style") or "")
        self.in_style = tag == "style"

    def handle_data(self, data: str) -> None:
        """Look at the text of a style sheet."""
        if self.in_style:
            self.found += FOREIGN_IN_CSS.findall(CSS_COMMENT.sub("", data))

    def handle_endtag(self, tag: str) -> None:
        """Leave a style sheet."""
        self.in_style = False


def foreign_loads(html: Path) -> list[str]:
    """Each address on another host that a page or a style sheet under a folder would load."""
    problems = []
    for path in sorted(html.rglob("*")):
        if path.suffix == ".html":
            parser = _Loads()
            parser.feed(path.read_text(encoding="utf-8"))
            found = parser.found
        elif path.suffix == ".css":
            found = FOREIGN_IN_CSS.findall(CSS_COMMENT.sub("", path.read_text(encoding="utf-8")))
        else:
            continue
        problems += [f"{path.relative_to(html)}: {address}" for address in dict.fromkeys(found)]
    return problems


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the book of the current folder; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the book from the records of runs.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument(
        "--output", type=Path, default=Path(), help="folder in which _build/html is made"
    )
    options = parser.parse_args(arguments)
    try:
        index = build(Path.cwd(), options.results, options.output.resolve())
    except QapruneError as error:
        _say(f"the book was not built: {error}")
        return 1
    _say(f"the book: {index}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
