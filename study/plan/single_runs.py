"""Single runs of a profile: the parameters of a stage, filled in from the profile's settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    Finetune,
    Objective,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.plan.profile import NQ, Profile
from study.records.record import run_id

Stage = TypeVar("Stage", bound=StageParameters)
OperatingPoint = Mapping[str, float]
"""λ of each kind of gate."""


def id_of(run: StageParameters) -> str:
    """The id of a stage's run."""
    return run_id(run.stage, run.identity())


@dataclass(frozen=True)
class RunMaker:
    """A profile, and where its runs are kept.

    Attributes:
        profile: what is swept.
        results: folder of records. runs: folder of models.
    """

    profile: Profile
    results: str = "results"
    runs: str = "runs"

    def finetuned(self, data: str, model: str, **changes: Any) -> Finetune:
        """The fine-tuning run of a model that gates are scored on."""
        [run, *_] = self.finetunes(data, model, **changes)
        return run

    def finetunes(self, data: str, model: str, **changes: Any) -> Iterator[Finetune]:
        """Runs that fine-tune a model, one for each seed."""
        for seed in self.profile.finetune_seeds:
            settings = {**self.profile.finetune, **changes, "model": model, "seed": seed}
            yield self.make(Finetune, data, settings)

    def score(self, data: str, base: Finetune | Retrain, settings: Mapping[str, Any]) -> ScoreGates:
        """A run that scores gates of a trained model; L0's penalties are off unless set."""
        curves = self.profile.curves.model_dump()
        unpenalised = {"penalty_attn": None, "penalty_ff": None, "penalty_emb": None}
        model = {"model": id_of(base)}
        return self.make(ScoreGates, data, {**unpenalised, **curves, **model, **settings})

    def l0(
        self,
        data: str,
        base: Finetune | Retrain,
        penalty: OperatingPoint,
        seeds: Sequence[int] | None = None,
        **changes: Any,
    ) -> Iterator[ScoreGates]:
        """Runs of L0 at these λ, one for each seed of the gates."""
        penalties = {f"penalty_{kind}": value for kind, value in penalty.items()}
        for seed in self.profile.gate_seeds if seeds is None else seeds:
            gates = {**self.profile.gates, **penalties, "kinds": list(penalty), "seed": seed}
            yield self.score(data, base, {"scorer": "l0", **gates, **changes})

    def gates(
        self,
        data: str,
        base: Finetune | Retrain,
        point: OperatingPoint,
        multiple: float,
        **changes: Any,
    ) -> list[ScoreGates]:
        """Runs of L0 at a multiple of the selected λ, one for each kind, with the first seed."""
        return [
            next(self.l0(data, base, {kind: times(penalty, multiple)}, **changes))
            for kind, penalty in point.items()
        ]

    def prune(self, data: str, model: str, gates: Mapping[str, str], **settings: Any) -> Prune:
        """A run that prunes a trained model by score runs, given by kind of gate."""
        return self.make(Prune, data, {"model": model, **gates, **settings})

    def retrainings(
        self,
        data: str,
        model: str,
        teacher: str,
        settings: Mapping[str, Any],
        objectives: Sequence[Objective] | None = None,
    ) -> Iterator[Retrain]:
        """Runs that continue the training of a model, for each objective (all) and seed."""
        for objective in self.profile.objectives if objectives is None else objectives:
            for seed in self.profile.retrain_seeds:
                given = {
                    **settings,
                    "model": model,
                    "objective": objective,
                    "teacher": teacher if objective == "distillation" else None,
                    "seed": seed,
                }
                yield self.make(Retrain, data, given)

    def pupil(self, data: str, teacher: str, training: Mapping[str, Any]) -> Retrain:
        """The run in which a large model teaches a smaller one.

        Args:
            data: name of the questions.
            teacher: id of the large model's run.
            training: parameters of `Retrain`, its `model` the smaller one.
        """
        distillation: Objective = "distillation"
        lesson = {"objective": distillation, "teacher": teacher}
        return self.make(Retrain, data, {**training, **lesson})

    def pupil_pruned(
        self,
        pupil: Retrain,
        point: OperatingPoint,
        *,
        gates: Mapping[str, Any],
        multiples: Sequence[float],
        retrain: Mapping[str, Any],
    ) -> Iterator[StageParameters]:
        """A smaller model, pruned at multiples of the selected λ and taught again as before.

        Args:
            pupil: the run in which it was taught.
            point: the selected λ.
            gates, retrain: what changes of the profile's gates, and parameters of `Retrain`.
        """
        for multiple in multiples:
            scores = self.gates(pupil.data, pupil, point, multiple, **gates)
            yield from scores
            pruned = self.prune(pupil.data, id_of(pupil), ids_by_kind(scores))
            yield pruned
            yield self.pupil(pupil.data, str(pupil.teacher), {**retrain, "model": id_of(pruned)})

    def make(self, stage: type[Stage], data: str, settings: Mapping[str, Any]) -> Stage:
        """A run of a stage on the questions of that name.

        Raises:
            SettingsError: a parameter that the stage does not take, or questions without source.
        """
        questions = self._questions(data)
        if questions["source"] is None:
            raise SettingsError(
                f"profile {self.profile.name}: data {data!r} has no source: name the folder of its "
                "files (--source FOLDER)"
            )
        common = {
            "profile": self.profile.name,
            "provenance": self.profile.provenance,
            "results": self.results,
            "runs": self.runs,
            "compute_dtype": self.profile.compute_dtype,
        }
        return stage.checked({**_unlimited(stage), **common, "data": data, **questions, **settings})

    def _questions(self, data: str) -> dict[str, Any]:
        if data == NQ and self.profile.natural_questions is not None:
            return self.profile.natural_questions.parameters()
        return {**self.profile.data[data].parameters(), **self.profile.windows.model_dump()}


def ids_by_kind(gates: Sequence[ScoreGates]) -> dict[str, str]:
    """Ids of runs that score one kind of gates each, by the kind."""
    return {run.kinds[0]: id_of(run) for run in gates}


def times(penalty: float, multiple: float) -> float:
    """A multiple of λ, rounded so that the same product always names the same run."""
    return float(f"{penalty * multiple:.6g}")


def _unlimited(stage: type[StageParameters]) -> dict[str, Any]:
    """None for every optional limit: a stage's own defaults are of smoke size."""
    limits = ("max_steps", "questions", "max_questions")
    return {name: None for name in limits if name in stage.model_fields}
