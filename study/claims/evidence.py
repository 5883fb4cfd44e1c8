"""The records of one profile and one set of questions, as claims ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from study.claims.curve import Curve
from study.claims.judgement import Lacking
from study.claims.statistics import Estimate, mean_f1, mean_of
from study.frames import KINDS, SCORERS, curve_points, scored_models
from study.linked import Runs
from study.plan.parameters import Kind
from study.records.record import Record

if TYPE_CHECKING:
    import pandas as pd

WITH_SEEDS = ("l0", "random")
"""Scorers whose result depends on a seed."""


class Evidence:
    """What the claims' functions read. Every look-up raises `Lacking` where records are missing.

    Attributes:
        data: name of the questions.
        runs: all records of the profile, of these questions and others.
        points: of `curve_points`, of these questions. models: of `scored_models`, likewise.
        base: model on which gates are swept and the operating point is chosen.
        large: the largest model that is pruned at the operating points; the base, where that serves
            as both.
    """

    def __init__(self, records: Iterable[Record], data: str) -> None:
        self.data = data
        self.runs = Runs(records)
        points, models = curve_points(self.runs.records), scored_models(self.runs.records)
        self.points = points[points["data"] == data]
        self.models = models[models["data"] == data]

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.runs.records[0].profile

    @property
    def provenance(self) -> str:
        """What the profile's numbers are worth."""
        return self.runs.records[0].provenance

    @cached_property
    def base(self) -> str:
        """The model of the selection, or, before there is one, the one with most curves."""
        selections = [r for r in self.runs.of("select") if r.parameters["data"] == self.data]
        if selections:
            return self.runs.model_of(selections[0])
        names = self.points["model"] if len(self.points) else self.models["model"]
        return "no model" if names.empty else str(names.mode().iloc[0])

    @cached_property
    def large(self) -> str:
        """Of the models that were pruned the one with the largest encoder, or most often pruned of
        several; the base, before any was."""
        pruned = self.models[self.models["kinds"] != "none"]
        if pruned.empty:
            return self.base
        sizes = self.models.groupby("model")["encoder_parameters"].max()[pruned["model"].unique()]
        largest = sizes.index[sizes == sizes.max()]
        return str(pruned.loc[pruned["model"].isin(largest), "model"].mode().iloc[0])

    def two_models(self) -> tuple[str, str]:
        """Base and large, where they differ."""
        if self.base == self.large:
            raise Lacking(
                f"compares two models, and the profile has {self.base} alone: it needs a larger "
                "one that is fine-tuned and pruned at the same λ"
            )
        return self.base, self.large

    def beside(self, data: str) -> Evidence:
        """The same profile on other questions."""
        return Evidence(self.runs.records, data)

    def model_rows(self, **where: Any) -> pd.DataFrame:
        """Scored models with these values in their columns; `kinds` "none" is the unpruned."""
        return _filter(self.models, "a model", self.data, {"model": self.large, **where})

    def pruned(self, then: str, **where: Any) -> pd.DataFrame:
        """Models pruned by L0 at its own threshold: the profile's main sweep, all seeds."""
        main = {"scorer": "l0", "choice": "scores", "variant": "", "kinds": "both"}
        own = {"gates_from": self.data, "weights_from": self.data}
        rows = self.model_rows(**{**main, **own, "then": then, **where})
        return _some(rows[rows["fraction"].isna()], f"a pruned model, {then}", self.data, where)

    def multiples(self, then: str) -> dict[float, pd.DataFrame]:
        """Those by the multiple of the selected λ, the smallest first."""
        rows = self.pruned(then)
        found = {m: rows[rows["multiple"] == m] for m in sorted(rows["multiple"].dropna().unique())}
        if not found:
            raise Lacking(f"needs models pruned at multiples of the selected λ, {then}")
        return found

    def unpruned(self) -> Estimate:
        """F1 on dev of the fine-tuned model that the pruned models come from."""
        rows = self.model_rows()
        pruned = _some(rows[rows["kinds"] != "none"], "a pruned model", self.data, {})
        return f1_of(self.model_rows(then="fine-tuned", run=pruned["finetune"].mode().iloc[0]))

    def own_points(self) -> pd.DataFrame:
        """Points of L0 at its own threshold: of every model, kind, λ, seed and variant."""
        own = self.points["own_threshold"].astype(bool)
        return _some(self.points[own], "an L0 run", self.data, {})

    def l0_points(self, kind: str, **where: Any) -> pd.DataFrame:
        """Points of L0 runs at their own threshold, which the paper draws."""
        chosen = {"model": self.base, "variant": "", **where, "kind": kind}
        return _filter(self.own_points(), "an L0 run", self.data, chosen)

    def removed(self, kind: str, **where: Any) -> Estimate:
        """Percent of one kind that L0 removes, the mean over seeds."""
        rows = self.l0_points(kind, **where)
        return mean_of(rows["removed"], seeds=rows["seed"].nunique())

    def curve(self, scorer: str, kind: str, **where: Any) -> Curve:
        """F1 against the percentage removed, on the base model (Figures 1 and 2), seeds averaged.

        L0's points are runs with different λ, each at its own threshold; those of other scorers
        are cuts of one ranking. Of gain it is the one at γ = 1, not normalised.
        """
        if scorer == "l0":
            rows = self.l0_points(kind, **where)
            groups = rows.groupby("penalty")
        else:
            which = {"model": self.base, "scorer": scorer, "kind": kind, **where}
            which["label"] = SCORERS[scorer]
            rows = _filter(self.points, f"scores by {SCORERS[scorer]}", self.data, which)
            groups = rows.groupby(rows["removed"].round(1))
        cuts = [group for _, group in groups]
        points = [(float(cut["removed"].mean()), self._point(scorer, cut)) for cut in cuts]
        whole = mean_f1([rows["unpruned_articles"].iloc[0]])
        return Curve.through([(0.0, whole), *((x, f1) for x, f1 in points if x > 0)])

    def curves(self, kind: str, scorers: Sequence[str]) -> dict[str, Curve]:
        """The curves of several scorers."""
        return {scorer: self.curve(scorer, kind) for scorer in scorers}

    def score_runs(self, scorer: str, kind: Kind | None = None) -> list[Record]:
        """Records of a scorer's runs on the base model, of one kind or of any; no studies."""
        found = [
            record
            for record in self.runs.of("score")
            if record.parameters["data"] == self.data
            and record.parameters["scorer"] == scorer
            and self.runs.model_of(record) == self.base
            and not self.runs.variant_of(record)
            and kind in (None, *cast("list[Kind]", record.parameters["kinds"]))
        ]
        if not found:
            what = f" on {KINDS[kind]}" if kind else ""
            raise Lacking(f"needs a run of {SCORERS[scorer]}{what} with {self.data}")
        return found

    def record(self, run: str) -> Record | None:
        """The record of a run id of this profile."""
        return self.runs.find(run, self.runs.records[0])

    def finetuning_of(self, record: Record) -> Record:
        """The fine-tuning run that a run descends from."""
        found = self.runs.find(self.runs.finetune_of(record), record)
        if found is None:
            raise Lacking("needs the record of the fine-tuning that the gates were trained on")
        return found

    @staticmethod
    def _point(scorer: str, rows: pd.DataFrame) -> Estimate:
        seeds = rows["seed"].nunique() if scorer in WITH_SEEDS else None
        return mean_f1(list(rows["articles"]), seeds=seeds)


