"""Hugging Face's Trainer with an order of batches, a loss and checkpoints of our own.

Batches are ordered from (seed, epoch) and grouped by length at the global batch, so that several
processes see the same global batches as one and a resumed run meets the batches it would have met.
A checkpoint counts once a marker, written last, says that it is complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from torch.utils.data import Sampler
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from qaprune_lib.data.batching import Collator, length_grouped_order
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.training.objectives import Objective, model_inputs

COMPLETE = "complete"
_COLUMNS = (
    "input_ids",
    "token_type_ids",
    "start_position",
    "end_position",
    "teacher_start_logits",
    "teacher_end_logits",
)


@dataclass(frozen=True)
class TrainingSettings:
    """Hyper-parameters of one run.

    Attributes:
        epochs: passes over the windows; each leaves out its incomplete last batch.
        max_steps: stop after so many optimizer steps, if that is less; the schedule fits it.
        batch_size: windows in one optimizer step, over all processes and micro-steps.
        accumulation: micro-steps in which each process computes its part of a batch.
        learning_rate: peak; it decays linearly to 0.
        warmup: share of the steps during which the learning rate rises from 0.
        weight_decay: of AdamW, on matrices only.
        max_grad_norm: gradients are clipped at this norm; 0 leaves them.
        dropout: whether the model's dropout is on.
        seed: of the order of batches and of dropout.
        checkpoint_steps: optimizer steps between checkpoints.

    Raises:
        SettingsError: a value that is not a number or out of range.
    """

    epochs: int = 1
    max_steps: int | None = None
    batch_size: int = 24
    accumulation: int = 1
    learning_rate: float = 3e-5
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    dropout: bool = True
    seed: int = 0
    checkpoint_steps: int = 200

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "checkpoint_steps", "max_steps"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise SettingsError(f"{name}={value!r} must be an integer of at least 1")
        for name in ("learning_rate", "warmup", "weight_decay", "max_grad_norm"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise SettingsError(f"{name}={value!r} must be a finite number, 0 or more")
        if self.warmup > 1:
            raise SettingsError(f"warmup={self.warmup} is a share of the steps, at most 1")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed={self.seed!r} must be an integer from 0 to 2**32 - 1")
        if self.batch_size % self.accumulation:
            raise SettingsError(
                f"batch_size={self.batch_size} is not a multiple of "
                f"accumulation={self.accumulation}"
            )


def with_hyperparameters(settings: TrainingSettings, values: Mapping[str, Any]) -> TrainingSettings:
    """Settings with single values changed.

    Raises:
        SettingsError: there is no such hyper-parameter, or its value is out of range.
    """
    known = [field.name for field in fields(settings)]
    for name in values:
        if name not in known:
            raise SettingsError(f"unknown hyper-parameter {name!r}; there are {', '.join(known)}")
    return replace(settings, **values)


@dataclass(frozen=True)
class TrainingReport:
    """What a run did: optimizer steps, their mean losses, and wall seconds of this process."""

    steps: int
    losses: tuple[float, ...]
    seconds: float


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


class _FixedOrder(Sampler[int]):
    def __init__(self, order: list[int]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class _ProgressBar(TrainerCallback):
    """One bar with the current loss, on the first process; and an error if the loss is lost."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=self.description,
                unit="step",
                mininterval=1.0,
            )

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **_: Any
    ) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} at step {state.global_step}; lower the learning rate"
            )
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None:
            self.bar.close()


def _epoch_order(lengths: list[int], batch_size: int, seed: int, epoch: int) -> list[int]:
    order = length_grouped_order(lengths, batch_size, seed=seed, epoch=epoch)
    return order[: len(order) - len(order) % batch_size]


