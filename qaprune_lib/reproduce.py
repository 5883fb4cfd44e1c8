"""Run every experiment of a profile: `python -m qaprune_lib.reproduce profiles/embedded.yml`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qaprune_lib.errors import QapruneError
from qaprune_lib.profiles import read_profile
from qaprune_lib.runs import Workspace
from qaprune_lib.stages import Experiment, Questions


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 0 once all is done, 2 on an error that the message explains."""
    parser = argparse.ArgumentParser(prog="python -m qaprune_lib.reproduce", description=__doc__)
    parser.add_argument("profile", type=Path, help="a file such as profiles/embedded.yml")
    parser.add_argument("--data", help="where the questions are, if the profile does not say")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of models")
    parser.add_argument(
        "--accept-stale", action="store_true", help="keep records that older code has made"
    )
    options = parser.parse_args(arguments)
    try:
        profile = read_profile(options.profile, source=options.data)
        workspace = Workspace(
            profile=profile.name,
            provenance=profile.provenance,
            results=options.results,
            artifacts=options.runs,
            accept_stale=options.accept_stale,
        )
        experiment = Experiment(profile, Questions.load(profile), workspace)
        experiment.base()
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
