"""A small book: the real pages and settings, with stand-ins for the report notebooks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]

FIGURE = """
from pathlib import Path

lines = '<path d="M0 100 L150 20 L300 60" stroke="black" fill="none"/>'
Path("book/_generated/drawn.svg").write_text(
    f'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="120">{lines}</svg>'
)
"""

SHOWN = """
```{figure} drawn.svg
:name: fig-drawn
:alt: A line that rises and falls.

A figure of {numref}`fig-drawn` and an equation $x_i^2$ beside it.
```
"""

OVERVIEW = """
from pathlib import Path

Path("book/_generated/overview.md").write_text("an overview of all claims\\n")
"""
"""What the first page includes."""

WIDGETS = """
from ipywidgets import HTML, IntSlider, Stack, Tab, VBox, jslink

slider = IntSlider(description="λ", max=2)
stack = Stack([HTML(f"<p class='pane'>pane {i}</p>") for i in range(3)], selected_index=0)
jslink((slider, "value"), (stack, "selected_index"))
VBox([slider, stack, Tab([HTML("first tab"), HTML("second tab")], titles=["one", "two"])])
"""


def notebook(*cells: str) -> nbformat.NotebookNode:
    """A notebook without outputs: a cell that starts with # or ` is prose, the others are code."""
    v4 = nbformat.v4
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = v4.new_notebook(metadata={"kernelspec": kernel})
    for cell in cells:
        prose = cell.lstrip().startswith(("#", "`"))
        made.cells.append(v4.new_markdown_cell(cell) if prose else v4.new_code_cell(cell))
    made.cells.insert(1, v4.new_code_cell('results = ""', metadata={"tags": ["parameters"]}))
    return made


def checkout(folder: Path, notebooks: Mapping[str, nbformat.NotebookNode]) -> Path:
    """A checkout whose table of contents is the real one, and whose report notebooks are given.

    Pages that are not given show no more than their title.
    """
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(
        ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("_generated", "__pycache__")
    )
    (folder / "qaprune_lib").symlink_to(ROOT / "qaprune_lib")
    (folder / "results").mkdir()
    report = folder / "notebooks" / "report"
    report.mkdir(parents=True)
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    for page in re.findall(r"book/_generated/(\w+)$", toc, re.MULTILINE):
        cells = [f"# {page}", OVERVIEW] if page == "scoreboard" else [f"# {page}"]
        nbformat.write(notebooks.get(page) or notebook(*cells), report / f"{page}.ipynb")
    return folder
