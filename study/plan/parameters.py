"""The parameters of each stage, checked: what a stage notebook takes and a record keeps.

The `parameters` cells of the notebooks are written from these classes (`python -m study
notebooks`), so a default and what it means stand here alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from qaprune_lib.errors import SettingsError
from study.records.record import NAME, RUN, Name, Word, is_run, run_id

Kind = Literal["attn", "ff", "emb"]
Objective = Literal["cross_entropy", "distillation"]
TaskName = Literal["squad", "natural_questions"]
ComputeDtype = Literal["float32", "bfloat16"]
Count = Annotated[int, Field(gt=0, lt=2**31)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Faster = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Version = Annotated[
    Literal["1.1", "2.0"], BeforeValidator(lambda v: str(v) if isinstance(v, float) else v)
]
"""Of SQuAD; YAML and command lines read 1.1 as a number."""

PLACE = frozenset({"name", "profile", "provenance", "results", "runs", "source"})
"""Parameters that say where a run reads and writes, and are no part of what it is."""
OF_NATURAL_QUESTIONS = frozenset({"task", "null_rate", "train_files", "dev_files"})
PENALTIES = ("penalty_attn", "penalty_ff", "penalty_emb")
OF_L0 = frozenset(
    {*PENALTIES, "objective", "penalty_on", "optimizer", "embedding_norm", "epochs", "max_steps"}
    | {"batch_size", "learning_rate", "initial_mean", "dropout"}
)
"""Parameters of `ScoreGates` that only L0 has."""


def default(value: Any, meaning: str) -> Any:
    """A parameter's default, and what it means."""
    return Field(value, description=meaning)


class StageParameters(BaseModel):
    """What all stages take."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: ClassVar[str]
    notebook: ClassVar[str]

    name: Name = default("smoke", "of the run, to be read; a part of its path")
    profile: Word = default("smoke", "the sweep, a part of every path")
    provenance: Literal["embedded", "measured"] = default(
        "embedded", "embedded: the generated corpus; measured: real questions"
    )
    results: str = default("runs/smoke", "folder of records")
    runs: str = default("runs", "folder of models and scores")
    source: str = default(
        "embedded", "embedded, a folder of SQuAD or Natural Questions files, a Hub id"
    )
    origin: str = default("", "digest of the source; empty: what it is found to be")
    data: Word = default("squad2", "name of the questions in records")
    version: Version | None = default(None, "of SQuAD, where the folder holds both: 1.1 or 2.0")
    train_questions: Count | None = default(300, "drawn at random (seed 0); None: all")
    heldout_questions: Count | None = default(60, "likewise; of SQuAD alone")
    dev_questions: Count | None = default(60, "likewise")
    max_length: Count = default(128, "of a window, in tokens")
    doc_stride: Count = default(64, "step from window to window, in tokens")
    task: TaskName = default("squad", "or natural_questions, to which alone the next three belong")
    null_rate: Share | None = default(
        None, "share of the windows without an answer to train on; None: 0.02"
    )
    train_files: list[str] = default(
        [], "where the folder holds several dev sets: which files are train,"
    )
    dev_files: list[str] = default([], "and which dev; the first one scores")
    compute_dtype: ComputeDtype = default("float32", "or bfloat16, faster where the device has it")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.task == "squad" and (self.null_rate is not None or self.dev_files):
            raise ValueError("null_rate and dev_files are for Natural Questions alone")
        if bool(self.train_files) != bool(self.dev_files):
            raise ValueError("train_files and dev_files go together: name both or none")
        names = ["dev", *self.other_dev_sets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"dev_files: two dev sets would be called {twice[0]!r}")
        if wrong := [run for run in self.upstream() if not re.fullmatch(NAME, run)]:
            raise ValueError(f"{RUN}{wrong[0]}: no run has such a name")
        if (self.source == "embedded") != (self.provenance == "embedded"):
            raise ValueError(
                f"provenance={self.provenance!r} with source={self.source!r}: numbers of the "
                "generated corpus are embedded, those of files are measured"
            )
        return self

    @property
    def other_dev_sets(self) -> list[str]:
        """Further dev sets of Natural Questions, by their files' names without their endings."""
        return [re.sub(r"\.jsonl(\.gz)?$", "", Path(file).name) for file in self.dev_files[1:]]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Pick this stage's parameters by name, for instance from a notebook's `globals()`."""
        return cls.checked({name: values[name] for name in cls.model_fields if name in values})

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Parameters from these values; an error says the nearest name to an unknown one."""
        for name in values:
            if name not in cls.model_fields:
                raise SettingsError(unknown_name(name, cls.model_fields, cls.stage))
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            if where:
                message = f"{where}: {message} ({where} = {first['input']!r:.100})"
            raise SettingsError(f"stage {cls.stage}: {message}") from None

    def identity(self) -> dict[str, Any]:
        """The parameters of the run's record: those that apply, without those of `PLACE`."""
        absent = set(PLACE)
        if self.task == "squad":
            absent |= OF_NATURAL_QUESTIONS
        if self.compute_dtype == "float32":
            absent.add("compute_dtype")
        return self.model_dump(exclude=absent)

    def place(self) -> dict[str, Any]:
        """The rest: where the run reads and writes."""
        return self.model_dump(include=set(PLACE))

    @property
    def id(self) -> str:
        """The run's id; see `study.records.record.run_id`."""
        return run_id(self.name, self.stage, self.identity())

    @property
    def reference(self) -> str:
        """How the parameters of other runs name this one."""
        return RUN + self.id

    def upstream(self) -> list[str]:
        """Ids of the runs that this run builds on."""
        return [name.removeprefix(RUN) for name in self.references() if is_run(name)]

    def references(self) -> list[str]:
        """What the run reads beside the questions: models and scores."""
        found = [getattr(self, name, None) for name in ("model", "attn", "ff", "teacher")]
        return [name for name in found if name is not None]


