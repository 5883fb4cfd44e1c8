"""Imports go one way: from a part to those before it, and from the study to the library only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = (
    *("errors", "device", "progress", "cache"),
    *("data", "models", "gates", "evaluation", "training", "scorers", "pruning"),
    *("__init__", "cli"),
)
STUDY = (
    *("command", "records", "plan", "stages"),
    *("expressions", "paper", "markup", "linked", "names", "frames", "claims", "tables"),
    *(
        "scoreboard",
        "curve_tables",
        "paper_tables",
        "compressed",
        "benchmarks",
        "figures",
        "interactive",
        "operating_points",
    ),
    *("explorer", "pages", "summary", "build", "__init__", "__main__"),
)
"""The parts of each house, each of which may import those before it."""


def part_of(path: Path, package: Path) -> str:
    """The folder in a package, or the module where it stands in none."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports, in functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}"


def upward(package: str, order: tuple[str, ...]) -> list[str]:
    """Imports of a part from one that stands behind it."""
    folder, found = ROOT / package, []
    for path in sorted(folder.rglob("*.py")):
        part = part_of(path, folder)
        for line, name in imports(path):
            words = name.split(".")
            known = words[0] == package and len(words) > 1 and words[1] in order
            if known and order.index(words[1]) > order.index(part):
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


@pytest.mark.parametrize(("package", "order"), [("qaprune_lib", LIBRARY), ("study", STUDY)])
def test_imports_go_one_way(package: str, order: tuple[str, ...]) -> None:
    parts = {part_of(path, ROOT / package) for path in (ROOT / package).rglob("*.py")}
    assert parts == set(order), "a part has no place in the order"
    assert not upward(package, order)


def test_the_library_knows_nothing_of_the_study() -> None:
    for path in (ROOT / "qaprune_lib").rglob("*.py"):
        assert not [name for _, name in imports(path) if name.split(".")[0] == "study"], path


def test_no_two_modules_of_the_library_share_a_name() -> None:
    names = [path.stem for path in (ROOT / "qaprune_lib").rglob("*.py") if path.stem != "__init__"]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def test_an_import_the_wrong_way_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "house" / "low").mkdir(parents=True)
    (tmp_path / "house" / "high.py").write_text("from house.low import thing\n")
    (tmp_path / "house" / "low" / "thing.py").write_text("def f():\n    import house.high\n")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert upward("house", ("low", "high")) == ["house/low/thing.py:2 imports house.high"]
