"""What claims.toml measures on rows of `curve_points` and `scored_models`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.claims.estimate import Estimate, average, mean_f1, mean_of, over_rounds
from study.claims.judgement import Lacking

SAME = ["model", "kind", "penalty", "seed"]
"""What two L0 runs have in common that are compared in one setting."""


def f1_of(rows: pd.DataFrame) -> Estimate:
    """F1, the mean over models or points that differ in their seeds."""
    return mean_f1(list(rows["articles"]), basis_of(rows))


def unpruned_f1(points: pd.DataFrame) -> Estimate:
    """F1 of the model that the points of a curve come from, on the same questions."""
    margin = (points["unpruned_f1"] - points["floor"]).min()
    return mean_f1([points["unpruned_articles"].iloc[0]], {"above_floor": margin})


def basis_of(rows: pd.DataFrame) -> dict[str, Any]:
    """What a number made of these rows rests on, as `Finding` lists it."""
    names = [name for name in ("gates", "retraining", "above_floor") if rows[name].notna().any()]
    basis = {name: rows[name].min() for name in names} | {"runs": frozenset(rows["run"])}
    seeds = rows["gate_seed"].nunique()
    return basis | ({"seeds": seeds} if seeds else {})


def some(rows: pd.DataFrame, query: str, needed: str) -> pd.DataFrame:
    """The rows of a query of pandas; without any, what is needed."""
    found = rows.query(query)
    if found.empty:
        raise Lacking(f"needs {needed}")
    return found


def pairs(one: pd.DataFrame, other: pd.DataFrame, needed: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points of L0 runs that are alike but for one setting: two frames, row by row."""
    both = one.reset_index().merge(other.reset_index(), on=SAME)
    if both.empty:
        raise Lacking(f"needs {needed}")
    return one.loc[both["index_x"]], other.loc[both["index_y"]]


def more_removed(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Percentage points that paired runs remove more, the mean over pairs."""
    more = one["removed"].to_numpy() - other["removed"].to_numpy()
    return mean_of(more, basis_of(pd.concat([one, other])))


def f1_apart(one: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """F1 of paired runs, one minus the other, the mean over pairs."""
    each = (f1_of(one.iloc[[i]]) - f1_of(other.iloc[[i]]) for i in range(len(one)))
    return average(list(each))


def lost_by_each(frames: Sequence[pd.DataFrame]) -> list[Estimate]:
    """F1 lost by each run that stands in any of the frames, once each."""
    runs = pd.concat(frames).drop_duplicates(SAME).groupby(SAME)
    return [unpruned_f1(run) - f1_of(run) for _, run in runs]


def at_equal_penalty(one: pd.DataFrame, other: pd.DataFrame) -> list[Estimate]:
    """Percent removed, and F1 lost, by points of L0 at equal λ: of one model minus of the other."""
    shared = sorted(set(one["penalty"]) & set(other["penalty"]))
    removed, lost = [], []
    for points in (one, other):
        cuts = [points[points["penalty"] == penalty] for penalty in shared]
        removed.append(average([mean_of(cut["removed"], basis_of(cut)) for cut in cuts]))
        lost.append(average([unpruned_f1(cut) - f1_of(cut) for cut in cuts]))
    return [removed[0] - removed[1], lost[0] - lost[1]]


def speed_of(rows: pd.DataFrame) -> Estimate:
    """Times as fast as unpruned, with the range over the rounds of the measurement."""
    ends = [rows["speedup_low"].min(), rows["speedup_high"].max()]
    return over_rounds(float(rows["speedup"].median()), ends)


@dataclass(frozen=True)
class DecodingTimes:
    """A timing run: its models, rows of `scored_models`, and their seconds, [n_rounds, n_models].

    Numbers of it have one value for the medians and one for each round, which are their spread.
    """

    run: str
    batch_size: int
    models: pd.DataFrame
    rounds: np.ndarray

    @property
    def _seconds(self) -> np.ndarray:
        return np.vstack([np.median(self.rounds, axis=0), self.rounds])

    def constant(self) -> Estimate:
        """Percent of the unpruned time that depends neither on heads nor on activations."""
        kept = 1 - self.models[["attn_removed", "ff_removed"]].to_numpy() / 100
        design = np.column_stack([np.ones(len(kept)), kept])
        if np.linalg.matrix_rank(design, tol=1e-3) < 3:
            raise Lacking("needs decoding times of models pruned of heads and activations apart")
        shares = (100 * self._seconds / self._seconds[:, :1]).T
        constant, *_ = np.linalg.lstsq(design, shares, rcond=None)[0]
        return over_rounds(float(constant[0]), constant[1:], self.run)

    def rank_correlation(self, size: str) -> Estimate:
        """Spearman's, of the times with a column of sizes."""
        from scipy.stats import spearmanr

        each = [spearmanr(self.models[size], seconds).statistic for seconds in self._seconds]
        first, *others = (round(float(ρ), 12) for ρ in each)  # a fraction: 0.9 is 0.9
        return over_rounds(first, others, self.run)


def one_seed(n: int, what: str) -> str:
    """What a reader must know where there is no interval."""
    return f" (one {what}, so its spread is not known)" if n == 1 else ""


def millions(*sizes: float) -> str:
    """The range of some sizes, in words."""
    return " to ".join(f"{size / 1e6:.0f}" for size in sorted({min(sizes), max(sizes)})) + "M"