class SpanTrainer(Trainer):
    """Trains a module on windows with a given objective, in a fixed order of batches."""

    def __init__(
        self,
        model: nn.Module,
        features: Dataset,
        objective: Objective,
        settings: TrainingSettings,
        collator: Collator,
        *,
        folder: Path,
        keep_checkpoints: bool,
        description: str,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        if len(features) == 0:
            raise DataError("the training data is empty: not one window to train on")
        n_parts = settings.accumulation * _world_size()
        if settings.batch_size % n_parts:
            raise SettingsError(
                f"batch_size={settings.batch_size} is not a multiple of accumulation="
                f"{settings.accumulation} times {_world_size()} processes"
            )
        batch_size = min(settings.batch_size, len(features))
        if batch_size < settings.batch_size and n_parts > 1:
            raise DataError(
                f"{len(features)} windows do not fill one batch of {settings.batch_size}"
            )
        per_epoch = len(features) // batch_size
        max_steps = settings.epochs * per_epoch
        max_steps = min(max_steps, settings.max_steps or max_steps)
        lengths = list(features["length"])
        self.order = [
            row
            for epoch in range(-(-max_steps // per_epoch))
            for row in _epoch_order(lengths, batch_size, settings.seed, epoch)
        ][: max_steps * batch_size]
        self.objective: Objective = objective
        self.folder = folder
        use_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        columns = [name for name in _COLUMNS if name in features.column_names]
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=max_steps,
            per_device_train_batch_size=batch_size // n_parts,
            gradient_accumulation_steps=settings.accumulation,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=round(settings.warmup * max_steps),
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            optim="adamw_torch_fused",
            seed=settings.seed,
            bf16=use_bf16,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="steps" if keep_checkpoints else "no",
            save_steps=settings.checkpoint_steps,
            save_total_limit=2,
            logging_strategy="steps",
            logging_steps=1,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            ddp_find_unused_parameters=False,
        )
        if arguments.n_gpu > 1:
            # DataParallel would replicate hooked models and multiply the batch size; several GPUs
            # are for several processes
            arguments._n_gpu = 1
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=features.select_columns(columns),
            data_collator=collator,
            optimizers=(optimizer, None),
            callbacks=[_ProgressBar(description)],
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False  # our loss is a mean: divide it by accumulation

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return _FixedOrder(self.order)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Mean of the objective over the windows of a micro-batch."""
        outputs = model(**model_inputs(inputs))
        return self.objective(outputs.start_logits, outputs.end_logits, inputs).mean()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            folder = self.folder / f"checkpoint-{self.state.global_step}"
            _sync_folder(folder)
            (folder / COMPLETE).touch()
            _sync(folder)


def run_trainer(trainer: SpanTrainer, folder: Path | None, identity: Mapping[str, Any]) -> TrainingReport:
    """Train, resuming from the newest complete checkpoint in `folder`.

    Args:
        trainer: built with `folder=` the same folder (or a temporary one).
        folder: where checkpoints are kept, or None for a run that keeps none.
        identity: what makes the run: data, settings, initial weights.

    Raises:
        SettingsError: the folder holds checkpoints of another run.
    """
    started = time.perf_counter()
    checkpoint = None
    if folder is not None:
        _claim(folder, identity)
        checkpoint = newest_complete_checkpoint(folder)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    losses = tuple(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    return TrainingReport(
        steps=trainer.state.global_step, losses=losses, seconds=time.perf_counter() - started
    )


def newest_complete_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint with its marker; torn ones, newer than it, are deleted."""
    numbered = sorted(
        (path for path in folder.glob("checkpoint-*") if path.name.split("-")[1].isdigit()),
        key=lambda path: int(path.name.split("-")[1]),
        reverse=True,
    )
    for path in numbered:
        if (path / COMPLETE).is_file():
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def _claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down which run the folder belongs to, or check that it is this one."""
    text = json.dumps(identity, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = folder / "run.json"
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        if digest not in path.read_text():
            raise SettingsError(
                f"{folder} holds checkpoints of another run (other data, settings or weights); "
                "delete it or choose another folder"
            )
        return
    temporary = path.with_name(f".run.json.{os.getpid()}")
    temporary.write_text(json.dumps({"digest": digest, **json.loads(text)}, indent=1) + "\n")
    os.replace(temporary, path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    _sync(folder)


@contextmanager
def working_folder(folder: Path | None) -> Iterator[Path]:
    """The folder itself, or a temporary one that is removed afterwards."""
    if folder is not None:
        yield Path(folder)
        return
    temporary = tempfile.mkdtemp(prefix="qaprune-")
    try:
        yield Path(temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def dropout_set(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Switch a model's dropout off inside of the block, unless it is to stay enabled."""
    modules = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [module.p for module in modules]
    if not enabled:
        for module in modules:
            module.p = 0.0
    try:
        yield
    finally:
        for module, p in zip(modules, before, strict=True):
            module.p = p


