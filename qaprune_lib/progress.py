"""Progress bars: widgets in a notebook that someone watches, text where a batch run is logged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or os.environ.get("QAPRUNE_PROGRESS") == "text":
    from tqdm.std import tqdm as _tqdm
else:
    from tqdm.auto import tqdm as _tqdm

_INNER: ContextVar[bool] = ContextVar("_INNER", default=False)


def tqdm(*arguments: Any, disable: bool = False, **settings: Any) -> Any:
    """A bar of tqdm; none within `one_bar`."""
    return _tqdm(*arguments, disable=disable or _INNER.get(), **settings)


@contextmanager
def without_bars_of_transformers() -> Iterator[None]:
    """It shows none in the block, where a bar of ours says how far the work is."""
    from transformers.utils import logging

    had = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had:
            logging.enable_progress_bar()


@contextmanager
def one_bar(total: int, description: str) -> Iterator[Any]:
    """The only bar that is shown in the block, whatever is called there."""
    with tqdm(total=total, desc=description, unit="step") as bar:
        token = _INNER.set(True)
        try:
            yield bar
        finally:
            _INNER.reset(token)
