"""How long a fresh Python takes to import the library and to load its first model.

Each is timed in a process of its own, from inside, so that the start of Python does not count.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.shared import Measured, Row, main
from qaprune_lib.evaluation.rounds import in_turns
from study.records.lineage import ROOT

WHY_LOAD = (
    "import transformers is lazy: its tokenizer and model classes are imported at their first use, "
    "which takes as long again in any program that loads a model (the next row has it)"
)


def seconds(code: str) -> float:
    """What some lines take in a fresh process."""
    timed = f"import time; begin = time.perf_counter()\n{code}\nprint(time.perf_counter() - begin)"
    command = [sys.executable, "-W", "ignore", "-c", timed]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.splitlines()[-1])


def measure(*, model: str = "embedded-small", rounds: int = 5) -> Measured:
    """Seconds of each in turns."""
    both = "import torch, transformers"
    used = "from transformers import AutoTokenizer, BertForQuestionAnswering"
    codes = [
        both,
        "import qaprune_lib",
        f"import qaprune_lib\nqaprune_lib.load_model({model!r}, device='cpu')",
        f"{both}\n{used}",
    ]
    found = in_turns([partial(seconds, code) for code in codes], rounds, warm_up=0)
    return Measured(
        [
            Row(
                "import qaprune_lib",
                "time itself",
                [row[1] for row in found.seconds],
                most=0.1,
                unit=" s",
                repeated=found.repeated,
            ),
            Row(
                f"import and first load_model({model!r})",
                both,
                found.ratios(2),
                most=1.15,
                why=WHY_LOAD,
                repeated=found.repeated,
            ),
            Row(
                f"import and first load_model({model!r})",
                f"{both}; {used}",
                found.ratios(2, 3),
                repeated=found.repeated,
            ),
        ],
        {"seconds_of_imports": [row[0] for row in found.seconds]},
    )


if __name__ == "__main__":
    main(measure)
