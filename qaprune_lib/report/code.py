"""A digest of the code that a run's result depends on, so that a later change of it is noticed."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from qaprune_lib.experiment.parameters import STAGES

PACKAGE = Path(__file__).resolve().parents[1]
NAME = PACKAGE.name


@cache
def code_digest(stage: str, package: Path = PACKAGE) -> str:
    """SHA-256 (hex) over the stage's notebook and every module of the library that it reaches.

    Comments, docstrings and formatting do not count, nor do the `report` part, which changes no
    result, the notebook's figures and the defaults of its parameters, which every record states.

    Raises:
        FileNotFoundError: no notebook and no module of that name.
    """
    trees = [_tree(source) for source in _stage_sources(stage, package)]
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(ast.dump(tree).encode())
    for module, path in sorted(_reached(trees, package).items()):
        digest.update(f"{module}\0{ast.dump(_tree(path.read_text(encoding='utf-8')))}".encode())
    return digest.hexdigest()


def _stage_sources(stage: str, package: Path) -> list[str]:
    if stage in STAGES:
        path = package.parent / "notebooks" / f"{STAGES[stage].notebook}.ipynb"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [
            "".join(cell["source"])
            for cell in cells
            if cell["cell_type"] == "code"
            and not {"figure", "parameters"} & set(cell["metadata"].get("tags", []))
        ]
    return [(package / "experiment" / f"{stage}.py").read_text(encoding="utf-8")]


def _tree(source: str) -> ast.Module:
    """The syntax tree without docstrings and without imports that only type checkers follow."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if ast.get_docstring(node) if isinstance(node, _DOCUMENTED) else None:
            body = body[1:]
        node.body = [child for child in body if not _for_type_checkers(child)]  # type: ignore[attr-defined]
    return tree


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _for_type_checkers(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def _reached(trees: list[ast.Module], package: Path) -> dict[str, Path]:
    """Modules of the library, by name, that the given code imports, and those that they import."""
    found: dict[str, Path] = {}
    waiting = [path for tree in trees for path in _imported(tree, package)]
    while waiting:
        path = waiting.pop()
        module = path.relative_to(package).as_posix()
        if module not in found and path.relative_to(package).parts[0] != "report":
            found[module] = path
            waiting.extend(_imported(_tree(path.read_text(encoding="utf-8")), package))
    return found


def _imported(tree: ast.Module, package: Path) -> Iterator[Path]:
    """Files of the library that a module imports names from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            top, _, inner = name.partition(".")
            if top == NAME and inner:
                inner = _public_names(package).get(inner, inner)
                # the name is a module, or it stands in one
                files = (_file(inner, package), _file(inner.rpartition(".")[0], package))
                yield from [path for path in files if path][:1]


def _file(module: str, package: Path) -> Path | None:
    if not module:
        return None
    base = package.joinpath(*module.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


@cache
def _public_names(package: Path) -> dict[str, str]:
    """Which module each flat public name of the library comes from."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            return ast.literal_eval(node.value)
    return {}
