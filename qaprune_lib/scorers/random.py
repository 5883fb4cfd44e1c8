"""Random gates: the naive baseline (paper section 3.2, approach 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qaprune_lib.errors import counts
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.models.adopt import check_own
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import GateScores, check_kinds


@scorer("random", order=1, questions=None)
def random(
    model: QuestionAnsweringModel, *, kinds: Sequence[str] = ("attn", "ff"), seed: int = 0
) -> GateScores:
    """Scores drawn from U(0, 1).

    Cut at `threshold=1 - p` each gate stays with probability p (Bernoulli, as in the paper); cut
    at `fraction=` exactly that share goes.

    Raises:
        SettingsError: an unknown kind.

    >>> from qaprune_lib import load_model
    >>> random(load_model("embedded-small", device="cpu"), seed=1).kinds()
    ['attn', 'ff']
    """
    check_kinds(kinds)
    check_own(model)
    (seed,) = counts(least=0, seed=seed)
    generator, shape = np.random.default_rng(seed), shape_of(model.config)
    scores = {kind: generator.random(shape.gates(kind)) for kind in kinds}
    return GateScores.of("random", model, scores, seed=seed)
