"""Two processes train as one does, at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.two_processes import losses

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    out = tmp_path / "losses"
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    subprocess.run(
        [sys.executable, *launcher, "-m", "tests.training.two_processes", str(out)],
        cwd=REPOSITORY,
        env=environment,
        check=True,
        timeout=300,
    )
    expected = losses()
    for rank in range(2):
        found = json.loads(out.with_suffix(f".{rank}").read_text())
        assert found.pop("sizes") == [2, 4]
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            tolerance = 1e-3 if name.startswith("log alpha") else 1e-5
            assert found[name] == pytest.approx(values, abs=tolerance), name
            assert len(values) >= 8
