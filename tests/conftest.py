"""What every test shares: one thread, fixed seeds, hypothesis without deadlines, real data."""

from __future__ import annotations

import gc
import os
import random
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.quick import FEW

REPOSITORY = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=FEW)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default")
)


@pytest.fixture(scope="module", autouse=True)
def _freeze() -> None:
    """What is there by now is no garbage: each training of transformers' collects, and each took
    longer for looking at all modules and tests than for its steps."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An example of the library that needs the extra nq is skipped without it."""
    for item in items:
        if item.name.endswith("evaluate_natural_questions") and not find_spec("natural_questions"):
            item.add_marker(pytest.mark.skip(reason="the extra nq is not installed"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets; tests that use it are skipped where there is none."""
    folder = Path(os.environ.get("QAPRUNE_SHARED", REPOSITORY / ".." / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (QAPRUNE_SHARED names its parent)")
    return folder.resolve()
