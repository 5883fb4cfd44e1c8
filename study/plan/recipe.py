"""A recipe: what is done with one model on one data set."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from study.plan.parameters import ComputeDtype, Count, Kind, NotNegative, Objective, Seed, Share
from study.records.record import Word

Multiples = list[NotNegative]
Settings = dict[str, Any]


class WindowSizes(BaseModel, frozen=True, extra="forbid"):
    """Sizes of windows in tokens."""

    max_length: Count = 384
    doc_stride: Count = 128


class Curves(BaseModel, frozen=True, extra="forbid"):
    """Shares at which every ranking is cut (Figures 1 and 2), and the questions that score it."""

    fractions: list[Share] = []
    curve_questions: Count | None = None


class Scorer(BaseModel, frozen=True, extra="allow"):
    """Parameters of `ScoreGates`, or arguments of the scorer; these two name the run."""

    scorer: Word
    kinds: list[Kind] = []


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """What is done with one model on one data set.

    A profile has one for all. Data and models change parts of it: what is a mapping of parameters
    is added to, all else is replaced.

    Attributes:
        windows: sizes of windows.
        compute_dtype: of models; "fastest" is what this machine computes in fastest. The parameters
            of a stage may differ.
        finetune: parameters of `Finetune`; a run for each of finetune_seeds.
        tuning: what `finetune` was chosen from by F1 on held-out questions: a run for each.
        curves: sparsity curves.
        scorers: a run each, without L0.
        gates: parameters that all L0 runs share. gate_seeds: of L0 at the operating points; from
            the second on, models are retrained by `further_objectives` (default: by all).
        penalties: λ of the L0 runs that an operating point is chosen from, by kind of gate; a run
            for each of penalty_seeds (default: gate_seeds). Without any, on data that come `after`
            other data, the point is that of the other data; elsewhere there is none.
        studies: further L0 runs, each with what it changes; at the operating point where they name
            no penalty.
        max_loss: F1 points that the operating point may lose.
        multiples: of the selected λ, at which the model is pruned.
        gate_objectives: the losses that drive the gates.
        single_kinds: multiples at which heads alone and activations alone are pruned too.
        random_choice: multiples at which the control is run that keeps as many heads and
            activations in each layer, but chooses them at random.
        carried: multiples at which gates of the data before prune too (section 4.3.1).
        carried_models: multiples at which the model that was pruned on the data before, weights
            and all, is trained further (Table 3).
        retrain: parameters of `Retrain`, for each of objectives and retrain_seeds.
        control_objectives: of the unpruned model and of random choice (default: objectives).
        smaller: pretrained models that this one teaches, and that are pruned and taught again after
            that (Table 5, Figure 4), each with what it changes.
        timing: parameters of `DecodeTime`.
        compress: parameters of `Compress`, a run each.
    """

    windows: WindowSizes = WindowSizes()
    compute_dtype: ComputeDtype | Literal["fastest"] = "float32"
    finetune: Settings = {}
    finetune_seeds: list[Seed] = Field(default=[0], min_length=1)
    tuning: list[Settings] = []
    curves: Curves = Curves()
    scorers: list[Scorer] = []
    gates: Settings = {}
    gate_seeds: list[Seed] = Field(default=[0], min_length=1)
    penalties: dict[Kind, Annotated[list[NotNegative], Field(min_length=1)]] = {}
    penalty_seeds: list[Seed] | None = Field(default=None, min_length=1)
    studies: list[Settings] = []
    max_loss: NotNegative = 5.0
    multiples: Multiples = [1.0, 2.0, 3.0, 4.0]
    gate_objectives: list[Objective] = Field(default=["cross_entropy"], min_length=1)
    single_kinds: Multiples = []
    random_choice: Multiples = []
    carried: Multiples = []
    carried_models: Multiples = []
    retrain: Settings = {}
    retrain_seeds: list[Seed] = Field(default=[0], min_length=1)
    objectives: list[Objective] = ["cross_entropy", "distillation"]
    further_objectives: list[Objective] | None = None
    control_objectives: list[Objective] | None = None
    smaller: dict[str, Changes] = {}
    timing: Settings = {}
    compress: list[Settings] = []

    @field_validator("gates")
    @classmethod
    def _of_l0(cls, gates: Settings) -> Settings:
        if own := {"scorer", "kinds", "options"} & gates.keys():
            raise ValueError(
                f"{min(own)} is no setting of L0's runs: other scorers have a list, scorers"
            )
        return gates


class Changes(BaseModel, frozen=True, extra="forbid"):
    """What a model changes of the recipe: on all data, and on those named in `by_data`."""

    about: str = ""
    data: list[Word] = []
    recipe: Settings = {}
    by_data: dict[Word, Settings] = {}

    def of(self, recipe: Recipe, data: str) -> Recipe:
        """The recipe on some data, with what the model changes of it."""
        return changed(recipe, self.recipe, self.by_data.get(data, {}))


def changed(recipe: Recipe, *changes: Settings) -> Recipe:
    """A recipe with parts changed: mappings of parameters are added to, all else is replaced."""
    content = recipe.model_dump(exclude_unset=True)
    for change in changes:
        for name, value in change.items():
            adds = isinstance(value, dict) and name in _ADDED_TO
            content[name] = {**content.get(name, {}), **value} if adds else value
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"a changed recipe: {explain(error)}") from None


def dtype_here(recipe: Recipe) -> ComputeDtype:
    """Of models, on this machine; the fastest is bfloat16 on a GPU or with AMX, else float32."""
    if recipe.compute_dtype != "fastest":
        return recipe.compute_dtype
    import torch

    is_fast = torch.cuda.is_available() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if is_fast else "float32"


def explain(error: ValidationError) -> str:
    """The first fault of what was read, with its place."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])).removeprefix("recipe.") or "the file"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


_ADDED_TO = ("windows", "finetune", "curves", "gates", "retrain", "timing")
