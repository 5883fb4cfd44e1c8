"""The digest of a stage's code changes with what can change its result, and with nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qaprune_lib.experiment.parameters import STAGES
from qaprune_lib.report.code import PACKAGE, code_digest


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the library, with the notebooks beside it."""
    ignore = shutil.ignore_patterns("__pycache__", "report", ".*")
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PACKAGE.parent / "notebooks", tmp_path / "notebooks", ignore=ignore)
    return tmp_path / PACKAGE.name


def digests(package: Path) -> dict[str, str]:
    code_digest.cache_clear()
    return {stage: code_digest(stage, package) for stage in [*STAGES, "select"]}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_a_copy_has_the_digests_of_the_library(copy: Path) -> None:
    assert digests(copy) == digests(PACKAGE)
    assert len(set(digests(copy).values())) == len(STAGES) + 1


CHANGES: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "a docstring": (
        lambda p: edit(p / "training" / "finetune.py", '"""Fine-tuning', '"""Training'),
        set(),
    ),
    "a comment": (
        lambda p: edit(p / "pruning" / "slicing.py", "from __future__", "# c\nfrom __future__"),
        set(),
    ),
    "report": (
        lambda p: edit(p / "report" / "records.py", "SLUG_LENGTH = 60", "SLUG_LENGTH = 50"),
        set(),
    ),
    "export, which no stage reads": (
        lambda p: edit(p / "pruning" / "export.py", "import ", "import os\nimport "),
        set(),
    ),
    "the L0 scorer": (
        lambda p: edit(
            p / "scorers" / "l0.py", "initial_mean: float = 2.5", "initial_mean: float = 2.0"
        ),
        {"score"},
    ),
    "the selection": (
        lambda p: edit(p / "experiment" / "select.py", "max(good)", "min(good)"),
        {"select"},
    ),
    "windows": (
        lambda p: edit(p / "data" / "windows.py", "import ", "import os\nimport "),
        set(STAGES),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_right_stages_change(copy: Path, change: str) -> None:
    before = digests(copy)
    apply, stages = CHANGES[change]
    apply(copy)
    after = digests(copy)
    assert {stage for stage in before if before[stage] != after[stage]} == stages


@pytest.mark.parametrize(
    ("tag", "changed"), [("figure", set()), ("parameters", set()), (None, {"prune"})]
)
def test_a_notebook_counts_without_figures_and_defaults(
    copy: Path, tag: str | None, changed: set[str]
) -> None:
    before = digests(copy)
    path = copy.parent / "notebooks" / "03_prune.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and (tag in tags if tag else not tags):
            cell["source"] = [*cell["source"], "\nextra = 1"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    after = digests(copy)
    assert {stage for stage in before if before[stage] != after[stage]} == changed
