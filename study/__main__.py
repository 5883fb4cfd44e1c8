"""`python -m study COMMAND`: runs, records, and the book."""

from __future__ import annotations

import importlib
import sys

from study.command import say

COMMANDS = {
    "run": ("study.stages.run", "one stage's notebook, its parameters checked"),
    "graph": ("study.plan.graph", "all runs of a profile, through Snakemake"),
    "side-by-side": ("study.stages.side_by_side", "runs of a profile, for so many minutes"),
    "bundle": ("study.plan.bundle", "all that runs need on a machine without a network"),
    "merge": ("study.records.merge", "take in what a bundle has left"),
    "status": ("study.plan.status", "which runs a profile has, and which it lacks"),
    "select": ("study.plan.select", "the operating point, from recorded runs"),
    "notebooks": ("study.stages.notebooks", "write the parameter cells of the stages' notebooks"),
    "summary": ("study.summary", "the tables, as text"),
    "book": ("study.build", "the book, from the records"),
}


def main(arguments: list[str]) -> int:
    """Hand the rest of the command line to a command."""
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:14}{what}" for name, (_, what) in COMMANDS.items()]
        say("usage: python -m study COMMAND …, with --help for each\n" + "\n".join(lines))
        return 0 if arguments in (["-h"], ["--help"]) else 2
    module = importlib.import_module(COMMANDS[arguments[0]][0])
    return int(module.main(arguments[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
