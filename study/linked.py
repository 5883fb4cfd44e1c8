"""Records that point at each other: which model a run descends from, which settings it changes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from study.plan.parameters import ScoreGates
from study.records.record import Record, hash_of

SETTINGS: dict[str, Any] = {
    "learning_rate": "learning rate {:g}",
    "objective": "{}",
    "penalty_on": {"one": "penalty on P(γ = 1)", "nonzero": "penalty on P(γ ≠ 0)"},
    "optimizer": "{}",
    "embedding_norm": "{} LayerNorm",
    "initial_mean": "starting at {:g}",
    "dropout": {True: "with dropout", False: "without dropout"},
    "epochs": "{} epochs",
    "max_steps": "{} steps",
    "batch_size": "batch {}",
    "questions": "{} questions",
}
"""Settings of L0 beside its penalty and seed, and how to name the ones that a study changes."""

TAUGHT_BY = " taught by "


class Runs:
    """Records by stage and by id, which holds in one profile: each look-up starts from a record."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self._by_id = {(r.provenance, r.profile, r.id): r for r in self.records}
        self._sweeps: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
        for record in self.records:
            self._sweeps[_sweep(record)].append(record)
        self._common = {sweep: _commonest(runs) for sweep, runs in self._sweeps.items()}
        self._windows = {sweep: _windows(runs) for sweep, runs in self._sweeps.items()}

    def of(self, *stages: str) -> list[Record]:
        """The records of some stages, in their order."""
        return [record for record in self.records if record.stage in stages]

    def passed_over(self) -> set[str]:
        """Ids of fine-tuning runs that only settings were chosen from: other runs go on from
        another one of the same model and questions."""
        begun = {(_sweep(run), run.parameters["model"], run.id): run for run in self.of("finetune")}
        gone_on = {
            self.finetune_of(run)
            for run in self.records
            if run.stage != "finetune" and "model" in run.parameters
        }
        chosen = {key[:2] for key in begun if key[2] in gone_on}
        return {key[2] for key in begun if key[:2] in chosen and key[2] not in gone_on}

    def find(self, name: object, beside: Record) -> Record | None:
        """The record that an id, or a reference `run:<id>`, names in the profile of another one."""
        bare = str(name).removeprefix("run:")
        return self._by_id.get((beside.provenance, beside.profile, bare))

    def lineage(self, record: Record) -> Iterator[Record]:
        """A run and those that its model descends from, the nearest first."""
        yield record
        if (above := self.find(record.parameters.get("model"), record)) is not None:
            yield from self.lineage(above)

    def finetune_of(self, record: Record) -> str:
        """Id of the fine-tuning run, or the name of the model, that a run descends from."""
        for run in self.lineage(record):
            if run.stage == "finetune":
                return run.id
        return str(run.parameters["model"]).removeprefix("run:")

    def model_of(self, record: Record) -> str:
        """Name of the model that was fine-tuned first, as "minilm", and of who taught it."""
        *_, first = self.lineage(record)
        name, teacher = str(first.parameters["model"]), first.parameters.get("teacher")
        if teacher is None:
            return name
        by = self.find(teacher, first)
        return f"{name}{TAUGHT_BY}{teacher if by is None else self.model_of(by)}"

    def variant_of(self, record: Record) -> str:
        """What a run of L0 changes of the settings that its sweep shares; or ""."""
        own, common = record.parameters, self._common[_sweep(record)]
        changed = [n for n in SETTINGS if own["scorer"] == "l0" and own[n] != common[n]]
        return ", ".join(_in_words(SETTINGS[name], own[name]) for name in changed)

    def selected(self, record: Record) -> Mapping[str, Any]:
        """λ of each kind at the operating point chosen on this record's data; empty if none is.

        Where nothing is chosen, as on Natural Questions, λ comes from the questions that the model
        learnt before (section 4.3).
        """
        for run in self.lineage(record):
            choices = [other for other in self._sweeps[_sweep(run)] if other.stage == "select"]
            if choices:  # a sweep that was extended has chosen again
                return max(choices, key=lambda choice: choice.started).metrics
        return {}

    def epochs_of(self, record: Record) -> float | None:
        """Passes that a training run made over all training questions of its data; None if unknown.

        Counted in windows: steps times batch size, over the windows of all these questions.
        """
        training = record.metrics.get("training")
        batch_size = record.parameters.get("batch_size")
        windows = self._windows[_sweep(record)]
        return training["steps"] * batch_size / windows if training and windows else None

    def timing_of(self, record: Record) -> Mapping[str, Any]:
        """Decoding times of a run's model, at the smallest batch that was timed, if any was.

        They are of any model with the same topology on the same questions. Speed-up and ratio of
        multiply-accumulates are over the model before it was pruned, also where the first model
        that was timed is another: its teacher.
        """
        lineage = list(self.lineage(record))
        names, stages = [f"run:{run.id}" for run in lineage], [run.stage for run in lineage]
        same_topology = names[: stages.index("prune") + 1] if "prune" in stages else names
        found: list[tuple[Any, dict[str, Any]]] = []
        for run in self._sweeps[_sweep(record)]:
            timed = [name for name in names if run.stage == "time" and name in run.metrics]
            if timed and timed[0] in same_topology:
                timing = _timing(run, timed[0], whole=timed[-1])
                found.append((run.parameters["batch_size"], timing))
        return min(found, key=lambda pair: pair[0])[1] if found else {}


def _sweep(record: Record) -> tuple[Any, ...]:
    return record.provenance, record.profile, record.parameters["data"]


def _commonest(records: Sequence[Record]) -> dict[str, Any]:
    """The value of each setting that most L0 runs of a sweep share, rather its default.

    Of those that its operating point was chosen from, once it is.
    """
    candidates: set[str] = set()
    for choice in (record for record in records if record.stage == "select"):
        groups: Any = choice.parameters["candidates"]
        candidates |= {hash_of(run) for runs in groups.values() for run in runs}
    swept = [record for record in records if hash_of(record.id) in candidates] or records
    own = [r.parameters for r in swept if r.parameters.get("scorer") == "l0"]
    common: dict[str, Any] = {}
    for name in SETTINGS if own else ():
        default, counts = ScoreGates.model_fields[name].default, Counter(p[name] for p in own)
        common[name] = max(counts, key=lambda value: (counts[value], value == default))
    return common


def _windows(records: Iterable[Any]) -> float:
    """Windows of all training questions of a sweep, else their number; 0 if unknown."""
    windows, questions = [0.0], [0]
    for run in records:
        known = run.metrics.get("scoring", {}).get("questions")
        questions += [run.parameters.get("train_questions") or 0, known or 0]
        if run.stage == "finetune":
            steps, limit = run.metrics["training"]["steps"], run.parameters["max_steps"]
            if limit is None or steps < limit:
                windows += [steps * run.parameters["batch_size"] / run.parameters["epochs"]]
    return max(windows) or max(questions)


def _timing(record: Record, name: str, whole: str) -> dict[str, Any]:
    """One model of a timing run, compared with the model `whole`."""
    timing = record.metrics[name]
    reference = record.metrics[whole]
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


def _in_words(names: Any, value: Any) -> str:
    if isinstance(names, dict):
        return str(names[value])
    value = value.replace("_", "-") if isinstance(value, str) else value
    return str(names.format("all" if value is None else value))
