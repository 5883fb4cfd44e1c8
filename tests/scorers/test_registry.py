"""Scorers by name: what figures and sweeps know of them, and one file for a new one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qaprune_lib import scorers
from qaprune_lib.models import KINDS

PACKAGE = Path(scorers.__file__).parent
NEW = '''
"""A sixth scorer."""
import numpy as np
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores

@scorer("order of layers", kinds=("ff",), questions=None)
def layers(model):
    size = model.config.intermediate_size
    numbers = np.arange(model.config.num_hidden_layers)[:, None]
    return GateScores.of("layers", model, {"ff": numbers * np.ones(size)})
'''
USED = """
import qaprune_lib as qp
from tests.training.toy import small_bert
assert list(qp.scorers.SCORERS)[-1] == "layers"
entry = qp.scorers.SCORERS["layers"]
assert (entry.label, entry.kinds, entry.questions) == ("order of layers", ("ff",), None)
assert entry.function is qp.scorers.layers
model = small_bert()
small = qp.prune(model, qp.Topology.from_scores(entry.function(model), fraction=0.5))
assert qp.Topology.of(small).counts("ff") == (0, 16)
"""


KINDS_OF = {"leave_one_out": ("attn",), "surgeon": ("attn", "ff")}


def test_the_paper_s_approaches_come_first() -> None:
    found = {name: (s.label, s.questions) for name, s in scorers.SCORERS.items()}
    assert list(found.items()) == [
        ("random", ("random", None)),
        ("gain", ("gain", "train")),
        ("leave_one_out", ("leave-one-out", "dev")),
        ("l0", ("L0", "train")),
        ("fisher", ("Fisher", "train")),
        ("surgeon", ("brain surgeon", "train")),
    ]
    for name, scorer in scorers.SCORERS.items():
        assert scorer.function is getattr(scorers, name)
        assert scorer.kinds == KINDS_OF.get(name, KINDS)


@pytest.mark.slow
def test_a_new_scorer_is_one_new_file(tmp_path: Path) -> None:
    library = tmp_path / "qaprune_lib"
    (library / "scorers").mkdir(parents=True)
    for source in (*PACKAGE.parent.iterdir(), *PACKAGE.iterdir()):
        target = library / source.relative_to(PACKAGE.parent)
        if source != PACKAGE and source.name != "__pycache__":
            target.symlink_to(source)
    (library / "scorers" / "layers.py").write_text(NEW)
    root = PACKAGE.parents[1]
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]\n{USED}"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
