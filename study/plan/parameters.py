"""The parameters of each stage, checked: what a stage notebook takes and a record keeps."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qaprune_lib.errors import SettingsError

Kind = Literal["attn", "ff", "emb"]
Objective = Literal["cross_entropy", "distillation"]
Task = Literal["squad", "natural_questions"]
ComputeDtype = Literal["float32", "bfloat16"]
Count = Annotated[int, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class StageParameters(BaseModel):
    """What all stages take. A run's identity is made of all fields but those of `PLACE`.

    Attributes:
        profile, provenance: the sweep that the run belongs to, and what its numbers are worth.
        results: folder of records. runs: folder of models and scores.
        source: "embedded", a folder or file of official SQuAD JSON or of Natural Questions, or a
            Hub id.
        data: name of the questions in records. version: of SQuAD, where a folder holds both.
        task: which of the two the questions are.
        train_questions, heldout_questions, dev_questions: drawn at random (seed 0) where the data
            has more. Natural Questions have none that are held out, and are drawn one by one, so
            that about as many come.
        max_length, doc_stride: size and step of windows, in tokens.
        null_rate: share of the windows without an answer that models train on, for Natural
            Questions alone.
        train_files, dev_files: of Natural Questions, where `source` is a folder that holds more
            than one dev set; the first one scores, and the others are scored beside it.
        compute_dtype: of models, as of `load_model`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: ClassVar[str]
    notebook: ClassVar[str]
    PLACE: ClassVar[frozenset[str]] = frozenset(
        {"profile", "provenance", "results", "runs", "source"}
    )
    OF_NATURAL_QUESTIONS: ClassVar[frozenset[str]] = frozenset(
        {"task", "null_rate", "train_files", "dev_files"}
    )

    profile: str = "smoke"
    provenance: Literal["embedded", "measured"] = "embedded"
    results: str = "runs/smoke"
    runs: str = "runs"
    source: str = "embedded"
    data: str = "squad2"
    version: Literal["1.1", "2.0"] | None = None
    train_questions: Count | None = 300
    heldout_questions: Count | None = 60
    dev_questions: Count | None = 60
    max_length: Count = 128
    doc_stride: Count = 64
    task: Task = "squad"
    null_rate: Share | None = None
    train_files: list[str] = []
    dev_files: list[str] = []
    compute_dtype: ComputeDtype = "float32"

    @model_validator(mode="after")
    def _natural_questions_have_their_own(self) -> Self:
        if self.task == "squad" and (self.null_rate is not None or self.dev_files):
            raise ValueError("null_rate and dev_files are for Natural Questions alone")
        if bool(self.train_files) != bool(self.dev_files):
            raise ValueError("train_files and dev_files go together: name both or none")
        names = ["dev", *self.other_dev_sets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"dev_files: two dev sets would be called {twice[0]!r}")
        return self

    @property
    def other_dev_sets(self) -> list[str]:
        """Further dev sets of Natural Questions, by their files' names without their endings."""
        return [re.sub(r"\.jsonl(\.gz)?$", "", Path(file).name) for file in self.dev_files[1:]]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Pick this stage's parameters by name, for instance from a notebook's `globals()`.

        Raises:
            SettingsError: a value of a wrong type or out of range, which is named.
        """
        return cls.checked({name: values[name] for name in cls.model_fields if name in values})

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> Self:
        """Parameters from exactly these values.

        Raises:
            SettingsError: as `read`; also an unknown name, with the nearest known one.
        """
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
                message = f"{where}: {message} ({where} = {first['input']!r})"
            raise SettingsError(f"stage {cls.stage}: {message}") from None

    def identity(self) -> dict[str, Any]:
        """The parameters of the run's record.

        Those of Natural Questions, and a `compute_dtype` of bfloat16, only where they apply.
        """
        absent = set(self.PLACE)
        if self.task == "squad":
            absent |= self.OF_NATURAL_QUESTIONS
        if self.compute_dtype == "float32":
            absent.add("compute_dtype")
        return self.model_dump(exclude=absent)

    def place(self) -> dict[str, Any]:
        """The rest: where the run reads and writes."""
        return self.model_dump(include=set(self.PLACE))

    def upstream(self) -> list[str]:
        """Run ids that this run needs, of all its references that are runs of the same profile."""
        return [name for name in self.references() if is_run_id(name)]

    def references(self) -> list[str]:
        """What the run reads beside the questions: models and scores."""
        return []


class Finetune(StageParameters):
    """Fine-tune all weights.

    Attributes:
        model: anything that `load_model` takes, or the id of a run whose model goes on: with a new
            layer for the answer type, where it comes from SQuAD and the task is Natural Questions.
    """

    stage = "finetune"
    notebook = "01_finetune"

    model: str = "embedded"
    epochs: Count = 1
    max_steps: Count | None = 30
    batch_size: Count = 16
    learning_rate: NotNegative = 3e-4
    warmup: Share = 0.05
    dropout: bool = False
    seed: Seed = 0

    def references(self) -> list[str]:  # noqa: D102
        return [self.model]


class ScoreGates(StageParameters):
    """Score gates of `model`, and draw F1 on held-out questions against the share removed.

    Attributes:
        model: id of a fine-tuning run, or anything that `load_model` takes.
        scorer: name of the function in `qaprune_lib.scorers`; L0 takes the rest from `penalty_attn`
            on, gain takes `at` and `normalize`.
        kinds: which gates; for L0 those with a penalty.
        questions: training questions that score (leave-one-out: dev questions); None: all.
        random_seeds: rankings that random draws.
        fractions: shares at which each ranking is cut, scored on `curve_questions` held-out
            questions (of Natural Questions: dev questions, by which nothing is chosen); L0 is
            scored at its own threshold too.
    """

    stage = "score"
    notebook = "02_score_gates"

    model: str = "embedded"
    scorer: Literal["random", "gain", "leave_one_out", "l0", "fisher"] = "l0"
    kinds: list[Kind] = ["attn"]
    questions: Count | None = 100
    seed: Seed = 0
    random_seeds: Count = 1
    at: Literal[0, 1] = 1
    normalize: bool = False
    penalty_attn: NotNegative | None = 0.08
    penalty_ff: NotNegative | None = None
    penalty_emb: NotNegative | None = None
    objective: Objective = "cross_entropy"
    penalty_on: Literal["nonzero", "one"] = "nonzero"
    optimizer: Literal["adam", "bert_adam"] = "adam"
    embedding_norm: Literal["weighted", "plain"] = "weighted"
    epochs: Count = 1
    max_steps: Count | None = 40
    batch_size: Count = 8
    learning_rate: NotNegative = 0.1
    initial_mean: Annotated[float, Field(allow_inf_nan=False)] = 2.5
    dropout: bool = False
    fractions: list[Share] = [0.25, 0.5]
    curve_questions: Count | None = 60

    @model_validator(mode="after")
    def _l0_penalises_its_kinds(self) -> Self:
        penalised = {kind for kind, penalty in self.penalties().items() if penalty is not None}
        if not self.kinds:
            raise ValueError("kinds is empty: name at least one of attn, ff and emb")
        if self.scorer == "l0" and penalised != set(self.kinds):
            raise ValueError(
                f"L0 needs a penalty for each of its kinds and no other: kinds are "
                f"{', '.join(self.kinds)}, penalties are given for {', '.join(sorted(penalised))}"
            )
        return self

    def penalties(self) -> dict[str, float | None]:
        """λ of each kind."""
        return {"attn": self.penalty_attn, "ff": self.penalty_ff, "emb": self.penalty_emb}

    def references(self) -> list[str]:  # noqa: D102
        return [self.model]


class Prune(StageParameters):
    """Prune and score without retraining (last column of Table 2).

    Attributes:
        model: id of a fine-tuning run, or anything that `load_model` takes.
        attn, ff: ids of the score runs whose gates are cut at threshold 0; None keeps all.
        fraction: cut at this share instead of the threshold.
        choice: "scores", or the control "random": L0's count in each layer, chosen at random.
        choice_seed: of that control.
    """

    stage = "prune"
    notebook = "03_prune"

    model: str = "embedded"
    attn: str | None = None
    ff: str | None = None
    fraction: Share | None = None
    choice: Literal["scores", "random"] = "scores"
    choice_seed: Seed = 0

    def references(self) -> list[str]:  # noqa: D102
        return [name for name in (self.model, self.attn, self.ff) if name is not None]


class Retrain(StageParameters):
    """Continue training with cross-entropy or distillation, and score.

    Attributes:
        model: id of a prune run, or of a fine-tuning run (the control), or a folder.
        teacher: id of a fine-tuning run, or what `load_model` takes; used for distillation only.
        questions: training questions; None: all.
    """

    stage = "retrain"
    notebook = "04_retrain"

    model: str = "embedded"
    objective: Objective = "cross_entropy"
    teacher: str | None = None
    questions: Count | None = None
    epochs: Count = 1
    max_steps: Count | None = 20
    batch_size: Count = 16
    learning_rate: NotNegative = 1e-4
    warmup: Share = 0.1
    dropout: bool = False
    seed: Seed = 0

    @model_validator(mode="after")
    def _teacher_teaches(self) -> Self:
        if (self.objective == "distillation") != (self.teacher is not None):
            raise ValueError("distillation needs a teacher, and cross-entropy takes none")
        return self

    def references(self) -> list[str]:  # noqa: D102
        return [name for name in (self.model, self.teacher) if name is not None]


class DecodeTime(StageParameters):
    """Decode the dev questions with several models in turns; the first is the reference."""

    stage = "time"
    notebook = "05_decode_time"

    models: list[str] = ["embedded"]
    batch_size: Count = 1
    repeats: Count = 5
    max_questions: Count | None = 20

    def references(self) -> list[str]:  # noqa: D102
        return self.models


STAGES: dict[str, type[StageParameters]] = {
    cls.stage: cls for cls in (Finetune, ScoreGates, Prune, Retrain, DecodeTime)
}
"""All stages by name, in the order of the graph."""


def is_run_id(name: str) -> bool:
    """Whether a reference is a run's id, `stage/slug-hash`, rather than a model's name."""
    stage, slash, rest = name.partition("/")
    return bool(slash) and stage in STAGES and "/" not in rest


def unknown_name(name: str, known: Any, where: str) -> str:
    """An error's text: there is no such parameter, but there may be one like it."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
    return f"{where} takes no parameter {name!r}{hint}"