class Finetune(StageParameters):
    """Fine-tune all weights."""

    stage = "finetune"
    notebook = "01_finetune"

    model: str = default("embedded", "embedded, minilm, mpnet-base, a Hub id, a folder")
    epochs: Count = default(1, "passes over the windows")
    max_steps: Count | None = default(30, "stop earlier; None: do not")
    batch_size: Count = default(16, "windows in one optimizer step")
    learning_rate: NotNegative = default(3e-4, "peak; decays linearly to 0")
    warmup: Share = default(0.05, "share of the steps in which it rises")
    dropout: bool = default(False, "whether the model's dropout is on")
    seed: Seed = default(0, "of the order of batches and of dropout")


class ScoreGates(StageParameters):
    """Score gates, and draw F1 on held-out questions against the share removed."""

    stage = "score"
    notebook = "02_score_gates"

    model: str = default("embedded", "run:ID of a fine-tuning run, or a model")
    scorer: Word = default("l0", "a name in qaprune_lib.scorers: l0, gain, random, …")
    kinds: list[Kind] = default(["attn"], "of attn, ff and emb; for L0 those that have a penalty")
    questions: Count | None = default(
        100, "training questions that score (leave-one-out: of dev); None: all"
    )
    seed: Seed = default(0, "of the gates and of the order of batches")
    random_seeds: Count = default(1, "rankings that random draws")
    options: dict[str, JsonValue] = default(
        {}, "further arguments of the scorer (not of L0, which has its own below)"
    )
    penalty_attn: NotNegative | None = default(
        0.08, "λ of L0, by kind; None: no gates of this kind"
    )
    penalty_ff: NotNegative | None = default(None, "likewise")
    penalty_emb: NotNegative | None = default(None, "likewise")
    objective: Objective = default("cross_entropy", "or distillation: to the model's own logits")
    penalty_on: Literal["nonzero", "one"] = default(
        "nonzero", "the penalty counts gates that are not 0, or those that are 1"
    )
    optimizer: Literal["adam", "bert_adam"] = default("adam", "or bert_adam")
    embedding_norm: Literal["weighted", "plain"] = default(
        "weighted", "LayerNorm under embedding gates, or plain"
    )
    epochs: Count = default(1, "of gate training")
    max_steps: Count | None = default(40, "stop earlier; None: do not")
    batch_size: Count = default(8, "windows in one optimizer step")
    learning_rate: NotNegative = default(0.1, "of the gates; decays linearly to 0")
    initial_mean: Finite = default(2.5, "of log_alpha")
    dropout: bool = default(False, "whether the model's dropout is on")
    fractions: list[Share] = default([0.25, 0.5], "shares removed at which the ranking is cut")
    curve_questions: Count | None = default(
        60, "that score the curve: held-out (of Natural Questions: dev); None: all"
    )

    @model_validator(mode="after")
    def _penalties_fit_the_kinds(self) -> Self:
        penalised = {kind for kind, penalty in self.penalties().items() if penalty is not None}
        if not self.kinds:
            raise ValueError("kinds is empty: name at least one of attn, ff and emb")
        if self.scorer == "l0" and penalised != set(self.kinds):
            raise ValueError(
                f"L0 needs a penalty for each of its kinds and no other: kinds are "
                f"{', '.join(self.kinds)}, penalties are given for {', '.join(sorted(penalised))}"
            )
        if self.scorer == "l0" and self.options:
            raise ValueError("options: L0 has a parameter for each of its settings")
        return self

    def identity(self) -> dict[str, Any]:  # noqa: D102
        absent = set() if self.options else {"options"}
        absent |= OF_L0 if self.scorer != "l0" else set()
        if self.scorer != "random":
            absent.add("random_seeds")
        return {k: value for k, value in super().identity().items() if k not in absent}

    def penalties(self) -> dict[str, float | None]:
        """λ of each kind."""
        return {"attn": self.penalty_attn, "ff": self.penalty_ff, "emb": self.penalty_emb}


