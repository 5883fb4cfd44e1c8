"""A cache of its own, and the CPU, for all that trains."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
