"""Build the book from records: `python -m study book`.

Reads the records, runs the report notebooks over them, and hands the result to Jupyter Book. The
book is refused where a record is damaged, a notebook fails, a page is missing, or a page would load
something from another host. Needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.resources import files
from pathlib import Path

from qaprune_lib.errors import QapruneError
from study.command import command, parser, say
from study.records.record import read_records
from study.stages.run import KERNEL_SECONDS

REPORT = Path("notebooks/report")
GENERATED = Path("book/_generated")
STATIC = GENERATED / "_static"

INPUTS = (
    *("_config.yml", "_toc.yml", "requirements.lock", "requirements-book.lock"),
    *("book/**/*", "notebooks/report/*.ipynb", "profiles/*.yml", "qaprune_lib/**/*", "study/**/*"),
    "benchmarks/records/*.json",
)
"""Files of a checkout that a book depends on, beside the records."""

STAMP = "inputs.txt"
"""File beside a built book that holds the digest of what it was built of."""

FOREIGN = re.compile(r"\s*(https?:)?//", re.IGNORECASE)
FOREIGN_IN_CSS = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")\s]+)", re.IGNORECASE)
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
LOADING = ("src", "srcset", "data", "poster")
"""Attributes by which an HTML element loads something."""
NOT_LOADED = {"canonical", "author", "license", "next", "prev", "index", "search"}
"""Values of `rel` with which a <link> only points."""


class BookError(QapruneError):
    """The book cannot be built, or must not be: says what is wrong and where."""


def build(root: Path, results: Path, output: Path) -> Path:
    """Build a checkout's book, unless it was built of the same files; returns its `index.html`."""
    say("==> records")
    say(f"{len(read_records(results))} records under {results}")
    html = output / "_build" / "html"
    index, stamp = html / "index.html", html.parent / STAMP
    digest = inputs_digest(root, results)
    if index.is_file() and stamp.is_file() and stamp.read_text() == digest:
        say("nothing has changed since the book was built")
        return index
    notebooks = report_notebooks(root)
    say(f"==> {len(notebooks)} report pages")
    run_notebooks(notebooks, root, results)
    say("==> scripts and fonts of the pages")
    copy_assets(root / STATIC)
    say("==> Jupyter Book")
    stamp.unlink(missing_ok=True)
    _jupyter_book(root, output)
    if problems := foreign_loads(html):
        raise BookError("pages load from other hosts:\n" + "\n".join(problems))
    stamp.write_text(digest)
    return index


def inputs_digest(root: Path, results: Path) -> str:
    """SHA-256 (hex) over names and contents of all that a book depends on."""
    digest = hashlib.sha256(sys.version.encode())
    for folder, patterns in ((root, INPUTS), (results, ("**/*",))):
        for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
            name = path.relative_to(folder)
            if path.is_file() and not {"_generated", "__pycache__"} & set(name.parts):
                content = path.read_bytes()
                digest.update(f"{name.as_posix()}\0{len(content)}\0".encode())
                digest.update(content)
    return digest.hexdigest()


def report_notebooks(root: Path) -> list[Path]:
    """The report notebooks; a `BookError` where they are not the pages of the table of contents."""
    toc = (root / "_toc.yml").read_text(encoding="utf-8")
    pages = set(re.findall(rf"(?:file|root): {GENERATED.as_posix()}/([^/\s]+)$", toc, re.MULTILINE))
    notebooks = {path.stem: path for path in sorted((root / REPORT).glob("*.ipynb"))}
    if missing := sorted(pages - notebooks.keys()):
        raise BookError(f"_toc.yml names pages without a notebook in {REPORT}: {missing}")
    if extra := sorted(notebooks.keys() - pages):
        raise BookError(f"notebooks in {REPORT} that _toc.yml does not name: {extra}")
    return list(notebooks.values())


def run_notebooks(notebooks: Sequence[Path], root: Path, results: Path) -> None:
    """Run report notebooks into `book/_generated`: all of them, before the error of one is told."""
    (root / GENERATED).mkdir(parents=True, exist_ok=True)
    failures = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {pool.submit(_run, path, root, results): path for path in notebooks}
        for number, run in enumerate(as_completed(runs), start=1):
            error = run.result()
            say(f"[{number}/{len(runs)}] {runs[run].stem}{': failed' if error else ''}")
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
    """Copy MathJax and the classes of Jupyter's widgets from the packages that carry them."""
    shutil.rmtree(folder, ignore_errors=True)
    widgets = folder / "jupyter-widgets"
    widgets.mkdir(parents=True)
    try:
        mathjax = Path(str(files("sphinx-mathjax-offline"))) / "static/mathjax"
        for part in ("output/chtml/fonts", "input/tex/extensions"):
            shutil.copytree(mathjax / part, folder / "mathjax" / part)
        shutil.copy(mathjax / "tex-chtml.js", folder / "mathjax")
        shutil.copy(Path(str(files("widgetsnbextension"))) / "static/extension.js", widgets)
    except (ImportError, OSError) as error:
        raise BookError(f"scripts of the book: {error}: pip install -e '.[book]'") from error
    shutil.copy(folder.parent.parent / "_static" / "widgets.js", widgets)


def _jupyter_book(root: Path, output: Path) -> None:
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += [str(root), "--path-output", str(output), "--all", "-W", "-n", "--keep-going"]
    html = output / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)  # no page of an earlier book may stay
    log = output / "_build" / "book.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, check=False, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line for line in lines if re.search("warning|error", line, re.IGNORECASE)]
        raise BookError("\n".join(["Jupyter Book failed:", *told, f"All that it said: {log}"]))


def foreign_loads(html: Path) -> list[str]:
    """Each address on another host that a page or a style sheet under a folder would load."""
    problems: dict[str, None] = {}
    for path in sorted(path for path in html.rglob("*") if path.suffix in (".html", ".css")):
        text = path.read_text(encoding="utf-8")
        found = _of_page(text) if path.suffix == ".html" else _of_style(text)
        problems |= dict.fromkeys(f"{path.relative_to(html)}: {address}" for address in found)
    return list(problems)


def _of_page(text: str) -> Iterator[str]:
    from bs4 import BeautifulSoup

    for element in BeautifulSoup(text, "html.parser").find_all(True):
        loads = [str(element[name]) for name in LOADING if element.has_attr(name)]
        if element.name == "link" and not NOT_LOADED & set(element.get("rel") or []):
            loads.append(str(element.get("href", "")))
        yield from (address for address in loads if FOREIGN.match(address))
        style = element.get_text() if element.name == "style" else ""
        yield from _of_style(f"{element.get('style', '')} {style}")


def _of_style(text: str) -> list[str]:
    return FOREIGN_IN_CSS.findall(CSS_COMMENT.sub("", text))


@command
def main(arguments: Sequence[str] | None) -> None:
    """Build the book of the current folder."""
    line = parser("book", __doc__, "results")
    line.add_argument("--output", default=".", help="folder in which _build/html is made")
    options = line.parse_args(arguments)
    say(f"the book: {build(Path.cwd(), Path(options.results), Path(options.output).resolve())}")
