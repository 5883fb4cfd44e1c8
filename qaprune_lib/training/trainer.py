"""Hugging Face's Trainer with an order of batches, a loss and checkpoints of our own.

Batches are ordered from (seed, epoch) and grouped by length at the global batch, so that several
processes see the same global batches as one and a resumed run meets the batches it would have met.
"""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerCallback

from qaprune_lib.cache import write_digests
from qaprune_lib.data.arrow_cache import column
from qaprune_lib.data.batching import LABELS, length_grouped_order
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.progress import tqdm
from qaprune_lib.training.checkpoints import claim, make_folder, newest_intact_checkpoint
from qaprune_lib.training.hidden import HiddenStates
from qaprune_lib.training.objectives import (
    TARGETS,
    Distillation,
    model_inputs,
    teacher_column,
)
from qaprune_lib.training.settings import TrainingSettings
from qaprune_lib.training.training_set import TrainingSet

_COLUMNS = ("input_ids", "token_type_ids", *LABELS, *map(teacher_column, TARGETS))


@dataclass(frozen=True)
class TrainingReport:
    """What a run did.

    Attributes:
        steps: optimizer steps, with those before a resume. losses: the mean loss of each.
        seconds: wall time of this process.
        seconds_per_step: of the steps of this process; None if all had been done before.
    """

    steps: int
    losses: tuple[float, ...]
    seconds: float
    seconds_per_step: float | None


class StopOnRequest(TrainerCallback):
    """Ends training after the step in which the process was asked to end, with a checkpoint."""

    is_requested = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: D102
        if self.is_requested:
            control.should_save = control.should_training_stop = True

    @contextmanager
    def instead_of_dying(self) -> Iterator[None]:
        """A SIGTERM inside of the block takes effect at its end."""

        def request(*_: object) -> None:
            self.is_requested = True

        before = signal.signal(signal.SIGTERM, request)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            if self.is_requested:
                signal.raise_signal(signal.SIGTERM)


class SpanTrainer(Trainer):
    """Trains a module with a given objective, in a fixed order of batches.

    Args:
        model: trained in place, on its own device; several processes have a GPU each.
        training_set: windows and their loss.
        settings: hyper-parameters.
        folder: where checkpoints are kept, or None for a run that keeps none.
        description: of the progress bar.
        hidden: the states that are distilled beside the logits, if any.
        optimizer: by default AdamW.
        device: where it trains; by default the model's.
    """

    def __init__(
        self,
        model: nn.Module,
        training_set: TrainingSet,
        settings: TrainingSettings,
        folder: Path | None,
        description: str,
        *,
        hidden: HiddenStates | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.hidden = hidden
        features = training_set.features
        if len(features) == 0:
            raise DataError("the training data is empty: not one window to train on")
        n_processes = int(os.environ.get("WORLD_SIZE", "1"))
        n_parts = settings.accumulation * n_processes
        if settings.batch_size % n_parts:
            raise SettingsError(
                f"batch_size={settings.batch_size} is not a multiple of accumulation="
                f"{settings.accumulation} times {n_processes} processes"
            )
        batch_size = min(settings.batch_size, len(features))
        if batch_size < settings.batch_size and n_parts > 1:
            raise DataError(
                f"{len(features)} windows do not fill one batch of {settings.batch_size}"
            )
        per_epoch = len(features) // batch_size
        max_steps = settings.epochs * per_epoch
        max_steps = min(max_steps, settings.max_steps or max_steps)
        lengths = column(features, "length")
        self.order = [
            row
            for epoch in range(-(-max_steps // per_epoch))
            for row in length_grouped_order(lengths, batch_size, seed=settings.seed, epoch=epoch)[
                : per_epoch * batch_size
            ]
        ][: max_steps * batch_size]
        self.training_set, self.folder, self.description = training_set, folder, description
        self.scratch = tempfile.TemporaryDirectory(prefix="qaprune-")
        device = device or next(model.parameters()).device
        if folder is not None:
            make_folder(folder)
        arguments = TrainingArguments(
            output_dir=str(folder or self.scratch.name),
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
            use_cpu=device.type == "cpu",
            save_strategy="no" if folder is None else "steps",
            save_steps=settings.checkpoint_steps,
            save_total_limit=2,
            logging_strategy="steps",
            logging_steps=1,
            logging_nan_inf_filter=False,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=device.type == "cuda",
            ddp_find_unused_parameters=False,
        )
        if arguments.n_gpu > 1:
            # DataParallel would replicate hooked models and multiply the batch size; several GPUs
            # are for several processes
            arguments._n_gpu = 1
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=features.select_columns(
                [name for name in _COLUMNS if name in features.column_names]
            ),
            data_collator=training_set.collator,
            optimizers=(optimizer, None),
        )
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.model_accepts_loss_kwargs = False  # our loss is a mean: divide it by accumulation

    def run(self, identity: Mapping[str, Any]) -> TrainingReport:
        """Train, resuming from the newest intact checkpoint in the folder.

        One process with a folder that gets a SIGTERM keeps a checkpoint of the step that it is in,
        and ends then.

        Args:
            identity: what makes the run, beside its training set.

        Raises:
            SettingsError: the folder holds checkpoints of another run, or one that holds other
                things than a checkpoint does; none of its pickles is executed.
        """
        started, checkpoint, done = time.perf_counter(), None, 0
        with ExitStack() as stack:
            stack.enter_context(self.scratch)
            if self.folder is not None:
                is_main = threading.current_thread() is threading.main_thread()
                if self.args.world_size == 1 and is_main:
                    stop = StopOnRequest()
                    self.add_callback(stop)
                    stack.enter_context(stop.instead_of_dying())
                claim(self.folder, {**self.training_set.identity, **identity})
                checkpoint = newest_intact_checkpoint(self.folder)
                done = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
            self.bar = stack.enter_context(
                tqdm(
                    total=self.args.max_steps, initial=done, desc=self.description, unit="step",
                    mininterval=1.0, disable=not self.is_world_process_zero(),
                )
            )  # fmt: skip
            try:
                self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            except (UnpicklingError, SafetensorError, UnicodeDecodeError) as error:
                # its digests are right all the same: it was made by hand, or by other packages
                raise SettingsError(
                    f"{checkpoint}: cannot be gone on from ({type(error).__name__}): delete it"
                ) from error
        losses = tuple(entry["loss"] for entry in self.state.log_history if "loss" in entry)
        seconds, steps = time.perf_counter() - started, self.state.global_step
        per_step = seconds / (steps - done) if steps > done else None
        return TrainingReport(steps, losses, seconds, per_step)

    def log(self, logs: dict[str, float], *arguments: Any, **keywords: Any) -> None:
        """Show the loss of a step; ModelError if it is lost."""
        super().log(logs, *arguments, **keywords)
        loss, step = logs.get("loss"), self.state.global_step
        if loss is None:
            return
        if not math.isfinite(loss):
            raise ModelError(f"the loss became {loss} at step {step}; lower the learning rate")
        self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        self.bar.update(step - self.bar.n)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Mean of the objective over the windows of a micro-batch."""
        objective = self.training_set.objective
        loss = objective(model(**model_inputs(inputs)), inputs)
        if self.hidden is not None and isinstance(objective, Distillation):
            loss = loss + objective.hidden * self.hidden.distance(inputs)
        return loss.mean()

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()
        if self.args.should_save and self.folder is not None:
            write_digests(self.folder / f"checkpoint-{self.state.global_step}")


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
