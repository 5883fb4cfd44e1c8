"""What a run of training learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from datasets import Dataset

from qaprune_lib.data.batching import Collator
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import SettingsError
from qaprune_lib.evaluation.logits import collator_of, features_for, tokenizer_of, windows_for
from qaprune_lib.models import QuestionAnsweringModel, weights_digest
from qaprune_lib.training.objectives import CrossEntropy, Distillation
from qaprune_lib.training.teacher import with_teacher_logits


@dataclass(frozen=True)
class TrainingSet:
    """Windows to learn from, and the loss.

    Attributes:
        features: labelled windows, with a teacher's logits if there is one.
        collator: makes batches of them.
        objective: the loss of a batch.
        identity: in plain values, all that went in: data, windows, weights, teacher.
    """

    features: Dataset
    collator: Collator
    objective: CrossEntropy | Distillation
    identity: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        model: QuestionAnsweringModel,
        dataset: QuestionData,
        windows: Windows | None = None,
        teacher: QuestionAnsweringModel | None = None,
        distillation: Distillation | None = None,
    ) -> TrainingSet:
        """Cut the windows, and let the teacher read them.

        Raises:
            DataError, ModelError, SettingsError: as `finetune`; or distillation without a teacher.
        """
        if distillation is not None and teacher is None:
            raise SettingsError("distillation= needs a teacher=")
        objective = CrossEntropy() if teacher is None else distillation or Distillation()
        task = task_of(dataset)
        if teacher is not None:
            tokenizer = tokenizer_of(teacher)
            if tokenizer.get_vocab() == tokenizer_of(model).get_vocab():
                windows_for(teacher, task, windows)  # it reads the same ones
        features = features_for(model, dataset, windows, training=True)
        identity = {
            "data": task.digest(dataset),
            "weights": weights_digest(model),
            "windows": asdict(windows_for(model, task, windows)),
            "objective": type(objective).__name__,
            "distillation": None if teacher is None else asdict(objective),
            "teacher": None if teacher is None else weights_digest(teacher),
        }
        if teacher is not None:
            features = with_teacher_logits(features, dataset, model.tokenizer, teacher)
        return cls(features, collator_of(model), objective, identity)
