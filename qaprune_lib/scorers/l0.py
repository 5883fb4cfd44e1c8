"""L0 regularisation with hard-concrete gates (paper section 3.2, approach 4)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError, real, short, warn
from qaprune_lib.gates.hard_concrete import HardConcrete, PenaltyOn
from qaprune_lib.gates.masks import Masks, apply_masks
from qaprune_lib.models import KINDS, QuestionAnsweringModel, shape_of
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.scorers.registry import scorer
from qaprune_lib.scorers.scores import (
    GateScores,
    check_kinds,
    warn_if_untrained,
    without_absent,
)
from qaprune_lib.scorers.targets import Multipliers, Target, at_target, check_target, kinds_of
from qaprune_lib.training.bert_adam import BertAdam
from qaprune_lib.training.objectives import Distillation
from qaprune_lib.training.settings import TrainingSettings, with_hyperparameters
from qaprune_lib.training.trainer import SpanTrainer, dropout_set
from qaprune_lib.training.training_set import TrainingSet

REACH = 15.0
"""How far log_alpha has to be able to move, for gates to close that their penalty presses."""


def _gate_training() -> TrainingSettings:
    return TrainingSettings(
        learning_rate=1e-1, warmup=0.0, weight_decay=0.0, max_grad_norm=0.0, dropout=False
    )


@dataclass(frozen=True)
class GateSettings:
    """How gates are trained; the paper's values are the defaults where it gives any.

    Attributes:
        penalty_on: the penalty counts gates by P(γ ≠ 0) ("nonzero", as the public
            implementations) or by P(γ = 1) ("one", the paper's Eq. 3). Their slopes differ by a
            factor of ten and more, and so do comparable λ.
        optimizer: "adam" (no decay, no clipping), or "bert_adam" (the paper's; see `BertAdam`).
        initial_mean: mean of the initial log_alpha; 2 to 3 starts the gates open.
        embedding_norm: as in `apply_masks`.
        training: epochs, batch size, learning rate and so on. The rate decays linearly to 0, so
            that log_alpha can move by about learning_rate · steps / 2: keep that at 15 or more.
            `training.seed` is the seed of the gates: of their initial values, their samples and
            the order of batches.

    Raises:
        SettingsError: an unknown name, or a mean that is not finite.

    >>> settings = GateSettings(penalty_on="one", optimizer="bert_adam")
    >>> settings.initial_mean, settings.training.learning_rate
    (2.5, 0.1)
    """

    penalty_on: PenaltyOn = "nonzero"
    optimizer: Literal["adam", "bert_adam"] = "adam"
    initial_mean: float = 2.5
    embedding_norm: Literal["weighted", "plain"] = "weighted"
    training: TrainingSettings = field(default_factory=_gate_training)

    def __post_init__(self) -> None:
        if self.penalty_on not in ("nonzero", "one"):
            raise SettingsError(f"penalty_on={self.penalty_on!r} must be 'nonzero' or 'one'")
        if self.optimizer not in ("adam", "bert_adam"):
            raise SettingsError(f"optimizer={self.optimizer!r} must be 'adam' or 'bert_adam'")
        if not math.isfinite(mean := real(self.initial_mean)):
            raise SettingsError(f"initial_mean={short(self.initial_mean)} is not a finite number")
        object.__setattr__(self, "initial_mean", mean)


class GatedModel(nn.Module):
    """A frozen model under hard-concrete gates; these, and multipliers, are its only parameters.

    Args:
        model: runs as it is; its weights are neither trained nor saved here.
        kinds: kinds of gates.
        settings: initial values and the seed.
        target: what the gates are driven to, if not by a fixed penalty.
    """

    def __init__(
        self,
        model: QuestionAnsweringModel,
        kinds: list[str],
        settings: GateSettings,
        target: Target | None = None,
    ) -> None:
        super().__init__()
        self.frozen_model = [model]  # in a list: not a submodule, so neither saved nor trained
        self.settings = settings
        generator = torch.Generator().manual_seed(settings.training.seed)
        shape = shape_of(model.config)
        self.gates = nn.ModuleDict(
            {
                kind: HardConcrete(
                    shape.gates(kind), initial_mean=settings.initial_mean, generator=generator
                )
                for kind in kinds
            }
        )
        self.present = {
            kind: torch.from_numpy(np.isfinite(values))
            for kind, values in without_absent(
                model, {kind: np.zeros(shape.gates(kind)) for kind in kinds}
            ).items()
        }
        self.multipliers = None if target is None else Multipliers(target, model)
        self.step = (0, 0)

    def forward(self, **batch: Tensor) -> QuestionAnsweringModelOutput:
        """Run the model under one sample of the gates for the whole batch.

        The sample depends on (seed, optimizer step, micro-step) alone: it is the same on all
        processes and after a resume.
        """
        seeds = np.random.SeedSequence([self.settings.training.seed, *self.step])
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1)[0]))
        samples = {kind: self.gate(kind).sample(generator) for kind in self.gates}
        model = self.frozen_model[0]
        norm = self.settings.embedding_norm
        with apply_masks(model, Masks(**samples), embedding_norm=norm, check_values=False):
            return model(**batch)

    def gate(self, kind: str) -> HardConcrete:
        """The gates of one kind."""
        return cast(HardConcrete, self.gates[kind])

    def open_gates(self, kind: str) -> Tensor:
        """Probability that each gate of one kind is open, 0 where there is no slice any more."""
        probability = self.gate(kind).probability(self.settings.penalty_on)
        return probability * self.present[kind].to(probability)


class GateTrainer(SpanTrainer):
    """Adds Σ λ_k E[open gates of kind k] to the loss, or what drives the gates to a target."""

    def __init__(
        self, gated: GatedModel, *arguments: Any, penalty: Mapping[str, float], **keywords: Any
    ) -> None:
        self.penalty = penalty
        self.micro_step = (-1, -1)
        (model,) = gated.frozen_model
        super().__init__(gated, *arguments, device=model.device, **keywords)
        model.to(self.args.device)  # type: ignore[arg-type]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Task loss of the micro-batch plus the penalties."""
        step, micro = self.micro_step
        now = self.state.global_step
        self.micro_step = (now, micro + 1 if now == step else 0)
        gated = self.accelerator.unwrap_model(model)
        gated.step = self.micro_step
        loss = super().compute_loss(model, inputs)
        for kind, weight in self.penalty.items():
            loss = loss + weight * gated.open_gates(kind).sum()
        if gated.multipliers is not None:
            kinds = {kind: gated.open_gates(kind) for kind in gated.gates}
            loss = loss + gated.multipliers(kinds, now / self.args.max_steps)
        return loss


@scorer("L0", order=4)
def l0(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    penalty: Mapping[str, float] | None = None,
    target: Target | None = None,
    teacher: QuestionAnsweringModel | None = None,
    distillation: Distillation | None = None,
    settings: GateSettings | None = None,
    windows: Windows | None = None,
    folder: Path | None = None,
    **hyperparameters: Any,
) -> GateScores:
    """Train gates with all weights held fixed; their log_alpha are the scores.

    The objective is the task's loss plus Σ_k λ_k E[number of open gates of kind k], where the
    task's loss is the mean over the batch of the mean of start and end (and, for Natural Questions,
    answer type); λ depends on that.

    Args:
        model: fine-tuned; stays as and where it is, and gets no gradient.
        dataset: questions to train the gates on, in SQuAD's form or Natural Questions.
        penalty: λ per kind, as {"attn": 2e-2}. The paper runs one kind at a time; several kinds
            make a joint run.
        target: instead of λ, what is to be removed: a share of each kind, as {"attn": 0.5}, or a
            budget for heads and activations together, such as `MACs(0.5)` or `Speedup(2.0)`. The
            penalties are found while the gates are trained (`qaprune_lib.scorers.targets`).
        teacher: the objective is distillation from it, instead of cross-entropy.
        distillation: weight and temperature, with a teacher.
        settings: `GateSettings`; single hyper-parameters, of it or of its `training`, can be given
            as keywords (`seed=1`, `max_steps=300`, `penalty_on="one"`).
        windows, folder: as for `finetune`.

    Returns:
        Scores to cut at `threshold=0.0`, where they meet a target if there is one; `open_mean`
        holds E[γ] for folding, and `settings["report"]` the training report and the expected share
        of open gates.

    Raises:
        SettingsError: a λ that is negative or not a number, no or an unknown kind, a share that is
            none, penalty and target both or neither, an unknown hyper-parameter, or a folder of
            another run.
        TopologyError: a budget that cannot be met.
        DataError: an empty data set.

    Warns:
        QapruneWarning: learning rate × steps / 2 is under `REACH`, or the head was never trained.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> options = {"penalty": {"attn": 0.02}, "max_steps": 1, "windows": Windows(96)}
    >>> l0(model, train.select(range(4)), **options).settings["report"]["steps"]
    1
    >>> options = {"target": {"attn": 0.5}, "max_steps": 1, "windows": Windows(96)}
    >>> int((l0(model, train.select(range(4)), **options).get("attn") > 0).sum())
    18
    """
    settings = _with_hyperparameters(settings or GateSettings(), hyperparameters)
    if distillation is not None and distillation.hidden:
        raise SettingsError("gates are driven by logits: distillation takes no hidden= here")
    if (penalty is None) == (target is None):
        raise SettingsError("pass either penalty= (λ of each kind) or target= (what to remove)")
    if target is None:
        penalty = _checked(penalty)
        wanted, driven = list(penalty), {kind: f"λ={λ:g}" for kind, λ in penalty.items()}
        described: dict[str, Any] = {"penalty": penalty}
    else:
        penalty, wanted = {}, kinds_of(target)
        if settings.optimizer != "adam":
            raise SettingsError(f"a target needs optimizer='adam', not {settings.optimizer!r}")
        check_target(target, model)
        removed = {k: real(v) for k, v in target.items()} if isinstance(target, Mapping) else {}
        driven = {kind: f"−{removed[kind]:.0%}" if removed else "to a budget" for kind in wanted}
        described = {"target": removed or str(target)}
    training_set = TrainingSet.of(model, dataset, windows, teacher, distillation)
    warn_if_untrained(model)
    kinds = [kind for kind in KINDS if kind in wanted]
    frozen, training = frozen_copy(model), settings.training
    gated = GatedModel(frozen, kinds, settings, target)
    described |= asdict(settings)
    with dropout_set(frozen, training.dropout):
        frozen.train(training.dropout)
        trainer = GateTrainer(
            gated,
            training_set,
            training,
            folder,
            "gates " + " ".join(f"{kind} {driven[kind]}" for kind in kinds),
            optimizer=_optimizer(gated, settings),
            penalty=penalty,
        )
        _warn_if_short(training.learning_rate, trainer.args.max_steps)
        report = trainer.run(described)
    shares = {
        kind: float(gated.open_gates(kind).detach().sum() / gated.present[kind].sum().clamp(min=1))
        for kind in kinds
    }
    identity = training_set.identity
    shown = {name: identity[name] for name in ("objective", "distillation", "windows")}
    scores = GateScores.of(
        "l0",
        model,
        {kind: gated.gate(kind).log_alpha.detach().double().cpu().numpy() for kind in kinds},
        dataset,
        seed=training.seed,
        settings={**described, **shown, "report": {**asdict(report), "open": shares}},
        additive=False,
        open_mean={kind: gated.gate(kind).mean().double().cpu().numpy() for kind in kinds},
    )
    return scores if target is None else at_target(scores, target)


def _warn_if_short(learning_rate: float, steps: int) -> None:
    reach = learning_rate * steps / 2
    if reach < REACH:
        needed = f"{math.ceil(2 * REACH / learning_rate)} steps, or " if learning_rate else ""
        warn(
            f"log_alpha can move by about {reach:.3g} (learning rate {learning_rate:g} × {steps} "
            f"steps / 2), and under {REACH:g} hardly a gate closes: take "
            f"{needed}a higher learning rate"
        )


def _with_hyperparameters(settings: GateSettings, values: Mapping[str, Any]) -> GateSettings:
    names = {field.name for field in fields(settings)} - {"training"}
    own = {name: value for name, value in values.items() if name in names}
    others = {name: value for name, value in values.items() if name not in names}
    return replace(settings, **own, training=with_hyperparameters(settings.training, others))


def _checked(penalty: Mapping[str, float] | None) -> dict[str, float]:
    if not isinstance(penalty, Mapping) or not penalty:
        raise SettingsError('penalty= names no kind of gates; pass for instance {"attn": 2e-2}')
    check_kinds(penalty)
    for kind, weight in penalty.items():
        if not 0 <= real(weight) < math.inf:
            raise SettingsError(
                f"penalty λ={short(weight)} for {kind!r} must be a finite number >= 0"
            )
    return {kind: real(weight) for kind, weight in penalty.items()}


def _optimizer(gated: GatedModel, settings: GateSettings) -> torch.optim.Optimizer:
    rate = settings.training.learning_rate
    gates = list(gated.gates.parameters())
    if settings.optimizer == "bert_adam":
        return BertAdam(gates, lr=rate)
    groups: list[dict[str, Any]] = [{"params": gates}]
    if gated.multipliers is not None:
        groups.append({"params": list(gated.multipliers.parameters()), "maximize": True})
    return torch.optim.Adam(groups, lr=rate)
