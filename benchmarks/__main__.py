"""All benchmarks, one after another, then their table: ``python -m benchmarks [NAME …]``."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.shared import text_table
from study.benchmarks import benchmark_places, read_benchmarks
from study.records.lineage import ROOT

NAMES = (
    "gate_training",
    "gradient_scores",
    "leave_one_out",
    "windows",
    "natural_questions_memory",
    "decoding",
    "decoding_with_windows",
    "pruned_speed",
    "serving",
    "latency_budget",
    "rivals",
    "sizes",
    "compute_dtype",
    "import_time",
    "kept_teacher",
    "data_parallel",
    "growth",
)
"""In the order of the table."""

BY_NAME = ("rivals",)
"""Not run unless named: the committed record is of a model and questions that are not ours."""


def main(names: list[str]) -> int:
    """Run these benchmarks, by default all but `BY_NAME`; says which of them failed."""
    names, failed = names or [name for name in NAMES if name not in BY_NAME], []
    if unknown := [name for name in names if name not in NAMES]:
        print(f"there is no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
        return 2
    for number, name in enumerate(names, start=1):
        print(f"==> [{number}/{len(names)}] {name}", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-2000:])
    records = read_benchmarks([name for name in names if name not in failed])
    print(text_table(records))
    print("\n".join(benchmark_places(records)))
    if failed:
        print(f"failed: {', '.join(failed)}")
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
