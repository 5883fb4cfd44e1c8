"""One model that has been trained on some questions, and the runs that go on from it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from study.plan.parameters import (
    PENALTIES,
    Finetune,
    Objective,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.plan.recipe import Curves, Recipe, Scorer

OperatingPoint = Mapping[str, float]
"""λ of each kind of gate."""
Trained = Finetune | Retrain
Stage = TypeVar("Stage", bound=StageParameters)
FIGURES: dict[tuple[str, ...], str] = {
    ("attn",): "figure1",
    ("ff",): "figure2",
    ("emb",): "embeddings",
}
WORDS = {"cross_entropy": "cross-entropy", "distillation": "distilled"}


@dataclass(frozen=True)
class Subject:
    """A trained model, what is done with it, and what it is called in the names of runs.

    Attributes:
        called: for instance "minilm".
        table: what the names of its operating points begin with, for instance "table2".
        make: `Planner.make`.
    """

    run: Trained
    recipe: Recipe
    called: str
    table: str
    make: Callable[..., Any]

    @property
    def place(self) -> str:
        """What the names of its operating points begin with."""
        return f"{self.table}/{self.run.data}/{self.called}"

    def score(self, scorer: Scorer) -> ScoreGates:
        """A run of a scorer; what is no parameter of the stage is an argument of the scorer."""
        settings = scorer.model_dump(exclude_unset=True)
        known = {name: v for name, v in settings.items() if name in ScoreGates.model_fields}
        options = {name: v for name, v in settings.items() if name not in known}
        figure = FIGURES.get(tuple(scorer.kinds), "figures")
        name = "-".join([scorer.scorer, *([words(options)] if options else [])])
        place = f"{figure}/{self.run.data}/{self.called}/{name}"
        return self._scores(place, {**known, **({"options": options} if options else {})})

    def l0(self, place: str, kind: str, penalty: float, **changes: Any) -> ScoreGates:
        """A run of L0 on one kind of gates, with the first seed unless it is changed."""
        own = {f"penalty_{kind}": penalty, "kinds": [kind], "seed": self.recipe.gate_seeds[0]}
        settings = {"scorer": "l0", **self.recipe.gates, **own, **changes}
        return self._scores(f"{place}/seed{settings['seed']}", settings)

    def sweep(self, kind: str, penalty: float) -> list[ScoreGates]:
        """Runs of L0 that an operating point is chosen from: one λ, each seed."""
        place = f"{FIGURES[(kind,)]}/{self.run.data}/{self.called}/l0-{kind}-{penalty:g}"
        seeds = self.recipe.penalty_seeds or self.recipe.gate_seeds
        return [self.l0(place, kind, penalty, seed=seed) for seed in seeds]

    def studies(self, point: OperatingPoint | None) -> Iterator[ScoreGates]:
        """Further runs of L0: without a point those that name a penalty, with one the others."""
        for changes in self.recipe.studies:
            place = f"readings/{self.run.data}/{self.called}/{words(changes)}"
            named = any(name in changes for name in PENALTIES)
            if named and point is None:
                yield self._scores(place, {"scorer": "l0", **self.recipe.gates, **changes})
            elif not named and point is not None:
                for kind, penalty in point.items():
                    yield self.l0(place, kind, penalty, **changes)

    def gates(
        self, point: OperatingPoint, multiple: float, at: str, **changes: Any
    ) -> list[ScoreGates]:
        """L0 at a multiple of the selected λ, a run for each kind."""
        return [
            self.l0(f"{at}/gates-{kind}", kind, times(penalty, multiple), **changes)
            for kind, penalty in point.items()
        ]

    def prune(self, gates: Sequence[ScoreGates], name: str, **settings: Any) -> Prune:
        """The model, pruned by these gates."""
        by_kind: dict[str, Any] = {run.kinds[0]: run.reference for run in gates}
        given = {"model": self.run.reference, **by_kind, **settings}
        return self.make(Prune, self.run.data, self.recipe, name, given)

    def retrained(
        self,
        model: StageParameters,
        name: str,
        objectives: Sequence[Objective],
        teacher: Trained | None = None,
    ) -> list[Retrain]:
        """Runs that train this model on, or it pruned; in `name` {} stands for the objective."""
        runs = []
        seeds = self.recipe.retrain_seeds
        for objective, seed in product(objectives, seeds):
            taught = (teacher or self.run).reference if objective == "distillation" else None
            settings = {"objective": objective, "teacher": taught, "seed": seed}
            given = {**self.recipe.retrain, "model": model.reference, **settings}
            end = f"-retrain{seed}" if len(seeds) > 1 else ""
            called = name.format(WORDS[objective]) + end
            runs.append(self.make(Retrain, self.run.data, self.recipe, called, given))
        return runs

    def _scores(self, name: str, settings: Mapping[str, Any]) -> ScoreGates:
        given = {**dict.fromkeys(PENALTIES), **self.recipe.curves.model_dump()}
        given |= {"model": self.run.reference, **settings}
        return self.make(ScoreGates, self.run.data, self.recipe, name, given)


def times(penalty: float, multiple: float) -> float:
    """A multiple of λ, rounded so that the same product always names the same run."""
    return float(f"{penalty * multiple:.6g}")


def as_file(model: str) -> str:
    """A model's name as a part of a path."""
    return _plain(Path(model).name)[:45] or "model"


def words(changes: Mapping[str, Any]) -> str:
    """Changed settings as a part of a path."""
    told = {name: v for name, v in changes.items() if name not in ("kinds", *Curves.model_fields)}
    return _plain("-".join(f"{name}-{value}" for name, value in told.items()))[:80] or "changed"


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("._-")
