"""Parameter cells of the stages' notebooks, written from the parameter classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from study.command import command, parser, say
from study.plan.parameters import STAGES, StageParameters


def parameter_cell(stage: type[StageParameters]) -> str:
    """The source of a stage's `parameters` cell: each parameter, its default and what it means."""
    common = StageParameters.model_fields
    lines = ["# where the run belongs and what it reads"]
    for name, field in stage.model_fields.items():
        if name == next(name for name in stage.model_fields if name not in common):
            lines += ["", "# what this stage does"]
        value = field.get_default()
        literal = json.dumps(value) if isinstance(value, str | list | dict) else repr(value)
        lines.append(f"{name} = {literal}  # {field.description}")
    return "\n".join(lines)


def write_cells(folder: Path) -> list[Path]:
    """Write the cells into the notebooks of a folder; returns those that changed."""
    changed = []
    for stage in STAGES.values():
        path = folder / f"{stage.notebook}.ipynb"
        text = path.read_text(encoding="utf-8")
        notebook = json.loads(text)
        [cell] = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
        cell["source"] = parameter_cell(stage).splitlines(keepends=True)
        new = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if new != text:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line: `python -m study notebooks`."""
    line = parser("notebooks", __doc__)
    line.add_argument("folder", type=Path, nargs="?", default=Path("notebooks"))
    for path in write_cells(line.parse_args(arguments).folder):
        say(path)
