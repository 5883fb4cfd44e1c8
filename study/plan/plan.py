"""From a profile to its runs: every experiment as parameters of a stage, and what it needs.

What is done is the same for every task, model and data set (`Recipe`); where data come `after`
other data (Natural Questions after SQuAD 2.0), models, gates and the operating point come from
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from qaprune_lib.cache import output_path
from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    PLACE,
    Compress,
    DecodeTime,
    Finetune,
    Objective,
    Retrain,
    StageParameters,
)
from study.plan.profile import Profile, read_profile
from study.plan.recipe import Changes, Recipe, dtype_here
from study.plan.subject import OperatingPoint, Stage, Subject, as_file, words
from study.records.record import NAME, RUN, hash_of, record_files, run_id

SELECT = "select"
"""The stage that picks the operating point; it has no notebook."""


@dataclass(frozen=True)
class Selection:
    """The choice of an operating point on some data: L0 runs on the base model, by kind of gate."""

    data: str
    model: str
    max_loss: float
    candidates: dict[str, list[str]]

    @property
    def name(self) -> str:
        """Its name, to be read."""
        return f"selection/{self.data}"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of its record."""
        return asdict(self)

    @property
    def id(self) -> str:
        """Its run id."""
        return run_id(self.name, SELECT, self.parameters)

    def upstream(self) -> list[str]:
        """Ids of the candidates."""
        return [run.removeprefix(RUN) for runs in self.candidates.values() for run in runs]