class Prune(StageParameters):
    """Prune and score without retraining (last column of Table 2)."""

    stage = "prune"
    notebook = "03_prune"

    model: str = default("embedded", "run:ID of a run that trained it, or a model")
    attn: str | None = default(None, "run:ID of the scores that say which heads stay; None: all")
    ff: str | None = default(None, "the same of activations")
    fraction: Share | None = default(None, "cut at this share; None: at threshold 0")
    choice: Literal["scores", "random"] = default(
        "scores", "or random: as many in each layer, chosen at random (a control)"
    )
    choice_seed: Seed = default(0, "of that control")


class Retrain(StageParameters):
    """Continue training with cross-entropy or distillation, and score."""

    stage = "retrain"
    notebook = "04_retrain"

    model: str = default("embedded", "run:ID of a pruned or fine-tuned one, or a model")
    objective: Objective = default("cross_entropy", "or distillation")
    teacher: str | None = default(None, "for distillation: as model")
    questions: Count | None = default(None, "training questions; None: all")
    epochs: Count = default(1, "passes over the windows")
    max_steps: Count | None = default(20, "stop earlier; None: do not")
    batch_size: Count = default(16, "windows in one optimizer step")
    learning_rate: NotNegative = default(1e-4, "peak; decays linearly to 0")
    warmup: Share = default(0.1, "share of the steps in which it rises")
    dropout: bool = default(False, "whether the model's dropout is on")
    seed: Seed = default(0, "of the order of batches and of dropout")

    @model_validator(mode="after")
    def _teacher_teaches(self) -> Self:
        if (self.objective == "distillation") != (self.teacher is not None):
            raise ValueError("distillation needs a teacher, and cross-entropy takes none")
        return self


class Compress(StageParameters):
    """Prune, mend and distil in one call, to what is asked for (not in the paper)."""

    stage = "compress"
    notebook = "06_compress"

    model: str = default("embedded", "run:ID of a fine-tuning run, or a model")
    speedup: Faster | None = default(None, "times as fast on this device; None: macs says it")
    macs: Share | None = default(0.5, "share of the multiply-accumulates that stays")
    budget: str = default("1s", "of time; what pruning leaves of it is for distillation")
    seed: Seed = default(0, "of all that is drawn")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.speedup is None) == (self.macs is None):
            raise ValueError("name either speedup or macs, and None for the other")
        if self.task != "squad":
            raise ValueError("compress reads questions of SQuAD alone")
        return self


class DecodeTime(StageParameters):
    """Decode the dev questions with several models in turns; the first is the reference."""

    stage = "time"
    notebook = "05_decode_time"

    models: list[str] = default(["embedded"], "run:ID each, or models; the first is the reference")
    batch_size: Count = default(1, "windows decoded at once")
    repeats: Count = default(5, "rounds")
    max_questions: Count | None = default(20, "of dev, evenly spaced; None: all")

    def references(self) -> list[str]:  # noqa: D102
        return self.models


STAGES: dict[str, type[StageParameters]] = {
    cls.stage: cls for cls in (Finetune, ScoreGates, Prune, Retrain, Compress, DecodeTime)
}
"""All stages by name, in the order of the graph."""


def unknown_name(name: str, known: Any, where: str) -> str:
    """An error's text: there is no such parameter, but there may be one like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
    return f"{where} takes no parameter {name!r}{hint}"
