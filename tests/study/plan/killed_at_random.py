"""Kills calls of the graph at random times, and goes on; more often than the suite has time for.

python -m tests.study.plan.killed_at_random FOLDER --kills 200

Prints what it did, and fails unless every graph ends as an undisturbed one.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.study.plan.graph_folder import LIMIT, Graph

WAYS = ("all", "terminated", "snakemake")
"""Everything at once (`kill -9`), everything asked to end, or Snakemake alone: its jobs go on."""


def start_and_kill(graph: Graph, chance: random.Random, how: str) -> bool:
    """Start a call and kill it one of `WAYS`; False if it came to its end before."""
    call = graph.start(STAND_IN_SECONDS="0-0.5")
    if chance.random() < 0.7:  # time counted in events, so that a slow machine gets as far
        events = graph.n_events() + chance.randint(1, 4)
        wait_until(lambda: graph.n_events() >= events, call)
        time.sleep(chance.uniform(0, 1))
    else:
        time.sleep(chance.uniform(0, 8))
    if call.poll() is not None:
        return False
    if how == "snakemake":
        call.kill()
    else:
        with suppress(ProcessLookupError):  # it came to its end by itself
            os.killpg(call.pid, signal.SIGKILL if how == "all" else signal.SIGTERM)
    try:
        call.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()
    return True


def wait_until(condition: Callable[[], Any], running: subprocess.Popen[bytes]) -> None:
    """Until it holds, or the process has ended."""
    deadline = time.monotonic() + LIMIT
    while not condition() and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def main() -> None:
    """Graph after graph, each killed until it is whole, until there were so many kills."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance, counts = random.Random(options.seed), Counter[str]()
    more = {"penalties": {"attn": [0.1, 0.15, 0.2, 0.4], "ff": [0.001, 0.002]}, "multiples": [1, 2]}
    undisturbed = Graph(options.folder / "undisturbed", "--cores", "2", **more)
    assert undisturbed.call() == 0
    undisturbed.check_whole()
    while sum(counts[way] for way in WAYS) < options.kills:
        graph = Graph(options.folder / f"graph{counts['graphs']}", "--cores", "2", **more)
        for _ in range(chance.randint(5, 20)):
            how = chance.choice(WAYS)
            counts[how] += start_and_kill(graph, chance, how)
            orphans = {job.pid for job in graph.jobs()}
            counts["calls that left jobs"] += bool(orphans)
        assert graph.call() == 0, graph.output
        graph.check_whole()
        assert not graph.jobs()
        assert graph.measured() == undisturbed.measured()
        counts["graphs"] += 1
        counts["runs begun"] += len(graph.begun())
        counts["runs ended"] += len(graph.ended())
        counts["runs planned"] += len(graph.planned())
        print(dict(counts), flush=True)
        shutil.rmtree(graph.folder)


if __name__ == "__main__":
    main()
