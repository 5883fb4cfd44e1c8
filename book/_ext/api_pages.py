"""One page of the API reference for each package: its public names, and what their signatures name.

Read from the sources, never imported: the book is built without torch.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
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

Entry = tuple[str, ast.ClassDef | ast.FunctionDef]
"""The module of a class or function, and its definition."""


class Library:
    """The sources of a checkout's library, by the dotted names of modules."""

    def __init__(self, root: Path) -> None:
        self.modules = {}
        for path in sorted((root / LIBRARY).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            text = path.read_text(encoding="utf-8")
            self.modules[name.removesuffix(".__init__")] = ast.parse(text)

    def find(self, module: str, name: str) -> Entry | None:
        """The class or function that a module defines under a name, or imports."""
        for node in ast.walk(self.modules.get(module, ast.Module([], []))):
            match node:
                case ast.ClassDef() | ast.FunctionDef() if node.name == name:
                    return module, node
                case ast.ImportFrom(module=str(home)) if home != module:
                    if name in [alias.name for alias in node.names]:
                        return self.find(home, name)
        return None

    def public(self) -> dict[str, Entry]:
        """What packages have in `__all__`, errors, and the classes that their signatures name."""
        names = {
            (module, name)
            for module, tree in self.modules.items()
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            for name in ast.literal_eval(node.value)
        }
        errors = f"{LIBRARY}.errors"
        names |= {
            (errors, n.name) for n in self.modules[errors].body if isinstance(n, ast.ClassDef)
        }
        entries: dict[str, Entry] = {}
        while names:
            found = [entry for name in sorted(names) if (entry := self.find(*name))]
            new = {f"{entry[0]}.{entry[1].name}": entry for entry in found}
            new = {full: entry for full, entry in new.items() if full not in entries}
            entries |= new
            names = {(module, name) for module, node in new.values() for name in _named(node)}
        return entries

    def constants(self) -> set[str]:
        """Names of constants and types, which have no entry of their own."""
        nodes = [node for tree in self.modules.values() for node in ast.walk(tree)]
        found = {ast.unparse(t) for n in nodes if isinstance(n, ast.Assign) for t in n.targets}
        return found | {ast.unparse(n.target) for n in nodes if isinstance(n, ast.AnnAssign)}


def _named(node: ast.AST) -> set[str]:
    """Capitalised names in the annotations of a function, or of a class's public parts."""
    annotations: list[ast.expr | None] = []
    for part in node.body if isinstance(node, ast.ClassDef) else [node]:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            arguments = (each for each in ast.walk(part.args) if isinstance(each, ast.arg))
            annotations += [part.returns, *(argument.annotation for argument in arguments)]
        if isinstance(part, ast.AnnAssign):
            annotations.append(part.annotation)
    names = (name for each in annotations if each is not None for name in ast.walk(each))
    return {name.id for name in names if isinstance(name, ast.Name) and name.id[0].isupper()}


@cache
def _library(root: str) -> Library:
    return Library(Path(root))


def write_pages(app: Sphinx, config: Config) -> None:
    """Write a page for each package, and one for the errors."""
    library = _library(str(app.srcdir))
    pages: dict[str, dict[str, str]] = {}
    for full, (module, node) in library.public().items():
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        pages.setdefault(".".join(module.split(".")[:2]), {})[full] = kind
    for page, entries in pages.items():
        name, doc = page.rpartition(".")[2], ast.get_docstring(library.modules[page]) or ""
        blocks = [f"(api-{name})=\n# {page}\n", f"{doc}\n"]
        for full, kind in entries.items():
            options = "   :members:\n   :member-order: bysource\n" if kind == "class" else ""
            blocks.append(f"```{{eval-rst}}\n.. autoapi{kind}:: {full}\n{options}```\n")
        path = Path(app.srcdir) / PAGES / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(blocks), encoding="utf-8")


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a name that a package re-exports to the one place where it is documented.

    Constants and names of other projects stay text: their inventories are on other hosts. Any other
    name that is not found is left to Sphinx, which warns.
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
    internal = target.startswith(f"{LIBRARY}.")
    if len(found) == 1 and (target == last or internal):
        [(docname, anchor)] = found
        return make_refnode(app.builder, node["refdoc"], docname, anchor, content)
    return None if internal and last not in _library(str(app.srcdir)).constants() else content


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
