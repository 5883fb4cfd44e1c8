"""Fine-tuning, and continued training of a pruned model (paper section 3.4)."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qaprune_lib.data.tasks import QuestionData
from qaprune_lib.data.windows import Windows
from qaprune_lib.models import QuestionAnsweringModel
from qaprune_lib.training.hidden import HiddenStates
from qaprune_lib.training.objectives import Distillation
from qaprune_lib.training.settings import TrainingSettings, with_hyperparameters
from qaprune_lib.training.trainer import SpanTrainer, dropout_set
from qaprune_lib.training.training_set import TrainingSet


def finetune(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    settings: TrainingSettings | None = None,
    windows: Windows | None = None,
    folder: Path | None = None,
    **hyperparameters: Any,
) -> QuestionAnsweringModel:
    """Train all weights with cross-entropy; returns a trained copy on the same device.

    Args:
        model: stays as it is.
        dataset: rows of `load_squad`, or a split of `load_natural_questions`.
        settings: hyper-parameters; single ones can be given as keywords (`epochs=2`).
        windows: by default of 384 tokens, for Natural Questions of 512.
        folder: keeps checkpoints; a run that was killed resumes from the newest complete one when
            it is called again with the same arguments, bit for bit on CPU.

    Returns:
        The trained model; its `training_report` holds steps, losses and seconds.

    Raises:
        DataError: no data, or bad data.
        SettingsError: a hyper-parameter that is unknown or out of range, or a folder of another
            run.
        ModelError: the loss is lost, or the model is one for another task.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> tuned = finetune(model, train.select(range(4)), max_steps=1, windows=Windows(96))
    >>> tuned.training_report.steps
    1
    """
    settings = with_hyperparameters(settings or TrainingSettings(), hyperparameters)
    return _train("fine-tune", model, dataset, windows, None, None, settings, folder)


def retrain(
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    *,
    teacher: QuestionAnsweringModel | None = None,
    distillation: Distillation | None = None,
    settings: TrainingSettings | None = None,
    windows: Windows | None = None,
    folder: Path | None = None,
    **hyperparameters: Any,
) -> QuestionAnsweringModel:
    """Continue training, with cross-entropy or, given a teacher, with distillation.

    The paper's teacher is the unpruned model; one with another tokenizer reads the same text in
    windows of its own. Arguments, result and errors as `finetune`; the default of `distillation`
    replaces the cross-entropy altogether (w = 1, T = 1). `Distillation(hidden=1.0)` distils the
    layers' outputs too, from the model that was pruned.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, train = load_model("embedded-small", device="cpu"), load_squad("embedded")["train"]
    >>> options = {"max_steps": 1, "windows": Windows(96), "dropout": False}
    >>> taught = retrain(model, train.select(range(4)), teacher=model, **options)
    >>> taught.training_report.losses  # by itself
    (0.0,)
    """
    settings = with_hyperparameters(settings or TrainingSettings(), hyperparameters)
    name = "retrain" if teacher is None else "distil"
    return _train(name, model, dataset, windows, teacher, distillation, settings, folder)


def _train(
    description: str,
    model: QuestionAnsweringModel,
    dataset: QuestionData,
    windows: Windows | None,
    teacher: QuestionAnsweringModel | None,
    distillation: Distillation | None,
    settings: TrainingSettings,
    folder: Path | None,
) -> QuestionAnsweringModel:
    trained, hidden = copy.deepcopy(model), None
    if teacher is not None and distillation is not None and distillation.hidden:
        hidden = HiddenStates(trained, teacher)
    training_set = TrainingSet.of(model, dataset, windows, teacher, distillation)
    with ExitStack() as stack:
        stack.enter_context(dropout_set(trained, settings.dropout))
        if hidden is not None:
            stack.enter_context(hidden.watched())
        trainer = SpanTrainer(trained, training_set, settings, folder, description, hidden=hidden)
        report = trainer.run({"settings": asdict(settings)})
    trained.training_report = report
    return trained.to(model.device).eval()  # type: ignore[arg-type]
