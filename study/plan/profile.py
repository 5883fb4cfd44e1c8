"""Profiles: which models, questions and settings fill in the experiments; one YAML file each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qaprune_lib.errors import SettingsError
from study.plan.parameters import (
    STAGES,
    ComputeDtype,
    Count,
    Kind,
    NotNegative,
    Objective,
    Share,
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Part):
    """Questions of one name; counts are drawn at random (seed 0) where the data has more.

    `source` may be left out of the file and given where the graph is run; `folder` is a part of
    that folder. `about` is what has to be said beside every number that comes from them.
    """

    source: str | None = None
    folder: str = ""
    about: str = ""
    version: Literal["1.1", "2.0"] | None = None
    train_questions: Count | None = None
    heldout_questions: Count | None = None
    dev_questions: Count | None = None

    def parameters(self) -> dict[str, Any]:
        """As parameters of a stage."""
        return self.model_dump(exclude={"folder", "about"})


class WindowSizes(_Part):
    """Sizes of windows in tokens."""

    max_length: Count = 384
    doc_stride: Count = 128


class FurtherModel(_Part):
    """What a further model on Natural Questions changes of how it is trained.

    Attributes:
        squad: of the profile's `finetune`, before Natural Questions.
        finetune: of that on Natural Questions.
    """

    squad: dict[str, Any] = {}
    finetune: dict[str, Any] = {}


class FurtherLargeModel(FurtherModel):
    """One that is pruned as the first model on Natural Questions is (the paper: RoBERTa-large).

    Attributes:
        gate_objectives, smaller: as of `NaturalQuestionsSettings`.
    """

    gate_objectives: list[Objective] = Field(default=["cross_entropy"], min_length=1)
    smaller: dict[str, FurtherModel] = {}


class NaturalQuestionsSettings(_Part):
    """Section 4.3: models and gates that go from SQuAD to Natural Questions.

    The λ are those selected on `after`, times `multiples`; nothing is tuned again.

    Attributes:
        after: name of the SQuAD questions that models and gates come from.
        source, folder, about, train_questions, dev_questions: as of `DataSettings`.
        train_files, dev_files, null_rate: as of `StageParameters`.
        windows: sizes of windows.
        others: further models that are fine-tuned, on `after` first, and pruned likewise.
        smaller: pretrained models that the first one teaches, on `after` first, and that are pruned
            and taught again after that (Table 5, Figure 4).
        finetune: parameters of `Finetune`, from the model that was fine-tuned on `after`; also of
            the continued training of one that was pruned there (Table 3).
        scorers: parameters of `ScoreGates`, a run each.
        gates: what changes of the profile's `gates`; the paper trains them on 20% of the questions.
        studies: further L0 runs at the selected λ, each with what it changes.
        gate_objectives: the losses that drive the gates.
        gate_seeds: by multiple, seeds that gates of its own are trained with (section 4.3.3); of
            these the first model is timed. Elsewhere it is the first of the profile's.
        carried: multiples at which SQuAD's gates prune too.
        carried_models: multiples at which the model pruned on SQuAD, weights and all, is trained
            further (Table 3).
        random_choice: multiples of that control.
        retrain: parameters of `Retrain`.
        timing: parameters of `DecodeTime`.
    """

    after: str
    source: str | None = None
    folder: str = ""
    about: str = ""
    train_questions: Count | None = None
    dev_questions: Count | None = None
    train_files: list[str] = []
    dev_files: list[str] = []
    null_rate: Share | None = None
    windows: WindowSizes
    others: dict[str, FurtherLargeModel] = {}
    smaller: dict[str, FurtherModel] = {}
    finetune: dict[str, Any]
    scorers: list[dict[str, Any]] = []
    gates: dict[str, Any] = {}
    studies: list[dict[str, Any]] = []
    gate_objectives: list[Objective] = Field(default=["cross_entropy"], min_length=1)
    multiples: list[NotNegative] = [1.0, 2.0]
    gate_seeds: dict[NotNegative, Annotated[list[int], Field(min_length=1)]] = {}
    carried: list[NotNegative] = []
    carried_models: list[NotNegative] = []
    random_choice: list[NotNegative] = []
    retrain: dict[str, Any]
    timing: dict[str, Any]

    def parameters(self) -> dict[str, Any]:
        """As parameters of a stage."""
        names = {"source", "train_questions", "dev_questions", "train_files", "dev_files"}
        return {
            "task": "natural_questions",
            "heldout_questions": None,
            **self.model_dump(include={*names, "null_rate"}),
            **self.windows.model_dump(),
        }


class OtherModel(_Part):
    """A further model that is pruned at the operating points, and what it changes of the profile.

    Attributes:
        data: names of the questions that it is trained and pruned on.
        about: what has to be said beside every number that comes from it.
        compute_dtype, finetune, retrain, timing: as of `Profile`; of the last three, what changes.
        smaller: pretrained models that it teaches, and that are pruned and taught again after that,
            each with what it changes of `finetune`.
    """

    data: list[str] = Field(min_length=1)
    about: str = ""
    compute_dtype: ComputeDtype = "float32"
    finetune: dict[str, Any] = {}
    retrain: dict[str, Any] = {}
    timing: dict[str, Any] = {}
    smaller: dict[str, dict[str, Any]] = {}


class CurveSettings(_Part):
    """Shares at which every ranking is cut (Figures 1 and 2), and the held-out questions there."""

    fractions: list[Share] = []
    curve_questions: Count | None = None


class Resources(_Part):
    """What one run of a stage needs; the graph hands it to the machine or to the cluster.

    A run with as many `threads` as the machine has cores runs alone there: timing asks for that.
    """

    threads: Count = 1
    gpu: int = Field(default=0, ge=0)
    mem_mb: Count = 6000
    minutes: Count = 120


NQ = "nq"
"""Name of Natural Questions in records."""

Located = TypeVar("Located", DataSettings, NaturalQuestionsSettings)


class Profile(_Part):
    """One profile: a sweep over models, data, scorers, penalties, objectives and seeds.

    Attributes:
        name: part of every path. provenance: what its numbers are worth.
        data: the questions, by name.
        base: model on which gates are swept and the operating point is chosen.
        large: model that the operating points go to; None: base.
        others: further models that they go to as well, by name.
        windows: sizes of windows.
        compute_dtype: of models; the parameters of a stage may differ.
        finetune: parameters of `Finetune`; a run for each of finetune_seeds.
        tuning: what `finetune` was chosen from by F1 on held-out questions: a run of base for each.
        curves: sparsity curves.
        scorers: parameters of `ScoreGates`, a run each, on base; without L0.
        gates: parameters that all L0 runs share.
        penalties: λ of the L0 runs on base, by kind of gate; a run for each of penalty_seeds,
            which are gate_seeds unless they are given.
        studies: further L0 runs on base, each with what it changes.
        max_loss: F1 points that the operating point may lose on base.
        multiples: of the selected λ, at which the large model is pruned.
        single_kinds: multiples at which heads alone and activations alone are pruned too.
        random_choice: multiples at which the control is run that keeps as many heads and
            activations in each layer, but chooses them at random.
        retrain: parameters of `Retrain`, for each of objectives and retrain_seeds.
        further_objectives: of models of all gate seeds but the first; by default the same.
        timing: parameters of `DecodeTime`.
        natural_questions: the second half of the paper; its questions are named "nq".
        resources: what a run of each stage needs.
    """

    name: str
    provenance: Literal["embedded", "measured"]
    data: dict[str, DataSettings] = Field(min_length=1)
    base: str
    large: str | None = None
    others: dict[str, OtherModel] = {}
    windows: WindowSizes
    compute_dtype: ComputeDtype = "float32"
    finetune: dict[str, Any]
    finetune_seeds: list[int] = Field(default=[0], min_length=1)
    tuning: list[dict[str, Any]] = []
    curves: CurveSettings
    scorers: list[dict[str, Any]] = []
    gates: dict[str, Any]
    gate_seeds: list[int] = Field(default=[0], min_length=1)
    penalties: dict[Kind, Annotated[list[NotNegative], Field(min_length=1)]]
    penalty_seeds: list[int] | None = Field(default=None, min_length=1)
    studies: list[dict[str, Any]] = []
    max_loss: NotNegative = 5.0
    multiples: list[NotNegative] = [1.0, 2.0, 3.0, 4.0]
    single_kinds: list[NotNegative] = []
    random_choice: list[NotNegative] = []
    retrain: dict[str, Any]
    retrain_seeds: list[int] = Field(default=[0], min_length=1)
    objectives: list[Objective] = ["cross_entropy", "distillation"]
    further_objectives: list[Objective] | None = None
    timing: dict[str, Any]
    natural_questions: NaturalQuestionsSettings | None = None
    resources: dict[str, Resources] = {}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for name, other in self.others.items():
            if unknown := set(other.data) - set(self.data):
                raise ValueError(f"others.{name}.data: {min(unknown)!r} is not in data")
        if unknown := set(self.resources) - set(STAGES):
            raise ValueError(f"resources.{min(unknown)}: the stages are {', '.join(STAGES)}")
        for name in ("single_kinds", "random_choice"):
            if not set(getattr(self, name)) <= set(self.multiples):
                raise ValueError(f"{name}: each has to be one of multiples")
        if not {"attn", "ff"} & set(self.penalties):
            raise ValueError("penalties: an operating point needs those of attn, of ff or of both")
        if NQ in self.data:
            raise ValueError(f"{NQ!r} names Natural Questions: give them as natural_questions")
        nq = self.natural_questions
        if nq is None:
            return self
        if nq.after not in self.data:
            raise ValueError(f"natural_questions come after {nq.after!r}, which is not in data")
        for name in ("gate_seeds", "random_choice"):
            if not set(getattr(nq, name)) <= set(nq.multiples):
                raise ValueError(f"natural_questions.{name}: each has to be one of its multiples")
        for name in ("carried", "carried_models"):
            if not set(getattr(nq, name)) <= set(self.multiples) & set(nq.multiples):
                raise ValueError(
                    f"natural_questions.{name}: gates are carried from multiples of both"
                )
        return self

    def resources_of(self, stage: str) -> Resources:
        """What one run of a stage needs."""
        return self.resources.get(stage, Resources())

    @property
    def target(self) -> str:
        """The model that is pruned at the operating points."""
        return self.large or self.base

    def with_large(self, name: str) -> Profile:
        """The same profile with one of the `others` as its large model."""
        other = self.others[name]
        changed = {
            part: {**getattr(self, part), **getattr(other, part)}
            for part in ("finetune", "retrain", "timing")
        }
        return self.model_copy(
            update={"large": name, "compute_dtype": other.compute_dtype, **changed}
        )


def read_profile(path: str | Path, *, source: str | None = None) -> Profile:
    """Read and check a profile.

    Args:
        path: a YAML file.
        source: where all questions are that the file gives no source for.

    Raises:
        SettingsError: no such file, not YAML, an unknown or missing key, a value of a wrong type.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such profile") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SettingsError(f"{path}: {where}: {first['msg']}") from error
    changes: dict[str, Any] = {
        "data": {name: _located(settings, source) for name, settings in profile.data.items()}
    }
    if profile.natural_questions is not None:
        changes["natural_questions"] = _located(profile.natural_questions, source)
    return profile.model_copy(update=changes)


def _located(settings: Located, source: str | None) -> Located:
    if settings.source or source is None:
        return settings
    return settings.model_copy(update={"source": str(Path(source) / settings.folder)})
