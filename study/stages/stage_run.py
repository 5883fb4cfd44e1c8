"""One run of a stage: where it reads and writes, and the record at its end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from qaprune_lib.cache import (
    DIGESTS,
    file_digest,
    is_intact,
    remove,
    write_atomically,
    write_digests,
)
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import RecordError
from qaprune_lib.models.load import load_model
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.training.checkpoints import forget_checkpoints
from study.plan.origin import check_origin, described, files_of, origin_of
from study.plan.parameters import StageParameters
from study.records.environment import Environment, environment
from study.records.record import FINISHED, RUN, Record, is_run, write_record
from study.stages.questions import Questions

P = TypeVar("P", bound=StageParameters)
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class StageRun(Generic[P]):
    """A run that has begun, with its checked parameters and the folder for what it makes.

    Attributes:
        source: of the questions, for the record.
        made: device, packages and commit, as they are at the start.
    """

    parameters: P
    questions: Questions
    source: str
    folder: Path
    made: Environment
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    clock: float = field(default_factory=time.perf_counter)

    @classmethod
    def begin(cls, parameters: P) -> StageRun[P]:
        """Read the questions, check what the run builds on, and make its folder."""
        named = [*parameters.train_files, *parameters.dev_files]
        source = parameters.source
        files = files_of(source, parameters.task, version=parameters.version, files=named)
        origin = origin_of(source, files)
        check_origin(source, origin, parameters.origin)
        parameters = parameters.model_copy(update={"origin": origin})
        for name in parameters.upstream():
            folder = artifacts(parameters) / name
            if not (folder / FINISHED).is_file():
                raise RecordError(
                    f"{folder}: the run that stage {parameters.stage} builds on is not there, or "
                    "has not come to its end; make it first, or name a model that load_model takes"
                )
            if (folder / DIGESTS).exists() and not is_intact(folder):
                (folder / FINISHED).unlink(missing_ok=True)
                raise RecordError(
                    f"{folder}: the model or scores of that run are damaged or gone, so it counts "
                    "as unfinished by now: the next call of the graph makes it again"
                )
        made = environment()
        if parameters.provenance == "measured" and made["dirty"]:
            raise RecordError(
                "a measured run comes from a commit, and the tree has changes that are in none: "
                "commit them first"
            )
        questions = Questions.load(parameters)
        folder = artifacts(parameters) / parameters.id
        folder.mkdir(parents=True, exist_ok=True)
        return cls(parameters, questions, described(source, files), folder, made)

    @property
    def windows(self) -> Windows:
        """Of training, of scoring and of timing alike."""
        settings = self.parameters
        return Windows(settings.max_length, settings.doc_stride, null_rate=settings.null_rate)

    @property
    def checkpoints(self) -> Path | None:
        """Where training keeps its checkpoints: a run that was killed resumes there.

        None where `QAPRUNE_CHECKPOINTS=off` says that runs are too short to be worth them.
        """
        is_off = os.environ.get("QAPRUNE_CHECKPOINTS") == "off"
        return None if is_off else self.folder / CHECKPOINTS

    def load_model(self, name: str) -> QuestionAnsweringModel:
        """The model of another run, or what `qaprune_lib.load_model` finds, for this run's task."""
        parameters = self.parameters
        folder = artifacts(parameters) / name.removeprefix(RUN) / "model"
        source = folder if is_run(name) else name
        return load_model(source, task=parameters.task, compute_dtype=parameters.compute_dtype)

    def load_scores(self, name: str) -> GateScores:
        """The gate scores of a score run."""
        return GateScores.load(artifacts(self.parameters) / name.removeprefix(RUN) / "scores.json")

    def save_model(self, model: QuestionAnsweringModel) -> None:
        """Save the run's model: the folder holds a whole one, or the one before, at any moment."""
        target, new, old = (self.folder / name for name in ("model", ".model", ".old-model"))
        if old.exists() and not target.exists():  # it died between the two renames below
            os.replace(old, target)
        for leftover in (new, old):
            remove(leftover)
        model.save_pretrained(new)
        (self.folder / FINISHED).unlink(missing_ok=True)
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
        remove(old)

    def finish(self, metrics: Mapping[str, Any]) -> Path:
        """Drop the checkpoints, mark the folder, and write the record; returns its path."""
        parameters = self.parameters
        # so that a model that is made again elsewhere can be told from this one
        if own := _weights(self.folder):
            metrics = {**metrics, "weights": own}
        upstream = {run: _weights(artifacts(parameters) / run) for run in parameters.upstream()}
        record = Record(
            name=parameters.name,
            stage=parameters.stage,
            profile=parameters.profile,
            provenance=parameters.provenance,
            parameters=parameters.identity(),
            metrics=dict(metrics),
            started=self.started,
            seconds=time.perf_counter() - self.clock,
            source=self.source,
            data_digest=self.questions.digest,
            built_on={run: weights for run, weights in upstream.items() if weights},
            **self.made,
        )
        forget_checkpoints(self.folder / CHECKPOINTS)
        if made := [*self.folder.glob("model/*"), *self.folder.glob("scores.json")]:
            write_digests(self.folder, made)
        write_atomically(self.folder / FINISHED, f"{record.id}\n")
        return write_record(project_path(parameters.results), record)


def _weights(folder: Path) -> str | None:
    """The digest of the model that a run left, if it left one."""
    weights = folder / "model" / "model.safetensors"
    return file_digest(weights) if weights.is_file() else None


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
