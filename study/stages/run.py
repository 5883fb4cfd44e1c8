"""Run a stage's notebook: `python -m study run notebooks/01_finetune.ipynb out.ipynb`.

Papermill executes it. Papermill alone takes a misspelt parameter without a word and a string for a
number until something breaks; here names and values are checked first.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from qaprune_lib.errors import SettingsError
from study.command import command, note, parser
from study.plan.ownership import watch_owner
from study.plan.parameters import STAGES, unknown_name

KERNEL_SECONDS = 600
"""How long a kernel may take to start: papermill's minute is short where many start at once."""


def run_notebook(notebook: Path, output: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook with parameters; the executed notebook is kept, also when a cell fails."""
    check(notebook, parameters)
    import papermill

    os.environ["QAPRUNE_PROGRESS"] = "text"  # inherited by the kernel
    output.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters=dict(parameters),
        progress_bar=sys.stderr.isatty(),
        stderr_file=sys.stderr,
        cwd=os.getcwd(),
        start_timeout=KERNEL_SECONDS,
        extra_arguments=["--log-level=ERROR"],  # each kernel warns that its ports are not encrypted
    )


def check(notebook: Path, parameters: Mapping[str, Any]) -> None:
    """Raise SettingsError as `run_notebook` does, before any kernel is started."""
    names = parameter_names(notebook)
    for name in parameters:
        if name not in names:
            raise SettingsError(unknown_name(name, names, str(notebook)))
    for stage in STAGES.values():
        if stage.notebook == notebook.stem:
            # unset ones come from the notebook's own cell, which a test holds to the same defaults
            stage.read(parameters)


def parameter_names(notebook: Path) -> list[str]:
    """Names that the `parameters` cell of a notebook assigns."""
    import papermill

    try:
        names = list(papermill.inspect_notebook(str(notebook)))
    except OSError as error:
        raise SettingsError(f"{notebook}: cannot be read: {error.strerror}") from error
    except Exception as error:  # nbformat raises its own errors, and those of the JSON reader
        raise SettingsError(f"{notebook}: not a notebook: {error}") from error
    if not names:
        raise SettingsError(f"{notebook}: has no cell tagged 'parameters'")
    return names


def value_of(text: str) -> Any:
    """A command line's value: JSON, Python's None, True and False, or else a string."""
    words = {"None": None, "True": True, "False": False, "nan": math.nan, "inf": math.inf}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


@command
def main(arguments: Sequence[str] | None) -> int:
    """Command line; exit status 1 if a cell failed or its kernel ended, 2 if none was started."""
    line = parser("run", (__doc__ or "").split("\n\n")[0])
    line.add_argument("notebook", type=Path)
    line.add_argument("output", type=Path, help="the executed notebook")
    many: dict[str, Any] = {"action": "append", "default": []}
    read_as = "a parameter; the value is read as JSON where it is JSON"
    line.add_argument("-p", dest="named", nargs=2, metavar=("NAME", "VALUE"), help=read_as, **many)
    line.add_argument("--parameters", metavar="JSON", help="a JSON object of them", **many)
    options = line.parse_args(arguments)
    watch_owner()
    signal.signal(signal.SIGTERM, _pass_on)
    given: dict[str, Any] = {}
    for text in options.parameters:
        given |= _document(text)
    given |= {name: value_of(value) for name, value in options.named}
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        run_notebook(options.notebook, options.output, given)
    except DeadKernelError:
        again = "the same call goes on from what it kept"
        note(f"error: {options.notebook}: its kernel was ended: {again}")
        return 1
    except PapermillExecutionError as error:
        where = f"{options.notebook}, cell {error.cell_index + 1}"
        note(f"error: {where}: {error.ename}: {error.evalue}")
        note(f"the executed notebook with the traceback is {options.output}")
        return 1
    return 0


def _pass_on(number: int, _: object) -> None:
    """Hand a signal to the kernel, which keeps a checkpoint if it trains; this process follows."""
    for child in psutil.Process().children():
        child.send_signal(number)
    if not psutil.Process().children():
        sys.exit(128 + number)


def _document(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"--parameters is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise SettingsError(f"--parameters is not a JSON object: {text}")
    return given
