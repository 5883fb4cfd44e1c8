"""Training on two processes of one thread against one process of two threads, at one global batch.

Both have the same two cores. Each round starts the processes anew; what is compared is the time of
a step, as the run's report has it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.shared import Measured, Row, main
from qaprune_lib.evaluation.rounds import in_turns
from study.records.lineage import ROOT

_LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node")
_WORK = """
import json, os, sys
from benchmarks.shared import load
import qaprune_lib as qp, torch
model, batch_size, steps, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
train = qp.load_squad("embedded")["train"].select(range(2 * batch_size * steps))
trained = qp.finetune(load(model, device="cpu"), train, batch_size=batch_size, max_steps=steps)
report = trained.training_report
if os.environ.get("RANK", "0") == "0":
    open(out, "w").write(json.dumps([report.seconds_per_step, *report.losses]))
"""


def seconds_per_step(n_processes: int, model: str, batch_size: int, steps: int) -> float:
    """Of a fresh run on so many processes, which have two cores between them."""
    threads = str(2 // n_processes)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads,
                   "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        script, out = Path(folder) / "work.py", Path(folder) / "out.json"
        script.write_text(_WORK)
        launcher = (*_LAUNCHER, str(n_processes)) if n_processes > 1 else ()
        arguments = (model, str(batch_size), str(steps), str(out))
        command = [sys.executable, *launcher, str(script), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        seconds: float = json.loads(out.read_text())[0]
    return seconds


def measure(
    *, model: str = "minilm", batch_size: int = 16, steps: int = 4, rounds: int = 3
) -> Measured:
    """Speed of two processes over that of one, in turns."""
    clocks = [partial(seconds_per_step, n, model, batch_size, steps) for n in (2, 1)]
    found = in_turns(clocks, rounds, warm_up=0)
    row = Row(
        "training on 2 processes of 1 thread, steps per second",
        f"1 process of 2 threads ({model}, batch {batch_size})",
        found.ratios(1),
        least=0.95,
        repeated=found.repeated,
    )
    return Measured([row])


if __name__ == "__main__":
    main(measure)
