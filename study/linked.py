"""Records that point at each other: which model a run descends from, which settings it changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import Any

from study.plan.parameters import ScoreGates
from study.records.record import Record, run_id

SETTINGS = {
    "learning_rate": "learning rate {:g}",
    "objective": "{}",
    "penalty_on": "penalty on P(γ = 1)",
    "optimizer": "{}",
    "embedding_norm": "{} LayerNorm",
    "initial_mean": "starting at {:g}",
    "dropout": "dropout",
    "epochs": "{} epochs",
    "max_steps": "{} steps",
    "batch_size": "batch {}",
    "questions": "{} questions",
}
"""Settings of L0 beside its penalty and seed, and how to name the ones that a study changes."""


TAUGHT_BY = " taught by "


class Runs:
    """Complete records, found by stage and by run id.

    A run id holds within one profile and provenance, so each look-up starts from a record.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = [record for record in records if record.status == "complete"]
        self._by_id: dict[tuple[Any, ...], Record] = {
            (*self._place(r), id_of(r)): r for r in self.records
        }
        self._common: dict[tuple[Any, ...], dict[str, Any]] = {}
        for record in self.of("score"):
            if record.parameters["scorer"] == "l0":
                self._common.setdefault(self._sweep(record), {})
        for sweep, common in self._common.items():
            common.update(self._commonest(sweep))

    def of(self, *stages: str) -> list[Record]:
        """The records of some stages, in their order."""
        return [record for record in self.records if record.stage in stages]

    def find(self, name: object, beside: Record) -> Record | None:
        """The record with a run id in the sweep of another record; None if there is none."""
        return self._by_id.get((*self._place(beside), name))

    def finetune_of(self, record: Record) -> str:
        """Id of the fine-tuning run, or the name of the model, that a run descends from."""
        if record.stage == "finetune":
            return id_of(record)
        name = str(record.parameters["model"])
        above = self.find(name, record)
        return name if above is None else self.finetune_of(above)

    def model_of(self, record: Record) -> str:
        """Name of the model that was fine-tuned first, for instance "minilm".

        One that a larger model taught from the start is another: "minilm taught by mpnet-base".
        """
        name = record.parameters["model"]
        if (above := self.find(name, record)) is not None:
            return self.model_of(above)
        teacher = record.parameters.get("teacher")
        if teacher is None:
            return str(name)
        by = self.find(teacher, record)
        return f"{name}{TAUGHT_BY}{teacher if by is None else self.model_of(by)}"

    def variant_of(self, record: Record) -> str:
        """What a run of L0 changes of the settings that most L0 runs of its data share; or ""."""
        parameters: Any = record.parameters
        if parameters["scorer"] != "l0":
            return ""
        common = self._common[self._sweep(record)]
        changed = [name for name in SETTINGS if parameters[name] != common[name]]
        return ", ".join(_name_setting(name, parameters[name]) for name in changed)

    def selected(self, record: Record) -> Mapping[str, Any]:
        """λ of each kind at the operating point chosen on this record's data; empty if none is.

        Where nothing is chosen, as on Natural Questions, λ comes from the questions that the model
        learnt before (section 4.3).
        """
        choices = [r for r in self.of("select") if self._sweep(r) == self._sweep(record)]
        if choices:  # a sweep that was extended has chosen again
            return max(choices, key=lambda choice: choice.started).metrics
        above = self.find(record.parameters.get("model"), record)
        return {} if above is None else self.selected(above)

    def timing_of(self, record: Record) -> Mapping[str, Any]:
        """Decoding times of a run's model, at the smallest batch of those that were taken.

        They are of any model with the same topology on the same questions. Speed-up and ratio of
        multiply-accumulates are over the model before it was pruned, also where the first model
        that was timed is another: its teacher. With the precision that they were taken in,
        `compute_dtype`. Empty if none was timed.
        """
        lineage = list(self._lineage(record))
        stages = [name.partition("/")[0] for name in lineage]
        same_topology = lineage[: stages.index("prune") + 1] if "prune" in stages else lineage
        found: list[tuple[Any, Any]] = []
        for run in self.of("time"):
            names = [name for name in same_topology if name in run.metrics]
            if names and self._sweep(run) == self._sweep(record):
                whole = [name for name in lineage if name in run.metrics][-1]
                found.append((run.parameters["batch_size"], _timing(run, names[0], whole)))
        return min(found, key=lambda pair: pair[0])[1] if found else {}

    def _lineage(self, record: Record) -> Iterator[str]:
        """Ids of a run and of those that its model descends from, the nearest first."""
        yield id_of(record)
        above = self.find(record.parameters.get("model"), record)
        if above is not None:
            yield from self._lineage(above)

    def _commonest(self, sweep: tuple[Any, ...]) -> dict[str, Any]:
        runs = [r for r in self.of("score") if self._sweep(r) == sweep]
        own = [r.parameters for r in runs if r.parameters["scorer"] == "l0"]
        common: dict[str, Any] = {}
        for name in SETTINGS:
            default = ScoreGates.model_fields[name].default
            counts = Counter(p[name] for p in own)
            common[name] = max(counts, key=lambda value: (counts[value], value == default))
        return common

    @staticmethod
    def _place(record: Record) -> tuple[str, str]:
        return record.provenance, record.profile

    @classmethod
    def _sweep(cls, record: Record) -> tuple[Any, ...]:
        return *cls._place(record), record.parameters["data"]


def _timing(record: Record, name: str, whole: str) -> dict[str, Any]:
    """One model of a timing run, compared with the model `whole`."""
    timing: Any = record.metrics[name]
    reference: Any = record.metrics[whole]
    pairs = zip(reference["rounds"], timing["rounds"], strict=True)
    ratios = [before / after for before, after in pairs]
    macs = timing["macs_ratio"]
    return {
        **timing,
        "speedup": median(ratios),
        "speedup_low": min(ratios),
        "speedup_high": max(ratios),
        "macs_ratio": None if macs is None else macs / reference["macs_ratio"],
        "compute_dtype": record.parameters.get("compute_dtype", "float32"),
    }


def id_of(record: Record) -> str:
    """The run id of a record."""
    return run_id(record.stage, record.parameters)


def _name_setting(name: str, value: Any) -> str:
    if name == "dropout":
        return "with dropout" if value else "without dropout"
    if name == "penalty_on" and value == "nonzero":
        return "penalty on P(γ ≠ 0)"
    if value is None:
        return {"max_steps": "all steps", "questions": "all questions"}[name]
    return SETTINGS[name].format(value.replace("_", "-") if isinstance(value, str) else value)
