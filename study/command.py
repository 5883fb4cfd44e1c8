"""What the commands of `python -m study` share: their options, and how errors are told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from qaprune_lib.errors import QapruneError

FOLDERS = {
    "source": (None, "of the questions, where the profile names none"),
    "results": ("results", "of records"),
    "runs": ("runs", "of models and executed notebooks"),
    "notebooks": ("notebooks", "of the stages' notebooks"),
}


def parser(name: str, description: str | None, *options: str, **more: Any) -> Any:
    """An argument parser for a command, with "profile" and options for some of the `FOLDERS`."""
    made = argparse.ArgumentParser(prog=f"python -m study {name}", description=description, **more)
    for option in options:
        if option == "profile":
            made.add_argument(option, type=Path, metavar="PROFILE", help="profiles/NAME.yml")
        else:
            default, of = FOLDERS[option]
            made.add_argument(f"--{option}", default=default, metavar="FOLDER", help=f"folder {of}")
    return made


def command(main: Callable[[Sequence[str] | None], int | None]) -> Callable[..., int]:
    """A command line that tells an error in a line, with exit status 2."""

    @wraps(main)
    def called(arguments: Sequence[str] | None = None) -> int:
        try:
            return main(arguments) or 0
        except QapruneError as error:
            note(f"error: {error}")
            return 2

    return called


def say(line: object) -> None:
    """A line on standard output, at once."""
    print(line, flush=True)  # noqa: T201


def note(line: object) -> None:
    """A line on standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