@dataclass
class Planner:
    """All runs that a profile asks for, with the folders of records and of models."""

    profile: Profile
    results: str = "results"
    runs: str = "runs"
    _named: dict[str, StageParameters] = field(default_factory=dict, repr=False)
    _is_planned: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        for folder in (self.results, self.runs):
            output_path(folder)  # raises where nothing can be written, before any run computes

    @classmethod
    def read(
        cls, path: Path, source: str | None, *, results: str = "results", runs: str = "runs"
    ) -> Planner:
        """The plan of a profile's file; as `read_profile`, which says what it raises."""
        return cls(read_profile(path, source=source), results, runs)

    def plan(self, points: Mapping[str, OperatingPoint] | None = None) -> list[StageParameters]:
        """All runs that can be named, each once, upstream first; without a point, until then."""
        self.selections()
        if points and not self._is_planned:
            self.plan()  # first, so that what a run is called does not depend on when it is planned
        self._is_planned = True
        runs: dict[str, StageParameters] = {}
        for data in sorted(self.profile.data, key=lambda name: len(self.profile.chain_of(name))):
            point = (points or {}).get(self.profile.chain_of(data)[0])
            for run in (*self._on_base(data), *self._on_target(data, point)):
                runs.setdefault(run.id, run)
        return list(runs.values())

    def selections(self) -> dict[str, Selection]:
        """The selection of each data set's operating point, by name of the data."""
        return self._selections

    @cached_property
    def _selections(self) -> dict[str, Selection]:
        found = {}
        for data, settings in self.profile.data.items():
            if settings.after is None:
                base = self.subject(data, self.profile.base)
                candidates: dict[str, list[str]] = {
                    kind: [run.reference for λ in penalties for run in base.sweep(kind, λ)]
                    for kind, penalties in base.recipe.penalties.items()
                    if kind != "emb"  # section 4.2.2: never pruned together with the others
                }
                loss = base.recipe.max_loss
                if candidates:
                    found[data] = Selection(data, base.run.reference, loss, candidates)
        return found

    def subject(self, data: str, model: str) -> Subject:
        """A model that is fine-tuned on some data, with the first seed."""
        recipe = self.profile.recipe_of(data, model)
        run = self._finetuned(data, model, recipe.finetune_seeds[0])
        return Subject(run, recipe, as_file(model), self._table(data), self.make)

    @property
    def folder(self) -> Path:
        """Where the profile's records lie."""
        return Path(self.results, self.profile.provenance, self.profile.name)

    @property
    def run_folder(self) -> Path:
        """Where its models and scores lie."""
        return Path(self.runs, self.profile.provenance, self.profile.name)

    def record_file(self, run: str) -> Path:
        """Where the record of a run id lies."""
        return self.folder / f"{run}.json"

    def make(
        self, stage: type[Stage], data: str, recipe: Recipe, name: str, settings: Mapping[str, Any]
    ) -> Stage:
        """A run of a stage, by the name under which it was recorded, or else first planned."""
        if own := sorted(PLACE & settings.keys()):
            raise SettingsError(
                f"profile {self.profile.name}: {own[0]} is no setting of a stage ({stage.stage}): "
                "where a run reads and writes is said by the profile and by its call; leave it out"
            )
        questions = self.profile.data[data].parameters()
        if questions["source"] is None and not questions["origin"]:
            self.profile.check_sources()
        # a stage's own limits are of smoke size
        limits = {"max_steps", "questions", "max_questions"} & stage.model_fields.keys()
        common = {**dict.fromkeys(limits), **questions, **recipe.windows.model_dump()}
        common |= {"source": questions["source"] or "-", "compute_dtype": dtype_here(recipe)}
        common |= {"profile": self.profile.name, "provenance": self.profile.provenance}
        common |= {"name": name, "data": data, "results": self.results, "runs": self.runs}
        run = stage.checked({**common, **settings})
        identity = hash_of(run.id)
        if identity not in self._named:
            recorded = self._recorded.get(identity, [run.id])
            if run.id not in recorded:
                run = run.model_copy(update={"name": recorded[0].removesuffix(f"-{identity}")})
            self._named[identity] = run
        return self._named[identity]  # type: ignore[return-value]

    @cached_property
    def _recorded(self) -> dict[str, list[str]]:
        """Ids of the runs that are recorded, by their hash."""
        found: dict[str, list[str]] = {}
        for file in record_files(self.folder):
            run = str(file.relative_to(self.folder).with_suffix(""))
            if re.fullmatch(NAME, run):
                found.setdefault(hash_of(run), []).append(run)
        return found

    def _finetuned(self, data: str, model: str, seed: int) -> Finetune:
        after = self.profile.data[data].after
        recipe = self.profile.recipe_of(data, model)
        begun = model if after is None else self.subject(after, model).run.reference
        settings = {**recipe.finetune, "model": begun, "seed": seed}
        name = f"finetuned/{data}/{as_file(model)}/seed{seed}"
        return self.make(Finetune, data, recipe, name, settings)

    def _trained(self, data: str, model: str) -> Iterator[Finetune]:
        """The fine-tuning runs of a model, those on the data before first."""
        for before in self.profile.chain_of(data)[:-1]:
            yield self.subject(before, model).run  # type: ignore[misc]
        for seed in self.profile.recipe_of(data, model).finetune_seeds:
            yield self._finetuned(data, model, seed)

    def _on_base(self, data: str) -> Iterator[StageParameters]:
        """Fine-tuning, and sparsity curves of the model that operating points are chosen on.

        On data that come after others none is chosen: there it is the model that is pruned.
        """
        is_first = self.profile.data[data].after is None
        model = self.profile.base if is_first else self.profile.target
        base = self.subject(data, model)
        yield from self._trained(data, model)
        for changes in base.recipe.tuning:
            settings = {**base.recipe.finetune, "model": base.run.model, **changes}
            name = f"tuning/{data}/{base.called}/{words(changes)}"
            yield self.make(Finetune, data, base.recipe, name, settings)
        for scorer in base.recipe.scorers:
            yield base.score(scorer)
        for kind, penalties in base.recipe.penalties.items():
            for penalty in penalties:
                yield from base.sweep(kind, penalty)
        yield from base.studies(None)

    def _on_target(self, data: str, point: OperatingPoint | None) -> Iterator[StageParameters]:
        """Operating points of the target, then of the other models."""
        for model in self.profile.models_of(data):
            subject = self.subject(data, model)
            recipe = subject.recipe
            yield from self._trained(data, model)
            controls = recipe.control_objectives
            controls = recipe.objectives if controls is None else controls
            yield from subject.retrained(subject.run, f"{subject.place}/unpruned/{{}}", controls)
            for settings in recipe.compress:
                name = f"compressed/{data}/{subject.called}/{words(settings)}"
                given = {"model": subject.run.reference, "macs": None, **settings}
                yield self.make(Compress, data, recipe, name, given)
            if point is None:
                continue
            timed = [subject.run.reference]
            yield from self._points(subject, point, controls, timed)
            yield from self._pupils(subject, model, point, timed)
            name, settings = f"{subject.place}/times", {"models": timed, **recipe.timing}
            yield self.make(DecodeTime, data, recipe, name, settings)
            if model == self.profile.target:
                yield from self._carried(subject, model, point)
                yield from subject.studies(point)

    def _points(
        self,
        subject: Subject,
        point: OperatingPoint,
        controls: Sequence[Objective],
        timed: list[str],
    ) -> Iterator[StageParameters]:
        """A model pruned at all multiples and retrained, and controls; first seeds are `timed`."""
        recipe = subject.recipe
        for seed in recipe.gate_seeds:
            further = recipe.further_objectives
            first = seed == recipe.gate_seeds[0] or further is None
            objectives = recipe.objectives if first else further or []
            for multiple, driven in product(recipe.multiples, recipe.gate_objectives):
                usual = driven == recipe.gate_objectives[0]
                at = f"{subject.place}/x{multiple:g}" + ("" if usual else f"-{driven}-gates")
                gates = subject.gates(point, multiple, at, seed=seed, objective=driven)
                pruned = [subject.prune(gates, f"{at}/pruned/seed{seed}")]
                if usual and multiple in recipe.single_kinds:
                    for run in gates:
                        name = f"{at}/pruned-{run.kinds[0]}/seed{seed}"
                        pruned.append(subject.prune([run], name))
                timed += [run.reference for run in pruned if seed == recipe.gate_seeds[0]]
                yield from (*gates, *pruned)
                yield from subject.retrained(pruned[0], f"{at}/{{}}/seed{seed}", objectives)
                if usual and multiple in recipe.random_choice:
                    random = subject.prune(gates, f"{at}/random/seed{seed}", choice="random")
                    yield random
                    yield from subject.retrained(random, f"{at}/random-{{}}/seed{seed}", controls)

    def _pupils(
        self, teacher: Subject, model: str, point: OperatingPoint, timed: list[str]
    ) -> Iterator[StageParameters]:
        """Smaller models that are taught, pruned at all multiples, and taught again as before.

        Adds them to `timed` on data that come after others (Table 5; not in Table 2).
        """
        is_timed = self.profile.data[teacher.run.data].after is not None
        for smaller, changes in teacher.recipe.smaller.items():
            taught = self._taught(teacher, model, smaller, changes)
            yield from taught
            recipe = changes.of(teacher.recipe, teacher.run.data)
            called = f"{as_file(smaller)}-of-{teacher.called}"
            pupil = Subject(taught[-1], recipe, called, teacher.table, self.make)
            timed += [pupil.run.reference] if is_timed else []
            for multiple in recipe.multiples:
                at = f"{pupil.place}/x{multiple:g}"
                gates = pupil.gates(point, multiple, at)
                pruned = pupil.prune(gates, f"{at}/pruned/seed{gates[0].seed}")
                timed += [pruned.reference] if is_timed else []
                yield from (*gates, pruned)
                yield from pupil.retrained(pruned, f"{at}/{{}}", ["distillation"], teacher.run)

    def _taught(
        self, teacher: Subject, model: str, smaller: str, changes: Changes
    ) -> list[Retrain]:
        """The runs in which a model teaches a smaller one: on the data before, then on its own."""
        data = teacher.run.data
        before: list[Retrain] = []
        if (after := self.profile.data[data].after) is not None:
            before = self._taught(self.subject(after, model), model, smaller, changes)
        recipe = changes.of(teacher.recipe, data)
        settings = {
            **recipe.finetune,
            "objective": "distillation",
            "teacher": teacher.run.reference,
            "model": before[-1].reference if before else smaller,
        }
        name = f"{teacher.table}/{data}/{as_file(smaller)}-of-{teacher.called}/taught"
        return [*before, self.make(Retrain, data, recipe, name, settings)]

    def _carried(
        self, subject: Subject, model: str, point: OperatingPoint
    ) -> Iterator[StageParameters]:
        """Gates, and pruned models, of the data before (section 4.3.1)."""
        data, recipe = subject.run.data, subject.recipe
        after = self.profile.data[data].after
        if after is None:
            return
        before = self.subject(after, model)
        for multiple in sorted({*recipe.carried, *recipe.carried_models}):
            above = f"{before.place}/x{multiple:g}"
            gates = before.gates(point, multiple, above)
            yield from gates
            if multiple in recipe.carried:
                at = f"transfer/{data}/{subject.called}/x{multiple:g}"
                pruned = subject.prune(gates, f"{at}/pruned")
                yield pruned
                yield from subject.retrained(pruned, f"{at}/{{}}", recipe.objectives)
            if multiple in recipe.carried_models:
                pruned = before.prune(gates, f"{above}/pruned/seed{gates[0].seed}")
                name = f"table3/{data}/{subject.called}/x{multiple:g}"
                settings = {**recipe.finetune, "model": pruned.reference}
                yield from (pruned, self.make(Retrain, data, recipe, name, settings))

    def _table(self, data: str) -> str:
        return "table2" if self.profile.data[data].after is None else "table5"
