"""How many examples a property is tried on."""

from __future__ import annotations

import os

FEW = 5


def at_most(count: int) -> int:
    """All of these, or a few in `make test-quick`, whose hypothesis profile is called "quick"."""
    return min(count, FEW) if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else count
