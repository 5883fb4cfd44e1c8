"""The records of one profile and one set of questions, as claims ask for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from study.claims.curve import Curve
from study.claims.estimate import Estimate, mean_f1
from study.claims.judgement import Lacking
from study.frames import KINDS, SCORERS, curve_points, own_sweep, scored_models
from study.linked import Runs
from study.paper.published_text import TEXT
from study.records.record import Record

if TYPE_CHECKING:
    import pandas as pd

FIFTH = TEXT["nq_gate_share"].value / 100
"""Of the questions: on Natural Questions the paper trains gates on these for an epoch."""


class Evidence:
    """What the claims' functions read. Every look-up raises `Lacking` where records are missing.

    Attributes:
        data: name of the questions.
        runs: all records of the profile, of these questions and others.
        points: of `curve_points`, of these questions. models: of `scored_models`, likewise. Both
            with the columns that `basis_of` takes.
        profile, provenance: of the records.
    """

    def __init__(self, records: Iterable[Record], data: str) -> None:
        self.data, self.runs = data, Runs(records)
        first, models = self.runs.records[0], scored_models(self.runs.records)
        self.profile, self.provenance = first.profile, str(first.provenance)
        points = curve_points(self.runs.records)
        margin, is_l0 = points["f1"] - points["floor"], points["scorer"] == "l0"
        points = points.assign(
            gate_seed=points["seed"].where(is_l0 | points["scorer"].eq("random")),
            gates_from=points["data"],
            retrain_epochs=np.nan,
            above_floor=margin.where(is_l0),  # that heuristics fall to the floor is what they show
        )
        models = models.assign(above_floor=models["f1"] - models["floor"])
        self.points, self.models = (
            frame.assign(
                gates=frame["gate_epochs"] / np.where(frame["gates_from"] == "nq", FIFTH, 1),
                retraining=frame["retrain_epochs"],
            )[frame["data"] == data]
            for frame in (points, models)
        )

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
        """Of the models that were pruned at the operating points the one with the largest encoder,
        or most often pruned of several; the base, before any was."""
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

    def model_rows(self, **where: Any) -> pd.DataFrame:
        """Scored models with these values in their columns; `kinds` "none" is the unpruned."""
        return self._rows(self.models, "a model", {"model": self.large, **where})

    def pruned(self, then: str, **where: Any) -> pd.DataFrame:
        """Models pruned by L0 at its own threshold: the profile's main sweep, all seeds."""
        rows = self.models[own_sweep(self.models) & self.models["weights_from"].eq(self.data)]
        main = {"model": self.large, "kinds": "both", "variant": "", **where}
        return self._rows(rows[rows["then"] == then], f"a pruned model, {then},", main)

    def multiples(self, then: str) -> dict[float, pd.DataFrame]:
        """Those by the multiple of the selected λ, the smallest first."""
        found = {cast(float, m): rows for m, rows in self.pruned(then).groupby("multiple")}
        if not found:
            raise Lacking(f"needs models pruned at multiples of the selected λ, {then}")
        return found

    def unpruned(self) -> Estimate:
        """F1 on dev of the fine-tuned model that the pruned models come from."""
        rows = self.model_rows()
        pruned = self._rows(rows[rows["kinds"] != "none"], "a pruned model", {})
        return f1_of(self.model_rows(then="fine-tuned", run=pruned["finetune"].mode().iloc[0]))

    def own_points(self) -> pd.DataFrame:
        """Points of L0 at its own threshold, which the paper draws: of every model and variant."""
        return self._rows(self.points[self.points["own_threshold"].astype(bool)], "an L0 run", {})

    def l0_points(self, kind: str, **where: Any) -> pd.DataFrame:
        """Those of one kind, of the main sweep and the base model where nothing else is said."""
        chosen = {"model": self.base, "variant": "", **where, "kind": kind}
        return self._rows(self.own_points(), "an L0 run", chosen)

    def curve(self, scorer: str, kind: str, **where: Any) -> Curve:
        """F1 against the percentage removed, on the base model (Figures 1 and 2), seeds averaged.

        L0's points are runs with different λ, each at its own threshold; those of other scorers
        are cuts of one ranking. Of gain it is the one at γ = 1, not normalised.
        """
        if scorer == "l0":
            rows = self.l0_points(kind, **where)
            cuts = rows.groupby("penalty")
        else:
            which = {"model": self.base, "scorer": scorer, "kind": kind, **where}
            which["label"] = SCORERS[scorer]
            rows = self._rows(self.points, f"scores by {SCORERS[scorer]}", which)
            cuts = rows.groupby(rows["removed"].round(1))
        whole = unpruned_f1(rows)
        points = [(float(cut["removed"].mean()), f1_of(cut)) for _, cut in cuts]
        return Curve.through([(0.0, whole), *((x, f1) for x, f1 in points if x > 0)])

    def score_runs(self, scorer: str, *kinds: str) -> list[Any]:
        """Records of a scorer's runs on the base model, of some kinds or of all; no studies."""
        which = {"model": self.base, "scorer": scorer, "variant": ""}
        what = " on ".join([f"a run of {SCORERS[scorer]}", *(KINDS[kind] for kind in kinds)])
        points = self.points[self.points["kind"].isin(kinds or KINDS)]
        names = set(self._rows(points, what, which)["run"])
        return [record for record in self.runs.of("score") if record.id in names]

    def finetuning_of(self, record: Record) -> Any:
        """The record of the fine-tuning run that a run descends from."""
        found = self.runs.find(self.runs.finetune_of(record), record)
        if found is None:
            raise Lacking("needs the record of the fine-tuning that the gates were trained on")
        return found

    def _rows(self, frame: pd.DataFrame, what: str, where: Mapping[str, Any]) -> pd.DataFrame:
        """The rows with these values; none are an error, which names the values that tell most."""
        for name, value in where.items():
            frame = frame[frame[name] == value]
        if len(frame):
            return frame
        special = {**KINDS, "both": "both kinds", "none": "nothing pruned"}
        words = [
            f"{name} {value}" if isinstance(value, float) else str(special.get(value, value))
            for name, value in where.items()
            if name not in ("scorer", "label", "choice", "run") and value not in ("", None)
        ]
        settings = f" ({', '.join(words)})" if words else ""
        raise Lacking(f"needs {what} on {self.data}{settings}")


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
    seeds = rows["gate_seed"].nunique()
    return {name: rows[name].min() for name in names} | ({"seeds": seeds} if seeds else {})
