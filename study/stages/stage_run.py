"""One run of a stage: where it reads and writes, and the record at its end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from qaprune_lib.errors import RecordError
from qaprune_lib.models.load import load_model
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers.scores import GateScores
from study.plan.parameters import StageParameters, is_run_id
from study.records.environment import environment
from study.records.record import Record, run_id, write_record
from study.stages.questions import Questions

P = TypeVar("P", bound=StageParameters)


@dataclass(frozen=True)
class StageRun(Generic[P]):
    """A run that has begun.

    Attributes:
        parameters: checked.
        questions: what it trains on and is scored on.
        folder: its own folder, for its model or scores, its predictions and checkpoints.
    """

    parameters: P
    questions: Questions
    folder: Path
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    clock: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, parameters: P) -> StageRun[P]:
        """Read the questions and make the run's folder.

        A run that it refers to must be there: RecordError says which is not.
        """
        for name in parameters.upstream():
            folder = artifacts(parameters) / name
            if not folder.is_dir():
                raise RecordError(
                    f"{folder}: the run that stage {parameters.stage} builds on is not there; "
                    "make it first, or name a model that load_model takes"
                )
        folder = artifacts(parameters) / run_id(parameters.stage, parameters.identity())
        questions = Questions.load(parameters)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(parameters, questions, folder)

    @property
    def windows(self) -> dict[str, int]:
        """Size and step of windows, as keywords."""
        return {
            "max_length": self.parameters.max_length,
            "doc_stride": self.parameters.doc_stride,
        }

    @property
    def training_windows(self) -> dict[str, Any]:
        """Those, and the share of windows without an answer that models train on."""
        return {**self.windows, "null_rate": self.parameters.null_rate}

    @property
    def checkpoints(self) -> Path | None:
        """Where training keeps its checkpoints: a run that was killed resumes there.

        None where `QAPRUNE_CHECKPOINTS=off` says that runs are too short to be worth them.
        """
        is_off = os.environ.get("QAPRUNE_CHECKPOINTS") == "off"
        return None if is_off else self.folder / "checkpoints"

    def load_model(self, name: str) -> QuestionAnsweringModel:
        """The model of another run, or what `qaprune_lib.load_model` finds, for this run's task."""
        source = artifacts(self.parameters) / name / "model" if is_run_id(name) else name
        parameters = self.parameters
        return load_model(source, task=parameters.task, compute_dtype=parameters.compute_dtype)

    def load_scores(self, name: str) -> GateScores:
        """The gate scores of a score run."""
        return GateScores.load(artifacts(self.parameters) / name / "scores.json")

    def save_model(self, model: QuestionAnsweringModel) -> None:
        """Save the run's model, whole or not at all."""
        temporary = self.folder / ".model"
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary)
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        os.replace(temporary, self.folder / "model")

    def finish(self, metrics: Mapping[str, Any]) -> Path:
        """Write the record, and drop the checkpoints; returns the record's path."""
        parameters = self.parameters
        record = Record(
            stage=parameters.stage,
            profile=parameters.profile,
            provenance=parameters.provenance,
            parameters=parameters.identity(),
            metrics=dict(metrics),
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            data_digest=self.questions.digest,
            **environment(),
        )
        path = write_record(project_path(parameters.results), record)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return path


def artifacts(parameters: StageParameters) -> Path:
    """Folder of the models and scores of a profile's runs."""
    return project_path(parameters.runs) / parameters.provenance / parameters.profile


def project_path(path: str) -> Path:
    """A path as the project means it: relative to the folder that holds `profiles/`.

    So a notebook that JupyterLab opened in `notebooks/` and one that papermill runs from the
    project's folder write to the same place.
    """
    here = Path.cwd()
    root = next(
        (folder for folder in (here, *here.parents) if (folder / "profiles").is_dir()), here
    )
    return root / path
