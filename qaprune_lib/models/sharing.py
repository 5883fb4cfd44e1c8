"""One model in several threads: any number may answer; what changes the model must be alone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from qaprune_lib.errors import ModelError


class _Use:
    """Who runs a model, who changed it, and which of its modules are in training mode otherwise."""

    def __init__(self) -> None:
        self.readers: Counter[int] = Counter()
        self.owner: int | None = None
        self.n_changes = 0
        self.training: list[nn.Module] = []


_USES: WeakKeyDictionary[nn.Module, _Use] = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block; each module's mode is as before once the last thread is out.

    Raises:
        ModelError: another thread has masks on the model.
    """
    me = threading.get_ident()
    with _LOCK:
        use = _USES.setdefault(model, _Use())
        if use.owner not in (None, me):
            raise _shared("masks were set on this model in another thread")
        if not use.readers.total():
            use.training = [module for module in model.modules() if module.training]
            model.eval()
        use.readers[me] += 1
    try:
        yield
    finally:
        with _LOCK:
            use.readers[me] -= 1
            if not use.readers.total():
                model.eval()
                for module in use.training:
                    module.training = True


@contextmanager
def changing(model: nn.Module) -> Iterator[None]:
    """A block that changes what a model computes, in this thread alone.

    Raises:
        ModelError: another thread runs the model, or changes it.
    """
    me = threading.get_ident()
    with _LOCK:
        use = _USES.setdefault(model, _Use())
        if use.owner not in (None, me) or any(
            n for thread, n in use.readers.items() if thread != me
        ):
            raise _shared("this model is in use in another thread")
        use.owner = me
        use.n_changes += 1
    try:
        yield
    finally:
        with _LOCK:
            use.n_changes -= 1
            if not use.n_changes:
                use.owner = None


def _shared(what: str) -> ModelError:
    return ModelError(f"{what}: wait for it, or give each thread a copy (copy.deepcopy(model))")
