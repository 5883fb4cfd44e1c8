"""The stages of an experiment: each is one run with one record.

fine-tune → score gates → sparsity curves → prune and retrain at operating points → time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from qaprune_lib.data.squad import data_digest, load_squad
from qaprune_lib.evaluation.decode import Prediction, predict
from qaprune_lib.evaluation.squad import SquadResult, fit_threshold, score_predictions
from qaprune_lib.evaluation.timing import time_decoding
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.models.zoo import load_model, parameter_count
from qaprune_lib.profiles import Profile
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.pruning.topology import Topology
from qaprune_lib.report import Record
from qaprune_lib.runs import Workspace
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.training.finetune import finetune, retrain

UNPRUNED = "unpruned"
"""Name of the operating point at which nothing is removed."""


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
class Scorer:
    """A scorer with its parameters, as a run of the experiment.

    Attributes:
        name: of the function in `qaprune_lib.scorers`.
        parameters: all that its result depends on, beside model, data and windows.
        compute: from the model, the questions, a folder for checkpoints and window sizes.
    """

    name: str
    parameters: Mapping[str, Any]
    compute: Callable[[QuestionAnsweringModel, Questions, Path, Mapping[str, Any]], GateScores]


@dataclass(frozen=True)
class Experiment:
    """A profile with its questions and the workspace that keeps its runs."""

    profile: Profile
    questions: Questions
    workspace: Workspace

    @property
    def windows(self) -> dict[str, Any]:
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
            metrics = {**training_metrics(model), **self.dev_scores(model, folder)}
            save_artifact(model, folder)
            return metrics

        record, folder = self.run("finetune", parameters, compute, artifact="model")
        return record, load_model(folder / "model")

    def score(self, scorer: Scorer, model: QuestionAnsweringModel) -> tuple[Record, GateScores]:
        """Score gates of the fine-tuned model."""
        parameters = {"scorer": scorer.name, **scorer.parameters, **self.windows}

        def compute(folder: Path) -> Mapping[str, Any]:
            scores = scorer.compute(model, self.questions, folder, self.windows)
            scores.save(folder / "scores.json")
            metrics: dict[str, Any] = {"kinds": scores.kinds()}
            if not scores.additive:
                topology = Topology.from_scores(scores, threshold=0.0)
                metrics["removed"] = {kind: topology.removed(kind) for kind in scores.kinds()}
                metrics["report"] = scores.settings["report"]
            return metrics

        record, folder = self.run("score", parameters, compute, artifact="scores.json")
        return record, GateScores.load(folder / "scores.json")

    def curve(
        self, scorer: Scorer, scores: GateScores, kind: str, model: QuestionAnsweringModel
    ) -> Record:
        """F1 on held-out questions against the share of one kind removed (Figures 1 and 2).

        Cuts the ranking at the profile's fractions; for L0 also at the run's own threshold, which
        is the paper's point, the others are cuts of one run's ranking.
        """
        settings = self.profile.curves
        assert settings is not None
        questions = draw(self.questions.heldout, settings.heldout_questions)
        parameters = {
            "scorer": scorer.name,
            "kind": kind,
            **scorer.parameters,
            "fractions": list(settings.fractions),
            "heldout": len(questions),
            **self.windows,
        }

        def point(topology: Topology, *, own: bool) -> dict[str, Any]:
            small = prune(model, topology)
            predictions = predict(small, questions, **self.windows, progress=False)
            result = score_predictions(questions, predictions)
            return {
                "removed": topology.removed(kind),
                "own_threshold": own,
                "f1": result.attainable_f1,
                "f1_at_zero": result.at_zero.f1,
                "has_answer_f1_answered": result.answered.HasAns_f1,
            }

        def compute(folder: Path) -> Mapping[str, Any]:
            one_kind = only(scores, kind)
            cuts = [Topology.from_scores(one_kind, fraction=f) for f in settings.fractions]
            points = [point(topology, own=False) for topology in cuts]
            if not scores.additive:
                points.append(point(Topology.from_scores(one_kind, threshold=0.0), own=True))
            return {"points": points}

        record, _ = self.run("curve", parameters, compute)
        return record

    def pruned(
        self, name: str, topology: Topology, base: QuestionAnsweringModel, **parameters: Any
    ) -> tuple[Record, QuestionAnsweringModel]:
        """Prune, and score without retraining (the last column of Table 2)."""

        def compute(folder: Path) -> Mapping[str, Any]:
            model = prune(base, topology)
            metrics = {
                "removed": {kind: topology.removed(kind) for kind in ("attn", "ff")},
                "counts": {kind: list(topology.counts(kind)) for kind in ("attn", "ff")},
                "encoder_parameters": topology.encoder_parameters(),
                **self.dev_scores(model, folder),
            }
            save_artifact(model, folder)
            return metrics

        parameters = {"point": name, **parameters, **self.windows}
        record, folder = self.run("prune", parameters, compute, artifact="model")
        return record, load_model(folder / "model")

    def retrained(
        self,
        name: str,
        model: QuestionAnsweringModel,
        teacher: QuestionAnsweringModel | None,
        **parameters: Any,
    ) -> Record:
        """Continue training, with cross-entropy or with distillation, and score."""
        profile = self.profile
        train = draw(self.questions.train, profile.retrain_questions, seed=1)
        parameters = {
            "point": name,
            "objective": "cross_entropy" if teacher is None else "distillation",
            "questions": len(train),
            **parameters,
            **profile.retrain,
            **self.windows,
        }

        def compute(folder: Path) -> Mapping[str, Any]:
            trained = retrain(
                model,
                train,
                teacher=teacher,
                folder=folder / "checkpoints",
                **profile.retrain,
                **self.windows,
            )
            metrics = {**training_metrics(trained), **self.dev_scores(trained, folder)}
            save_artifact(trained, folder)
            return metrics

        record, _ = self.run("retrain", parameters, compute, artifact="model")
        return record

    def timed(self, models: Mapping[str, QuestionAnsweringModel], **parameters: Any) -> Record:
        """Decode the dev questions with all models in turns; the first is the reference."""
        parameters = {
            "models": list(models),
            **parameters,
            **self.profile.timing,
            **self.windows,
        }

        def compute(folder: Path) -> Mapping[str, Any]:
            timings = time_decoding(
                list(models.values()), self.questions.dev, **self.profile.timing, **self.windows
            )
            return {name: t.model_dump() for name, t in zip(models, timings, strict=True)}

        record, _ = self.run("time", parameters, compute)
        return record

    def run(
        self,
        stage: str,
        parameters: Mapping[str, Any],
        compute: Any,
        *,
        artifact: str | None = None,
    ) -> tuple[Record, Path]:
        """One run on this experiment's questions."""
        return self.workspace.run(
            stage, parameters, compute, data_digest=self.questions.digest, artifact=artifact
        )

    def dev_scores(self, model: QuestionAnsweringModel, folder: Path) -> dict[str, Any]:
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


def only(scores: GateScores, kind: str) -> GateScores:
    """The scores of one kind alone."""
    others: dict[str, Any] = {name: None for name in ("attn", "ff", "emb") if name != kind}
    return replace(scores, **others)


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
