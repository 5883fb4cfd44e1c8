"""The one rule for what "removable at a cost under 5 F1 points" means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAX_LOSS = 5.0
"""F1 points that pruning may cost at the paper's operating point (section 4.2.3)."""


def removable(shares: ArrayLike, losses: ArrayLike, max_loss: float = MAX_LOSS) -> NDArray[Any]:
    """The largest share that costs less than `max_loss` F1 points, linear between the points.

    Where a curve ends before it loses so much, this is its end. Where it crosses the limit more
    than once, the last crossing counts.

    Args:
        shares: [n_points], in percent, increasing from 0.
        losses: [..., n_points]; the first, with nothing removed, is 0.

    Returns:
        [...], in percent.

    >>> float(removable([0, 20, 60], [0, 1, 9]))
    40.0
    """
    x, y = np.asarray(shares, dtype=float), np.asarray(losses, dtype=float)
    last = len(x) - 1
    inside = last - np.argmax(y[..., ::-1] < max_loss, axis=-1)
    outside = np.minimum(inside + 1, last)
    start, end = (np.take_along_axis(y, i[..., None], -1)[..., 0] for i in (inside, outside))
    rise = end - start
    part = np.divide(max_loss - start, rise, out=np.zeros_like(rise), where=rise > 0)
    return x[inside] + part * (x[outside] - x[inside])
