"""CONTRIBUTING's recipe for a scorer, followed: one new file, and it is everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

SCORER = '''
"""Magnitude: how large the weights are that a slice puts out."""

import numpy as np

from qaprune_lib.models import Encoder
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores


@scorer("magnitude of weights", kinds=("ff",), questions=None)
def magnitude(model, *, kinds=("ff",), seed=0, power=1):
    """Sum of |w|^power over the column of each activation."""
    layers = Encoder(model).layers
    outputs = [Encoder(model).module(i, "output").weight for i in range(len(layers))]
    sums = [w.detach().abs().pow(power).sum(0).double().numpy() for w in outputs]
    return GateScores.of("magnitude", model, {"ff": np.stack(sums)}, seed=seed)
'''

FOLLOWED = """
from pathlib import Path
from study.figures.curves import sparsity_curves
from study.frames import curve_points
from study.plan.parameters import Finetune, ScoreGates
from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.records.record import read_records
from study.stages.side_by_side import execute

tiny = dict(train_questions=40, heldout_questions=20, dev_questions=8, origin="embedded")
run = Finetune.checked(dict(tiny, model="embedded-small", max_steps=1, batch_size=4, results="out"))
execute(Path("notebooks/01_finetune.ipynb"), {**run.identity(), **run.place()})

profile = read_profile("sweep.yml")
[swept] = [r for r in Planner(profile).plan() if getattr(r, "scorer", "") == "magnitude"]
assert swept.options == {"power": 2} and swept.name.startswith("figure2/"), swept
chosen = dict(tiny, scorer="magnitude", kinds=["ff"], options=swept.options, model=run.reference)
chosen |= dict(penalty_attn=None, fractions=[0.5], curve_questions=8, results="out")
score = ScoreGates.checked(chosen)
execute(Path("notebooks/02_score_gates.ipynb"), {**score.identity(), **score.place()})

points = curve_points(read_records(Path("out")))
assert set(points["label"]) == {"magnitude of weights power 2"}, points["label"]
drawn = sparsity_curves(points, "ff").figure.axes[0].get_legend_handles_labels()[1]
assert "magnitude of weights power 2" in drawn, drawn
print("followed")
"""


def test_a_new_scorer_is_one_file(tmp_path: Path) -> None:
    for name in ("qaprune_lib", "study", "notebooks", "profiles"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "qaprune_lib" / "scorers" / "magnitude.py").write_text(SCORER)
    sweep = (ROOT / "profiles" / "embedded.yml").read_text()
    entry = "\nscorers:\n  - {scorer: magnitude, kinds: [ff], power: 2}\n"
    (tmp_path / "sweep.yml").write_text(sweep.replace("\nscorers:\n", entry, 1))
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert "followed" in done.stdout, done.stderr[-3000:]
