"""Pictures of the audit: the drawn artists are read back."""

from __future__ import annotations

import numpy as np

from study.figures.audit import decoding_times, verdicts
from study.paper.audit import audit
from study.paper.fits import fit_decoding_time
from study.paper.published import TABLE_2


def test_decoding_times() -> None:
    [axes] = decoding_times().figure.axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    fit = fit_decoding_time()
    shown = np.vstack([lines["fitted rows"], lines["predicted rows"]])
    expected = [(row.seconds, fit.seconds(row)) for row in TABLE_2.rows]
    np.testing.assert_allclose(sorted(map(tuple, shown)), sorted(expected))


def test_verdicts() -> None:
    items = audit()
    [axes] = verdicts(items).figure.axes
    agree, disagree = axes.containers
    assert sum(bar.get_width() for bar in agree) == sum(item.holds for item in items)
    assert sum(bar.get_width() for bar in disagree) == sum(not item.holds for item in items)
