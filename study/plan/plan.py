"""From a profile to its runs: every experiment as parameters of a stage, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.plan.parameters import DecodeTime, StageParameters
from study.plan.single_runs import (
    OperatingPoint,
    RunMaker,
    id_of,
    ids_by_kind,
    times,
)
from study.plan.transfer import natural_questions_runs
from study.records.record import run_id

SELECT = "select"
"""The stage that picks the operating point; it has no notebook."""


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


class Planner(RunMaker):
    """All runs that a profile asks for."""

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
            point = (points or {}).get(data)
            for run in (*self._of_data(data, point), *self._of_others(data, point)):
                runs.setdefault(id_of(run), run)
        for run in natural_questions_runs(self, points or {}):
            runs.setdefault(id_of(run), run)
        return list(runs.values())

    def ids(self, points: Mapping[str, OperatingPoint] | None = None) -> list[str]:
        """Ids of the runs of `plan`, and of the selections."""
        runs = [id_of(run) for run in self.plan(points)]
        return runs + [selection.id for selection in self.selections().values()]

    def selections(self) -> dict[str, Selection]:
        """The selection of each data set's operating point."""
        found = {}
        for data in self.profile.data:
            base = self.finetuned(data, self.profile.base)
            candidates: dict[str, list[str]] = {}
            for kind, penalties in self.profile.penalties.items():
                if kind != "emb":  # section 4.2.2: never pruned together with the others
                    seeds = self.profile.penalty_seeds
                    runs = [run for p in penalties for run in self.l0(data, base, {kind: p}, seeds)]
                    candidates[kind] = [id_of(run) for run in runs]
            found[data] = Selection(data, id_of(base), self.profile.max_loss, candidates)
        return found

    def _of_data(self, data: str, point: OperatingPoint | None) -> Iterator[StageParameters]:
        profile = self.profile
        yield from self.finetunes(data, profile.base)
        yield from self.finetunes(data, profile.target)
        base = self.finetuned(data, profile.base)
        for changes in profile.tuning:
            yield from self.finetunes(data, profile.base, **changes)
        for settings in profile.scorers:
            yield self.score(data, base, settings)
        for kind, penalties in profile.penalties.items():
            for penalty in penalties:
                yield from self.l0(data, base, {kind: penalty}, profile.penalty_seeds)
        for changes in profile.studies:
            yield self.score(data, base, {"scorer": "l0", **profile.gates, **changes})
        yield from self._unpruned(data)
        if point is not None:
            yield from self._operating_points(data, point)

    def _of_others(self, data: str, point: OperatingPoint | None) -> Iterator[StageParameters]:
        """The runs of further models, as if each were the large one."""
        for name, other in self.profile.others.items():
            if data in other.data:
                planner = replace(self, profile=self.profile.with_large(name))
                yield from planner.finetunes(data, name)
                yield from planner._unpruned(data)
                if point is not None:
                    yield from planner._operating_points(data, point)
                    yield from planner._pupils(data, point, other.smaller)

    def _pupils(
        self, data: str, point: OperatingPoint, smaller: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[StageParameters]:
        profile = self.profile
        teacher = id_of(self.finetuned(data, profile.target))
        for name, changes in smaller.items():
            pupil = self.pupil(data, teacher, {**profile.finetune, "model": name, **changes})
            yield pupil
            yield from self.pupil_pruned(
                pupil, point, gates={}, multiples=profile.multiples, retrain=profile.retrain
            )

    def _unpruned(self, data: str) -> Iterator[StageParameters]:
        """The control: the same extra training without pruning."""
        unpruned = id_of(self.finetuned(data, self.profile.target))
        yield from self.retrainings(data, unpruned, unpruned, self.profile.retrain)

    def _operating_points(self, data: str, point: OperatingPoint) -> Iterator[StageParameters]:
        profile, target = self.profile, self.finetuned(data, self.profile.target)
        unpruned = id_of(target)
        timed = [unpruned]
        for number, seed in enumerate(profile.gate_seeds):
            further = profile.further_objectives
            objectives = profile.objectives if number == 0 or further is None else further
            for multiple in profile.multiples:
                gates = [
                    run
                    for kind, penalty in point.items()
                    for run in self.l0(data, target, {kind: times(penalty, multiple)}, [seed])
                ]
                yield from gates
                ids = ids_by_kind(gates)
                pruned = self.prune(data, unpruned, ids)
                chosen = [pruned]
                if multiple in profile.single_kinds:
                    chosen += [self.prune(data, unpruned, {kind: ids[kind]}) for kind in ids]
                timed += [id_of(run) for run in chosen] if number == 0 else []
                if multiple in profile.random_choice:
                    chosen.append(self.prune(data, unpruned, ids, choice="random"))
                yield from chosen
                for run in chosen:
                    if run.attn and run.ff:
                        yield from self.retrainings(
                            data, id_of(run), unpruned, profile.retrain, objectives
                        )
        yield self.make(DecodeTime, data, {"models": timed, **profile.timing})


def record_file(planner: Planner, run: str) -> Path:
    """Where the record of a run id lies."""
    profile = planner.profile
    return Path(planner.results) / profile.provenance / profile.name / f"{run}.json"
