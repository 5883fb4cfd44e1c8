"""The runs on Natural Questions (section 4.3): models and gates that come from SQuAD 2.0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from study.plan.parameters import (
    DecodeTime,
    Finetune,
    Objective,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.plan.profile import NQ, FurtherModel, NaturalQuestionsSettings
from study.plan.single_runs import OperatingPoint, RunMaker, id_of, ids_by_kind


def natural_questions_runs(
    maker: RunMaker, points: Mapping[str, OperatingPoint]
) -> Iterator[StageParameters]:
    """All runs on Natural Questions that can be named, upstream first.

    Args:
        maker: of the profile.
        points: selected operating points by name of the data; what follows from that of SQuAD is
            left out where it is not there yet.
    """
    settings = maker.profile.natural_questions
    if settings is None:
        return
    target = maker.profile.target
    squad = maker.finetuned(settings.after, target)
    tuned = maker.make(Finetune, NQ, {**settings.finetune, "model": id_of(squad)})
    yield squad
    yield tuned
    for scorer in settings.scorers:
        yield maker.score(NQ, tuned, scorer)
    point = points.get(settings.after)
    if point is not None:
        model = _Model(maker, settings, point, tuned)
        yield from model.with_controls(squad)
    for name, changes in settings.others.items():
        begun = maker.finetuned(settings.after, name, **changes.squad)
        training = {**settings.finetune, "model": id_of(begun), **changes.finetune}
        other = maker.make(Finetune, NQ, training)
        yield begun
        yield other
        if point is not None:
            model = _Model(maker, settings, point, other)
            yield from model.runs(begun, changes.gate_objectives, changes.smaller)


class _Model:
    """The runs of one model that was fine-tuned on Natural Questions."""

    def __init__(
        self,
        maker: RunMaker,
        settings: NaturalQuestionsSettings,
        point: OperatingPoint,
        tuned: Finetune,
    ) -> None:
        self.maker, self.settings, self.point = maker, settings, point
        self.tuned, self.unpruned = tuned, id_of(tuned)

    def runs(
        self, squad: Finetune, objectives: Sequence[Objective], smaller: Mapping[str, FurtherModel]
    ) -> Iterator[StageParameters]:
        """Operating points with gates of its own, smaller models, and the times of all these.

        Args:
            squad: the run on SQuAD that it comes from.
            objectives: what drives the gates.
            smaller: models that it teaches.
        """
        timed = [self.unpruned]
        for multiple in self.settings.multiples:
            seeds = [{"seed": seed} for seed in self.settings.gate_seeds.get(multiple, [])] or [{}]
            for objective, seed in product(objectives, seeds):
                gates = self.gates(multiple, objective=objective, **seed)
                yield from gates
                pruned = self.pruned(gates)
                yield from self.with_retrainings(pruned)
                timed += [id_of(pruned)] if seed == seeds[0] else []
        for name, changes in smaller.items():
            begun, pupil = self.pupils(squad, name, changes)
            again = list(self.pupil_pruned(pupil))
            yield from (begun, pupil, *again)
            timed += [id_of(pupil), *(id_of(run) for run in again if isinstance(run, Prune))]
        yield self.maker.make(DecodeTime, NQ, {"models": timed, **self.settings.timing})

    def with_controls(self, squad: Finetune) -> Iterator[StageParameters]:
        """Those runs, and all that stands beside them, where `squad` is what was fine-tuned on."""
        settings = self.settings
        yield from self.runs(squad, settings.gate_objectives, settings.smaller)
        yield from self.retrained(self.unpruned, ["cross_entropy"])
        for multiple in settings.random_choice:
            gates = self.gates(multiple)
            yield from gates
            chosen = self.pruned(gates, choice="random")
            yield chosen
            yield from self.retrained(id_of(chosen), ["cross_entropy"])
        for multiple in settings.carried:
            gates = self.gates_of(squad, multiple)
            yield from gates
            yield from self.with_retrainings(self.pruned(gates))
        for multiple in settings.carried_models:
            yield from self.trained_on(squad, multiple)
        for changes in settings.studies:
            yield from self.gates(1.0, **changes)

    def gates(self, multiple: float, **changes: Any) -> list[ScoreGates]:
        """L0 on Natural Questions at a multiple of the λ selected on SQuAD, a run for each kind."""
        settings = {**self.settings.gates, **changes}
        return self.maker.gates(NQ, self.tuned, self.point, multiple, **settings)

    def gates_of(self, squad: Finetune, multiple: float) -> list[ScoreGates]:
        """SQuAD's gates at a multiple of the selected λ, a run for each kind."""
        return self.maker.gates(self.settings.after, squad, self.point, multiple)

    def trained_on(self, squad: Finetune, multiple: float) -> Iterator[StageParameters]:
        """The model pruned on SQuAD, trained on like the unpruned one (Table 3)."""
        gates = self.gates_of(squad, multiple)
        yield from gates
        pruned = self.maker.prune(self.settings.after, id_of(squad), ids_by_kind(gates))
        yield pruned
        cross_entropy: Objective = "cross_entropy"
        training = {
            **self.settings.finetune,
            "model": id_of(pruned),
            "objective": cross_entropy,
            "teacher": None,
        }
        yield self.maker.make(Retrain, NQ, training)

    def pupils(self, squad: Finetune, name: str, changes: FurtherModel) -> tuple[Retrain, Retrain]:
        """A smaller model that learns from `squad`, and then from this one."""
        maker, settings = self.maker, self.settings
        training = {**maker.profile.finetune, "model": name, **changes.squad}
        begun = maker.pupil(settings.after, id_of(squad), training)
        training = {**settings.finetune, "model": id_of(begun), **changes.finetune}
        return begun, maker.pupil(NQ, self.unpruned, training)

    def pupil_pruned(self, pupil: Retrain) -> Iterator[StageParameters]:
        """A smaller model that was taught, pruned and taught again."""
        return self.maker.pupil_pruned(
            pupil,
            self.point,
            gates=self.settings.gates,
            multiples=self.settings.multiples,
            retrain=self.settings.retrain,
        )

    def pruned(self, gates: list[ScoreGates], **settings: Any) -> Prune:
        """The model for Natural Questions, pruned."""
        return self.maker.prune(NQ, self.unpruned, ids_by_kind(gates), **settings)

    def with_retrainings(self, run: Prune) -> Iterator[StageParameters]:
        """A pruned model, and that model retrained."""
        yield run
        yield from self.retrained(id_of(run))

    def retrained(
        self, model: str, objectives: Sequence[Objective] | None = None
    ) -> Iterator[Retrain]:
        """Runs that continue the training of a model."""
        settings = self.settings.retrain
        return self.maker.retrainings(NQ, model, self.unpruned, settings, objectives)
