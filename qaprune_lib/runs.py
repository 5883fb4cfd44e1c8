"""Runs: parameters in, artifact and record out; what is done is not done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from qaprune_lib.report import (
    Record,
    code_digest,
    environment,
    read_record,
    record_path,
    write_record,
)


@dataclass(frozen=True)
class Workspace:
    """Where the runs of one profile keep their records and artifacts.

    Attributes:
        profile: name of the profile, a part of every path.
        provenance: "embedded" for runs on the generated corpus, "measured" for real data.
        results: folder of records.
        artifacts: folder of models, scores and checkpoints; it can be deleted and made again.
        accept_stale: take a record as it is though the library's code has changed since.
    """

    profile: str
    provenance: Literal["embedded", "measured"]
    results: Path
    artifacts: Path
    accept_stale: bool = False

    def run(
        self,
        stage: str,
        parameters: Mapping[str, Any],
        compute: Callable[[Path], Mapping[str, Any]],
        *,
        data_digest: str | None,
        artifact: str | None = None,
    ) -> tuple[Record, Path]:
        """Do one run, unless its record and artifact are there already.

        Args:
            stage: name of the stage.
            parameters: all that determines the result; they make the paths.
            compute: given the run's folder, computes, leaves its artifact there and returns
                metrics.
            data_digest: of the data the run sees.
            artifact: name in the run's folder that must exist for the run to count as done.

        Returns:
            The record, and the run's folder.
        """
        draft = {
            "stage": stage,
            "profile": self.profile,
            "parameters": dict(parameters),
            "provenance": self.provenance,
            "code_digest": code_digest(),
            "data_digest": data_digest,
        }
        now = datetime.now(UTC).isoformat()
        path = record_path(
            self.results,
            Record(**draft, **environment(), metrics={}, started=now, seconds=0.0),
        )
        folder = self.artifacts / path.relative_to(self.results).with_suffix("")
        if path.is_file():
            found = read_record(path)
            fresh = found.code_digest == draft["code_digest"] or self.accept_stale
            there = artifact is None or (folder / artifact).exists()
            if found.status == "complete" and found.data_digest == data_digest and fresh and there:
                return found, folder
        folder.mkdir(parents=True, exist_ok=True)
        clock = time.perf_counter()
        try:
            metrics = dict(compute(folder))
        except Exception as error:
            seconds = time.perf_counter() - clock
            failed = Record(
                **draft,
                **environment(),
                metrics={},
                started=now,
                seconds=seconds,
                status="failed",
                error=f"{type(error).__name__}: {error}",
            )
            write_record(self.results, failed)
            raise
        record = Record(
            **draft,
            **environment(),
            metrics=metrics,
            started=now,
            seconds=time.perf_counter() - clock,
        )
        write_record(self.results, record)
        return record, folder
