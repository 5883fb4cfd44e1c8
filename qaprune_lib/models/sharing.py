"""One model in several threads: any number may answer at once."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Model = TypeVar("Model", bound=nn.Module)

_LOCK = threading.Lock()
_READERS: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_TRAINING: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block; each module's mode is as before once the last thread is out."""
    with _LOCK:
        if not _READERS.get(model):
            _TRAINING[model] = [module for module in model.modules() if module.training]
            model.eval()
        _READERS[model] = _READERS.get(model, 0) + 1
    try:
        yield
    finally:
        with _LOCK:
            _READERS[model] -= 1
            if not _READERS[model]:
                model.eval()
                for module in _TRAINING.pop(model):
                    module.training = True


def frozen_copy(model: Model) -> Model:
    """The same weights in modules of their own, without gradients, in evaluation mode.

    What is hooked, switched or moved in the copy is no business of other threads that use the
    model. It takes next to no memory.
    """
    shared: dict[int, Any] = {
        id(weights): nn.Parameter(weights.detach(), requires_grad=False)
        for weights in model.parameters()
    }
    shared |= {id(values): values for values in model.buffers()}
    if (tokenizer := getattr(model, "tokenizer", None)) is not None:
        shared[id(tokenizer)] = tokenizer
    return copy.deepcopy(model, shared).eval()
