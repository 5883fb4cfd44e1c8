"""One page of the API reference for each package: the names of its `__all__`, where they live.

Read from the sources, never imported: the book is built without torch.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from astroid.manager import AstroidManager
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

LIBRARY = "qaprune_lib"
PAGES = Path("book/_generated/api")

MENTIONED = [
    ("class", f"{LIBRARY}.{name}")
    for name in (
        "data.natural_questions.stream.NaturalQuestions",
        "data.natural_questions.example.Example",
        "data.natural_questions.example.Span",
        "evaluation.natural_questions.AnswerScores",
        "evaluation.predict.Answer",
        "evaluation.timing.Timing",
    )
]
"""Classes that no package exports, but that public signatures name."""

ALIASES = {
    "ComputeDtype",
    "JsonValue",
    "OnBad",
    "PenaltyOn",
    "Provenance",
    "QuestionData",
    "Task",
    "Version",
    "YesNo",
}
"""Types of a few words, which have no entry of their own."""


def public_objects(root: Path, package: Path) -> Iterator[tuple[str, str]]:
    """Directive and full dotted name of each public class and function of a package."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for name in _exported(tree):
        home = homes.get(name)
        if home and (directive := _directive(root, home, name)):
            yield directive, f"{home}.{name}"


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _directive(root: Path, module: str, name: str) -> str | None:
    path = root / f"{module.replace('.', '/')}.py"
    if not path.is_file():
        return None  # a package that is public as a whole has a page of its own
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef(name=found) if found == name:
                return "class"
            case ast.FunctionDef(name=found) if found == name:
                return "function"
    return None  # constants and types need no page


def write_pages(app: Sphinx, config: Config) -> None:
    """Write the pages: a package's own public names, and those of the library that live in it."""
    root = Path(app.srcdir)
    library = root / LIBRARY
    flat = [*public_objects(root, library), *MENTIONED]
    for package in sorted(path.parent for path in library.glob("*/__init__.py")):
        own = f"{LIBRARY}.{package.name}."
        objects = dict.fromkeys(entry for entry in flat if entry[1].startswith(own))
        objects |= dict.fromkeys(
            entry for entry in public_objects(root, package) if entry[1].startswith(own)
        )
        if objects:
            _write(root, package.name, package / "__init__.py", list(objects))
    errors = library / "errors.py"
    classes = [
        ("class", f"{LIBRARY}.errors.{node.name}")
        for node in ast.parse(errors.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    _write(root, "errors", errors, classes)


def _write(root: Path, name: str, source: Path, objects: list[tuple[str, str]]) -> None:
    blocks = [
        f"(api-{name})=\n# {LIBRARY}.{name}\n",
        (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "") + "\n",
    ]
    for directive, full in objects:
        options = "   :members:\n   :member-order: bysource\n" if directive == "class" else ""
        blocks.append(f"```{{eval-rst}}\n.. autoapi{directive}:: {full}\n{options}```\n")
    path = root / PAGES / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(blocks), encoding="utf-8")


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a name that a package re-exports to the one place where it is documented.

    Names of other projects stay text: their inventories are on other hosts. Any other name that is
    not found is left to Sphinx, which warns.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    last = target.rpartition(".")[2]
    found = {
        (docname, anchor)
        for full, _, _, docname, anchor, _ in env.get_domain("py").get_objects()
        if full.rpartition(".")[2] == last
    }
    if len(found) == 1 and (target == last or target.startswith(f"{LIBRARY}.")):
        [(docname, anchor)] = found
        return make_refnode(app.builder, node["refdoc"], docname, anchor, content)
    internal = target.startswith(LIBRARY) and last not in ALIASES
    return None if internal else content


def escape(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Let |x| be an absolute value: reStructuredText would take it for a substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


class _OtherProjects(set[str]):
    """The names of all modules but this library's and Python's own."""

    def __contains__(self, name: object) -> bool:
        top = str(name).partition(".")[0]
        return top != LIBRARY and top not in sys.stdlib_module_names


def skip(app: Sphinx, what: str, name: str, obj: object, skipped: bool, options: object) -> bool:
    """Leave out pydantic's configuration, which is no field."""
    return skipped or name.rpartition(".")[2] == "model_config"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    # where torch is installed, reading it too would take minutes and change nothing
    AstroidManager.brain["module_denylist"] = _OtherProjects()
    app.connect("config-inited", write_pages)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", escape)
    return {"parallel_read_safe": True}
