"""The scorers by name, with what sweeps and figures need to know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from qaprune_lib.models import KINDS
from qaprune_lib.scorers.scores import GateScores

F = TypeVar("F", bound=Callable[..., GateScores])


@dataclass(frozen=True)
class Scorer:
    """A way to score gates.

    Attributes:
        function: takes a model, then questions if it needs any, and keywords of its own.
        label: its name in words.
        order: its place in figures; the paper's approaches are 1 to 4.
        kinds: of gates that it can score.
        questions: which ones it is for: training questions, others than those of a final figure
            ("dev") as it selects on them, or none.

    >>> from qaprune_lib.scorers import SCORERS
    >>> SCORERS["gain"].label, SCORERS["gain"].kinds, SCORERS["leave_one_out"].questions
    ('gain', ('attn', 'ff', 'emb'), 'dev')
    """

    function: Callable[..., GateScores]
    label: str
    order: int
    kinds: Sequence[str]
    questions: Literal["train", "dev"] | None


SCORERS: dict[str, Scorer] = {}
"""By the names of their functions, in the order of figures."""


def scorer(
    label: str,
    *,
    order: int = 9,
    kinds: Sequence[str] = KINDS,
    questions: Literal["train", "dev"] | None = "train",
) -> Callable[[F], F]:
    """Decorator that enters a function that returns `GateScores` into `SCORERS`.

    Arguments as for `Scorer`.

    >>> import numpy as np
    >>> from qaprune_lib.models import shape_of
    >>> @scorer("layer by layer", kinds=["attn"], questions=None)
    ... def by_layer(model):
    ...     layers = np.arange(shape_of(model.config).n_layers, dtype=float)
    ...     return GateScores.of("by_layer", model, {"attn": np.tile(layers, (12, 1)).T})
    >>> SCORERS.pop("by_layer").label
    'layer by layer'
    """

    def enter(function: F) -> F:
        SCORERS[function.__name__] = Scorer(function, label, order, kinds, questions)
        in_order = sorted(SCORERS.items(), key=lambda item: item[1].order)
        SCORERS.clear()
        SCORERS.update(in_order)
        return function

    return enter
