"""The records of one profile and one set of questions, as claims ask for them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, cast

import numpy as np
import pandas as pd

from study.claims.curve import Curve
from study.claims.estimate import Estimate
from study.claims.judgement import Lacking
from study.claims.measures import DecodingTimes, at_equal_penalty, f1_of, unpruned_f1
from study.frames import KINDS, SCORERS, curve_points, layer_shares, own_sweep, scored_models
from study.linked import TAUGHT_BY, Runs
from study.paper.published import TEXT
from study.records.record import Record

FIFTH = TEXT["nq_gate_share"].value / 100
"""Of the questions: on Natural Questions the paper trains gates on these for an epoch."""

HEURISTICS = {"attn": ("leave_one_out", "gain", "random"), "ff": ("gain", "random")}
"""The scorers that the paper compares L0 with, by kind."""


class Evidence:
    """What claims.toml reads. Every look-up raises `Lacking` where records are missing.

    `runs` are all records of the profile. `points` (of `curve_points`) and `models` (of
    `scored_models`) are of one name of questions, `data`, with the columns that `basis_of` takes.
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
    def vocabulary(self) -> dict[str, Any]:
        """What expressions can name: all that this class offers."""
        return {name: getattr(self, name) for name in dir(self) if name not in _PRIVATE}

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

    def families(self) -> tuple[str, str]:
        """A model like BERT and one with RoBERTa's tokens: of each those with most points of L0."""
        names = self.own_points()["model"]
        names = names[~names.str.contains(TAUGHT_BY)]
        like_roberta = names.str.contains("roberta|mpnet")
        if like_roberta.all() or not like_roberta.any():
            raise Lacking("needs gates at equal λ for a model like BERT and for one like RoBERTa")
        return str(names[~like_roberta].mode().iloc[0]), str(names[like_roberta].mode().iloc[0])

    def on(self, data: str) -> Evidence:
        """The same profile on other questions."""
        return Evidence(self.runs.records, data)

    def model_rows(self, **where: Any) -> pd.DataFrame:
        """Scored models with these values in their columns; `kinds` "none" is the unpruned."""
        return self._rows(self.models, "a model", {"model": self.large, **where})

    def tuned(self, model: str) -> Estimate:
        """F1 on dev of a fine-tuned model."""
        return f1_of(self.model_rows(model=model, then="fine-tuned"))

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

    def timed_multiples(self, then: str) -> list[tuple[float, pd.DataFrame]]:
        """Those whose decoding was timed."""
        every = self.multiples(then).items()
        if timed := [(m, rows) for m, rows in every if rows["speedup"].notna().any()]:
            return timed
        raise Lacking(f"needs the decoding times of the models pruned and retrained ({then})")

    def of_most_seeds(self, then: str) -> pd.DataFrame:
        """The models of the multiple that has most gate seeds, one a seed."""
        groups = self.multiples(then).values()
        rows = max(groups, key=lambda rows: rows["gate_seed"].nunique())
        return rows.drop_duplicates("gate_seed")

    def distillation_gains(self) -> dict[float, Estimate]:
        """By multiple, F1 after distillation minus after cross-entropy, of the same models."""
        taught, plain = self.multiples("distillation"), self.multiples("cross-entropy")
        gains = {}
        for multiple in sorted(taught.keys() & plain.keys()):
            rows = [arm[multiple] for arm in (taught, plain)]
            if both := set(rows[0]["point"]) & set(rows[1]["point"]):
                one, other = (f1_of(arm[arm["point"].isin(both)]) for arm in rows)
                gains[multiple] = one - other
        return gains

    def unpruned(self) -> Estimate:
        """F1 on dev of the fine-tuned model that the pruned models come from."""
        rows = self.model_rows()
        pruned = self._rows(rows[rows["kinds"] != "none"], "a pruned model", {})
        return f1_of(self.model_rows(then="fine-tuned", run=pruned["finetune"].mode().iloc[0]))

    def kept_by_thirds(self, pruned: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
        """By kind and third of the layers, the share that each pruned model keeps, [n_models]."""
        layers = layer_shares(self.runs.records)
        layers = layers[layers["run"].isin(pruned["run"])]
        third, n_layers = layers["n_layers"] // 3, layers["n_layers"]
        place = layers["layer"].gt(third).astype(int) + layers["layer"].gt(n_layers - third)
        shares = layers.groupby(["kind", "run", place])["remaining"].mean().unstack()
        names = ("embedding", "middle", "answer")
        return {k: dict(zip(names, shares.xs(k).to_numpy().T, strict=True)) for k in ("attn", "ff")}

    def own_points(self) -> pd.DataFrame:
        """Points of L0 at its own threshold, which the paper draws: of every model and variant."""
        return self._rows(self.points[self.points["own_threshold"].astype(bool)], "an L0 run", {})

    def at_rate(self, rate: float) -> pd.DataFrame:
        """Those on the base model's heads and activations at one learning rate."""
        own = self.own_points()
        allowed = own["variant"].isin(["", f"learning rate {rate:g}"])
        own = own[allowed & own["learning_rate"].eq(rate)]
        return own[own["model"].eq(self.base) & own["kind"].ne("emb")]

    def l0_points(self, kind: str, **where: Any) -> pd.DataFrame:
        """Those of one kind, of the main sweep and the base model where nothing else is said."""
        chosen = {"model": self.base, "variant": "", **where, "kind": kind}
        return self._rows(self.own_points(), "an L0 run", chosen)

    def at_equal_penalty(self, kind: str, one: str, other: str) -> list[Estimate]:
        """Percent removed, and F1 lost, by L0 at equal λ: of one model minus of the other."""
        rows = [self.l0_points(kind, model=model) for model in (one, other)]
        if not set(rows[0]["penalty"]) & set(rows[1]["penalty"]):
            raise Lacking(f"needs L0 runs of {one} and {other} at equal λ for {KINDS[kind]}")
        return at_equal_penalty(*rows)

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
        points = [(float(cut["removed"].mean()), f1_of(cut)) for _, cut in cuts]
        return Curve.through([(0.0, unpruned_f1(rows)), *((x, f1) for x, f1 in points if x > 0)])

    def heuristics(self, kind: str) -> dict[str, Curve]:
        """The curves that the paper compares L0's with, by the scorer's name in words."""
        return {SCORERS[scorer]: self.curve(scorer, kind) for scorer in HEURISTICS[kind]}

    def embedding_curve(self, norm: str) -> Curve | None:
        """L0 on embedding dimensions with one of the two LayerNorms; None without such runs."""
        for variant in ("", f"{norm} LayerNorm"):
            try:
                return self.curve("l0", "emb", variant=variant, embedding_norm=norm)
            except Lacking:
                pass
        return None

    def l0_above_random(self, kind: str) -> Estimate:
        """At the shares that L0 removes by itself, their mean."""
        l0, random = self.curve("l0", kind), self.curve("random", kind)
        if places := [x for x in l0.x[1:] if x <= random.end]:
            return l0.mean_gap(random, places)
        raise Lacking(f"needs random cuts of {KINDS[kind]} as far as L0 prunes")

    def frontier(self, needed: str, **where: str) -> Curve:
        """F1 of the large model pruned and distilled, against its encoder parameters."""
        try:
            rows = self.pruned("distillation", **where)
        except Lacking as reason:
            raise Lacking(f"needs {needed}" if needed else str(reason)) from None
        groups = rows.groupby(["penalty_attn", "penalty_ff"])
        return Curve.through([(float(g["encoder_parameters"].mean()), f1_of(g)) for _, g in groups])

    def smaller_models(self) -> list[tuple[str, float, pd.DataFrame]]:
        """A smaller model that the large one taught, unpruned and pruned: name, size and models."""
        teachers = self.model_rows(model=self.large)["finetune"]
        models = self.models[self.models["then"] == "distillation"]
        models = models[models["model"].ne(self.large) & models["teacher"].isin(teachers)]
        if models.empty:
            raise Lacking(
                f"needs a smaller model that is distilled with {self.large} as its teacher"
            )
        chosen, found = str(models["model"].mode().iloc[0]), []
        models, base = models[models["model"] == chosen], chosen.partition(TAUGHT_BY)[0]
        for name, pruned in ((f"{base} distilled", False), (f"{base} distilled and pruned", True)):
            rows = models[models["kinds"].ne("none") == pruned]
            if rows.empty:
                raise Lacking(f"needs {name}, with {self.large} as its teacher")
            for _, seeds in rows.groupby(["penalty_attn", "penalty_ff"], dropna=False):
                found.append((name, float(seeds["encoder_parameters"].median()), seeds))
        return found

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

    def epoch_ratios(self, runs: Iterable[Record]) -> list[float]:
        """Seconds a window of training over that of the fine-tuning.

        Of runs by the same code on the same device.
        """

        def seconds(run: Any) -> float:
            return float(run.metrics["training"]["seconds_per_step"]) / run.parameters["batch_size"]

        pairs = [(run, self.finetuning_of(run)) for run in runs]
        ratios = [
            seconds(run) / seconds(before)
            for run, before in pairs
            if (run.device, run.commit) == (before.device, before.commit)
        ]
        if not ratios:
            raise Lacking("needs gates that were trained on the fine-tuning's device and commit")
        return ratios

    def decoding_times(self) -> DecodingTimes:
        """The timing run of most of the large model's topologies."""
        runs = [run for run in self.runs.of("time") if run.parameters["data"] == self.data]
        if not runs:
            raise Lacking(f"needs a timing run on {self.data}")
        models = self.model_rows()
        topology = models["point"].where(models["point"].ne(""), models["finetune"])
        models = models.set_index("run:" + topology)
        models = models[~models.index.duplicated()]
        run = max(runs, key=lambda run: len(models.index.intersection(list(run.metrics))))
        timings = run.metrics
        timed = models.loc[[name for name in timings if name in models.index]]
        rounds = np.array([timings[name]["rounds"] for name in timed.index]).T
        return DecodingTimes(run.id, cast(int, run.parameters["batch_size"]), timed, rounds)

    def _rows(self, frame: pd.DataFrame, what: str, where: dict[str, Any]) -> pd.DataFrame:
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


_PRIVATE = {"vocabulary", *(name for name in dir(Evidence) if name.startswith("_"))}