def f1_of(rows: pd.DataFrame) -> Estimate:
    """F1 on dev, the mean over models that differ in their seeds."""
    pruned = rows["kinds"].ne("none").any()
    return mean_f1(list(rows["articles"]), seeds=rows["gate_seed"].nunique() if pruned else None)


def _filter(frame: pd.DataFrame, what: str, data: str, where: dict[str, Any]) -> pd.DataFrame:
    keep = np.ones(len(frame), dtype=bool)
    for name, value in where.items():
        keep &= frame[name].eq(value).to_numpy(dtype=bool)
    return _some(frame[keep], what, data, where)


def _some(frame: pd.DataFrame, what: str, data: str, where: dict[str, Any]) -> pd.DataFrame:
    if frame.empty:
        raise Lacking(f"needs {_named(what, data, where)}")
    return frame


def _named(what: str, data: str, where: dict[str, Any]) -> str:
    """A run in words: what it is, then the settings that tell it from others."""
    special = {**KINDS, "both": "both kinds", "none": "nothing pruned"}
    words = [
        f"{name} {value}" if isinstance(value, float) else str(special.get(value, value))
        for name, value in where.items()
        if name not in ("scorer", "label", "choice", "run") and value not in ("", None)
    ]
    return f"{what} on {data}" + (f" ({', '.join(words)})" if words else "")
