"""What the audit fits to the paper's numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from study.paper.published import TABLE_2


class TimeFit(NamedTuple):
    """Decoding seconds t = constant + attn·(1−a) + ff·(1−f), with a and f the shares removed."""

    constant: float
    attn: float
    ff: float
    error: float | None = None  # standard error of the constant

    def seconds(self, row: Any) -> float:
        """What the fit predicts for a row."""
        attn, ff = row.attn_removed / 100, row.ff_removed / 100
        return self.constant + self.attn * (1 - attn) + self.ff * (1 - ff)


def fit_decoding_time() -> TimeFit:
    """The time model that passes through Table 2's unpruned, attn-only and ff-only row.

    >>> [round(seconds) for seconds in fit_decoding_time()[:3]]
    [489, 957, 1266]
    """
    unpruned, attn_only, ff_only = (TABLE_2.named[name] for name in ("unpruned", "attn", "ff"))
    attn = (unpruned.seconds - attn_only.seconds) / (attn_only.attn_removed / 100)
    ff = (unpruned.seconds - ff_only.seconds) / (ff_only.ff_removed / 100)
    return TimeFit(unpruned.seconds - attn - ff, attn, ff)


def least_squares_time() -> TimeFit:
    """The time model fitted to all rows of Table 2."""
    rows = TABLE_2.rows
    design = np.array([[1, 1 - row.attn_removed / 100, 1 - row.ff_removed / 100] for row in rows])
    fitted, residual, *_ = np.linalg.lstsq(design, np.array([row.seconds for row in rows]))
    variance = residual[0] / (len(rows) - design.shape[1])
    error = np.sqrt(variance * np.linalg.inv(design.T @ design)[0, 0])
    return TimeFit._make([*fitted.tolist(), float(error)])
