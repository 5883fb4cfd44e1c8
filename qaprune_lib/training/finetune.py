"""Fine-tuning, and continued training of a pruned model (paper section 3.4)."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qaprune_lib.data.batching import Collator
from qaprune_lib.errors import SettingsError
from qaprune_lib.models.load import weights_digest
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.training.checkpoints import working_folder
from qaprune_lib.training.objectives import CrossEntropy, Distillation
from qaprune_lib.training.settings import TrainingSettings, with_hyperparameters
from qaprune_lib.training.trainer import SpanTrainer, dropout_set, run_trainer
from qaprune_lib.training.windows import (
    TrainingData,
    TrainingWindows,
    training_windows,
    with_teacher,
)


def finetune(
    model: QuestionAnsweringModel,
    dataset: TrainingData,
    *,
    settings: TrainingSettings | None = None,
    max_length: int | None = None,
    doc_stride: int = 128,
    null_rate: float | None = None,
    folder: Path | None = None,
    **hyperparameters: Any,
) -> QuestionAnsweringModel:
    """Train all weights with cross-entropy; returns a trained copy.

    Args:
        model: stays as it is.
        dataset: rows of `load_squad`, or a split of `load_natural_questions`.
        settings: hyper-parameters; single ones can be given as keywords (`epochs=2`).
        max_length, doc_stride, null_rate: of the windows, as for `training_windows`.
        folder: keeps checkpoints; a run that was killed resumes from the newest complete one when
            it is called again with the same arguments, bit for bit on CPU.

    Returns:
        The trained model; its `training_report` holds steps, losses and seconds.

    Raises:
        DataError: no data, or bad data.
        SettingsError: a hyper-parameter that is unknown or out of range, or a folder of another
            run.
        ModelError: the loss is lost, or the model is one for another task.
    """
    settings = with_hyperparameters(settings or TrainingSettings(), hyperparameters)
    return _train(
        model,
        None,
        CrossEntropy(),
        settings,
        training_windows(
            model, dataset, max_length=max_length, doc_stride=doc_stride, null_rate=null_rate
        ),
        folder,
        description="fine-tune",
    )


def retrain(
    model: QuestionAnsweringModel,
    dataset: TrainingData,
    *,
    teacher: QuestionAnsweringModel | None = None,
    distillation: Distillation | None = None,
    settings: TrainingSettings | None = None,
    max_length: int | None = None,
    doc_stride: int = 128,
    null_rate: float | None = None,
    folder: Path | None = None,
    **hyperparameters: Any,
) -> QuestionAnsweringModel:
    """Continue training, with cross-entropy or, given a teacher, with distillation.

    The paper's teacher is the unpruned model; one with another tokenizer reads the same text in
    windows of its own (`Alignment`). Arguments, result and errors as `finetune`; the default of
    `distillation` replaces the cross-entropy altogether (w = 1, T = 1).
    """
    settings = with_hyperparameters(settings or TrainingSettings(), hyperparameters)
    return _train(
        model,
        teacher,
        objective_for(teacher, distillation),
        settings,
        training_windows(
            model, dataset, max_length=max_length, doc_stride=doc_stride, null_rate=null_rate
        ),
        folder,
        description="retrain" if teacher is None else "distil",
    )


def _train(
    model: QuestionAnsweringModel,
    teacher: QuestionAnsweringModel | None,
    objective: CrossEntropy | Distillation,
    settings: TrainingSettings,
    windows: TrainingWindows,
    folder: Path | None,
    *,
    description: str,
) -> QuestionAnsweringModel:
    features = windows.features
    identity: dict[str, Any] = {
        "data": windows.data_digest,
        "weights": weights_digest(model),
        "settings": asdict(settings),
        "windows": windows.settings,
    }
    if teacher is not None:
        features = with_teacher(windows, model, teacher)
        identity["distillation"] = [asdict(objective), weights_digest(teacher)]
    trained = copy.deepcopy(model)
    with working_folder(folder) as working, dropout_set(trained, settings.dropout):
        trainer = SpanTrainer(
            trained,
            features,
            objective,
            settings,
            collator_for(model),
            folder=working,
            keep_checkpoints=folder is not None,
            description=description,
        )
        report = run_trainer(trainer, working if folder else None, identity)
    trained.training_report = report
    trained.to(model.device)  # type: ignore[arg-type]
    return trained.eval()


def collator_for(model: QuestionAnsweringModel) -> Collator:
    """The collator that pads as a model's tokenizer does."""
    tokenizer = model.tokenizer
    return Collator(
        pad_token_id=tokenizer.pad_token_id,
        token_type_ids="token_type_ids" in tokenizer.model_input_names,
    )


def objective_for(
    teacher: QuestionAnsweringModel | None, distillation: Distillation | None
) -> CrossEntropy | Distillation:
    """Cross-entropy or, given a teacher, distillation.

    Raises:
        SettingsError: distillation without a teacher.
    """
    if teacher is not None:
        return distillation or Distillation()
    if distillation is not None:
        raise SettingsError("distillation= needs a teacher=")
    return CrossEntropy()
