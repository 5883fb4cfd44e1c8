"""The stages of an experiment: each is one run with one record.

fine-tune → score gates → sparsity curves → prune and retrain at operating points → time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from qaprune_lib.data.squad import data_digest, load_squad
from qaprune_lib.evaluation.decode import Prediction, predict
from qaprune_lib.evaluation.squad import SquadResult, fit_threshold, score_predictions
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.zoo import load_model, parameter_count
from qaprune_lib.profiles import Profile
from qaprune_lib.report import Record
from qaprune_lib.runs import Workspace
from qaprune_lib.training.finetune import finetune


@dataclass(frozen=True)
class Questions:
    """The questions of a profile: train, heldout and dev, with their digest."""

    train: Dataset
    heldout: Dataset
    dev: Dataset

    @classmethod
    def load(cls, profile: Profile) -> Questions:
        """Read the data of a profile and draw as many questions as it asks for."""
        settings = profile.data
        assert settings.source is not None
        splits = load_squad(settings.source, version=settings.version)
        return cls(
            train=draw(splits["train"], settings.train_questions),
            heldout=draw(splits["heldout"], settings.heldout_questions),
            dev=draw(splits["dev"], settings.dev_questions),
        )

    @cached_property
    def digest(self) -> str:
        """Identity of all questions together, for records."""
        parts = [data_digest(split) for split in (self.train, self.heldout, self.dev)]
        return hashlib.sha256("".join(parts).encode()).hexdigest()


def draw(dataset: Dataset, count: int | None, *, seed: int = 0) -> Dataset:
    """`count` questions at random, in their original order; all where there are no more."""
    if count is None or count >= len(dataset):
        return dataset
    rows = np.random.default_rng(seed).choice(len(dataset), size=count, replace=False)
    return dataset.select(np.sort(rows))


@dataclass(frozen=True)
class Experiment:
    """A profile with its questions and the workspace that keeps its runs."""

    profile: Profile
    questions: Questions
    workspace: Workspace

    @property
    def windows(self) -> dict[str, int]:
        """Sizes of windows, as keywords."""
        return self.profile.windows.model_dump()

    def base(self) -> tuple[Record, QuestionAnsweringModel]:
        """Fine-tune the unpruned model and score it on the dev questions."""
        profile = self.profile
        parameters = {
            "model": profile.model,
            "questions": len(self.questions.train),
            **profile.finetune,
            **self.windows,
        }

        def compute(folder: Path) -> Mapping[str, Any]:
            model = finetune(
                load_model(profile.model),
                self.questions.train,
                folder=folder / "checkpoints",
                **profile.finetune,
                **self.windows,
            )
            metrics = {**training_metrics(model), **self.scores(model, folder)}
            save_artifact(model, folder)
            return metrics

        record, folder = self.run("finetune", parameters, compute, artifact="model")
        return record, load_model(folder / "model")

    def run(
        self, stage: str, parameters: Mapping[str, Any], compute: Any, *, artifact: str | None = None
    ) -> tuple[Record, Path]:
        """One run on this experiment's questions."""
        return self.workspace.run(
            stage, parameters, compute, data_digest=self.questions.digest, artifact=artifact
        )

    def scores(self, model: QuestionAnsweringModel, folder: Path) -> dict[str, Any]:
        """Metrics on the dev questions, with the threshold fitted on the held-out ones.

        The predictions are written beside, for paired comparisons later.
        """
        heldout = predict(model, self.questions.heldout, **self.windows)
        threshold = fit_threshold(self.questions.heldout, heldout)
        dev = predict(model, self.questions.dev, **self.windows)
        result = score_predictions(self.questions.dev, dev, threshold=threshold)
        write_predictions(folder / "dev_predictions.jsonl", dev)
        return {"dev": flat(result), "parameters": parameter_count(model)}


def flat(result: SquadResult) -> dict[str, Any]:
    """A result as plain numbers, its headline F1 first."""
    return {"f1": result.f1, **result.model_dump()}


def training_metrics(model: QuestionAnsweringModel) -> dict[str, Any]:
    """Steps, seconds and the mean loss of the last tenth of the steps of a trained model."""
    report = model.training_report
    tail = report.losses[-max(1, len(report.losses) // 10) :]
    return {
        "training": {
            "steps": report.steps,
            "seconds": report.seconds,
            "final_loss": float(np.mean(tail)),
        }
    }


def save_artifact(model: QuestionAnsweringModel, folder: Path) -> None:
    """Save a model as `folder/model`, whole or not at all, and drop the checkpoints."""
    temporary = folder / ".model"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary)
    shutil.rmtree(folder / "model", ignore_errors=True)
    os.replace(temporary, folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """One JSON line per question."""
    lines = [json.dumps(asdict(prediction), ensure_ascii=False) for prediction in predictions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
