"""From a profile to its runs: every experiment as parameters of a stage, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qaprune_lib.errors import SettingsError
from qaprune_lib.experiment.parameters import (
    STAGES,
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from qaprune_lib.experiment.profile import Profile
from qaprune_lib.report.records import run_id

SELECT = "select"
"""The stage that picks the operating point; it has no notebook."""

OperatingPoint = Mapping[str, float]
"""λ of each kind of gate."""


@dataclass(frozen=True)
class Selection:
    """The choice of an operating point, from L0 runs on the base model.

    Attributes:
        data: name of the questions.
        model: id of the base model's fine-tuning run.
        max_loss: F1 points that may be lost.
        candidates: ids of the L0 runs, by kind.
    """

    data: str
    model: str
    max_loss: float
    candidates: Mapping[str, list[str]]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of its record."""
        return {
            "data": self.data,
            "model": self.model,
            "max_loss": self.max_loss,
            "candidates": dict(self.candidates),
        }

    @property
    def id(self) -> str:
        """Its run id."""
        return run_id(SELECT, self.parameters)


def id_of(run: StageParameters) -> str:
    """The id of a stage's run."""
    return run_id(run.stage, run.identity())


@dataclass(frozen=True)
class Planner:
    """A profile, and where its runs are kept.

    Attributes:
        profile: what is swept.
        results: folder of records. runs: folder of models.
    """

    profile: Profile
    results: str = "results"
    runs: str = "runs"

    def plan(self, points: Mapping[str, OperatingPoint] | None = None) -> list[StageParameters]:
        """All runs that can be named, each once, upstream first.

        Args:
            points: the selected operating point by name of the data; what follows from a selection
                that is not there yet is left out.

        Raises:
            SettingsError: the profile gives a stage a parameter that it does not take, or no data.
        """
        runs: dict[str, StageParameters] = {}
        for data in self.profile.data:
            for run in self._of_data(data, (points or {}).get(data)):
                runs.setdefault(id_of(run), run)
        return sorted(runs.values(), key=lambda run: list(STAGES).index(run.stage))

    def selections(self) -> dict[str, Selection]:
        """The selection of each data set's operating point."""
        found = {}
        for data in self.profile.data:
            base = self.finetuned(data, self.profile.base)
            candidates: dict[str, list[str]] = {}
            for kind, penalties in self.profile.penalties.items():
                if kind != "emb":  # section 4.2.2: never pruned together with the others
                    runs = [run for p in penalties for run in self._l0(data, base, {kind: p})]
                    candidates[kind] = [id_of(run) for run in runs]
            found[data] = Selection(data, id_of(base), self.profile.max_loss, candidates)
        return found

    def finetuned(self, data: str, model: str) -> Finetune:
        """The fine-tuning run of a model that gates are scored on."""
        [run, *_] = self._finetunes(data, model)
        return run

    def _of_data(self, data: str, point: OperatingPoint | None) -> Iterator[StageParameters]:
        profile = self.profile
        yield from self._finetunes(data, profile.base)
        yield from self._finetunes(data, profile.target)
        base = self.finetuned(data, profile.base)
        for settings in profile.scorers:
            yield self._score(data, base, settings)
        for kind, penalties in profile.penalties.items():
            for penalty in penalties:
                yield from self._l0(data, base, {kind: penalty})
        for changes in profile.studies:
            yield self._score(data, base, {"scorer": "l0", **profile.gates, **changes})
        if point is not None:
            yield from self._operating_points(data, point)

    def _operating_points(self, data: str, point: OperatingPoint) -> Iterator[StageParameters]:
        profile, target = self.profile, self.finetuned(data, self.profile.target)
        unpruned = id_of(target)
        yield from self._retrainings(data, unpruned, unpruned)
        timed = [unpruned]
        for multiple in profile.multiples:
            gates = {
                kind: list(self._l0(data, target, {kind: float(f"{penalty * multiple:.6g}")}))
                for kind, penalty in point.items()
            }
            for runs in gates.values():
                yield from runs
            for seed in range(len(profile.gate_seeds)):
                ids = {kind: id_of(runs[seed]) for kind, runs in gates.items()}
                pruned = self._prune(data, unpruned, ids)
                chosen = [pruned]
                if multiple in profile.single_kinds:
                    chosen += [self._prune(data, unpruned, {kind: ids[kind]}) for kind in ids]
                timed += [id_of(run) for run in chosen] if seed == 0 else []
                if multiple in profile.random_choice:
                    chosen.append(self._prune(data, unpruned, ids, choice="random"))
                yield from chosen
                for run in chosen:
                    if run.attn and run.ff:
                        yield from self._retrainings(data, id_of(run), unpruned)
        yield self._make(DecodeTime, data, {"models": timed, **profile.timing})

    def _finetunes(self, data: str, model: str) -> Iterator[Finetune]:
        for seed in self.profile.finetune_seeds:
            settings = {**self.profile.finetune, "model": model, "seed": seed}
            yield self._make(Finetune, data, settings)

    def _score(self, data: str, base: Finetune, settings: Mapping[str, Any]) -> ScoreGates:
        curves = self.profile.curves.model_dump()
        unpenalised = {"penalty_attn": None, "penalty_ff": None, "penalty_emb": None}
        model = {"model": id_of(base)}
        return self._make(ScoreGates, data, {**unpenalised, **curves, **model, **settings})

    def _l0(self, data: str, base: Finetune, penalty: OperatingPoint) -> Iterator[ScoreGates]:
        for seed in self.profile.gate_seeds:
            changes = {f"penalty_{kind}": value for kind, value in penalty.items()}
            gates = {**self.profile.gates, **changes, "kinds": list(penalty), "seed": seed}
            yield self._score(data, base, {"scorer": "l0", **gates})

    def _prune(self, data: str, model: str, gates: Mapping[str, str], **settings: Any) -> Prune:
        return self._make(Prune, data, {"model": model, **gates, **settings})

    def _retrainings(self, data: str, model: str, teacher: str) -> Iterator[Retrain]:
        for objective in self.profile.objectives:
            for seed in self.profile.retrain_seeds:
                settings = {
                    **self.profile.retrain,
                    "model": model,
                    "objective": objective,
                    "teacher": teacher if objective == "distillation" else None,
                    "seed": seed,
                }
                yield self._make(Retrain, data, settings)

    def _make(self, stage: Any, data: str, settings: Mapping[str, Any]) -> Any:
        questions = self.profile.data[data]
        if questions.source is None:
            raise SettingsError(
                f"profile {self.profile.name}: data {data!r} has no source: name the folder of its "
                "files (--source FOLDER)"
            )
        place = {
            "profile": self.profile.name,
            "provenance": self.profile.provenance,
            "results": self.results,
            "runs": self.runs,
        }
        given = {
            **place,
            "data": data,
            **questions.model_dump(),
            **self.profile.windows.model_dump(),
            **settings,
        }
        return stage.checked({**_unlimited(stage), **given})


def _unlimited(stage: type[StageParameters]) -> dict[str, Any]:
    """None for every optional limit: a stage's own defaults are of smoke size."""
    limits = ("max_steps", "questions", "max_questions")
    return {name: None for name in limits if name in stage.model_fields}


def record_file(planner: Planner, run: str) -> Path:
    """Where the record of a run id lies."""
    profile = planner.profile
    return Path(planner.results) / profile.provenance / profile.name / f"{run}.json"
