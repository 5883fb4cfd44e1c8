"""Take in the records and models that runs elsewhere have left: `python -m study merge FOLDER`."""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from qaprune_lib.errors import QapruneError, RecordError
from study.records.lineage import git
from study.records.record import (
    FINISHED,
    read_record,
    record_files,
    record_path,
    write_record,
)

MOST_TIMES = 100
"""As large as its parts a tar file can be; records shrink to about a tenth."""
PART = "part-"
"""How the names of the parts of a tar file begin, which end in their numbers."""


@dataclass(frozen=True)
class Merged:
    """What came in: ids of new records, of those that were there, and of runs with files."""

    new: list[str]
    known: list[str]
    files: list[str]


def merge(source: Path, results: Path, runs: Path) -> Merged:
    """File the records under `results`, and models and scores of runs under `runs`.

    All records are read and checked before the first is filed.

    Args:
        source: a folder with `results` and, perhaps, `runs` in it, or one with the parts of a tar
            file of these.
        results: folder of records. runs: folder of models.

    Raises:
        RecordError: nothing there, a damaged record, one of a commit that git does not know here,
            or one that says other things than the record of the same run that is here.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as unpacked:
        if any(source.glob(f"{PART}*")):
            source = _unpack(source, Path(unpacked))
        found = [(path, read_record(path)) for path in record_files(source / "results")]
        if not found:
            raise RecordError(f"{source}: no records under {source / 'results'}")
        new, known = [], []
        for path, record in found:
            if record.commit is None or git("cat-file", "-t", record.commit) != ["commit"]:
                raise RecordError(f"{path}: made at commit {record.commit}, which git has not here")
            target = record_path(results, record)
            if not target.is_file():
                new.append(record)
            elif read_record(target).metrics == record.metrics:
                known.append(record.id)
            else:
                raise RecordError(
                    f"{path}: differs from {target}, of the same run: delete one of them first"
                )
        for record in new:
            write_record(results, record)
        files = [
            str(_file(mark.parent, source / "runs", runs))
            for mark in sorted((source / "runs").rglob(FINISHED))
        ]
    return Merged([record.id for record in new], known, files)


def _unpack(folder: Path, target: Path) -> Path:
    """Join the parts of a tar file, and unpack plain files alone, none of them outside of it."""
    parts = sorted(folder.glob(f"{PART}*"), key=lambda path: int(path.name.removeprefix(PART)))
    with tempfile.TemporaryFile(dir=target) as joined, tempfile.TemporaryFile(dir=target) as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined)
        largest = 2**20 + MOST_TIMES * joined.tell()
        joined.seek(0)
        try:
            with gzip.GzipFile(fileobj=joined) as plain:
                while block := plain.read(2**20):  # to its end, where the checksum stands
                    whole.write(block)
                    if whole.tell() > largest:
                        raise RecordError(
                            f"{folder}: its parts unpack to more than {MOST_TIMES} times their "
                            "size, which is no bundle's results"
                        )
            whole.seek(0)
            with tarfile.open(fileobj=whole, mode="r:") as archive:
                archive.extractall(target, filter="data")
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise RecordError(f"{folder}: its parts make no tar file: {error}") from error
    return target


def _file(run: Path, source: Path, runs: Path) -> Path:
    """Copy a run's folder, unless it is here; returns its id with profile and provenance."""
    name = run.relative_to(source)
    if not (runs / name / FINISHED).is_file():
        new = runs / name.parent / f".{name.name}"
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(run, new)
        new.replace(runs / name)
    return name


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 2 if something cannot be taken in."""
    parser = argparse.ArgumentParser(prog="python -m study merge", description=__doc__)
    parser.add_argument("folder", type=Path, help="with results and runs, or with parts of a tar")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    try:
        merged = merge(options.folder, options.results, options.runs)
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for name in merged.new:
        print(f"new      {name}")  # noqa: T201
    print(  # noqa: T201
        f"{len(merged.new)} new records, {len(merged.known)} that were here, files of "
        f"{len(merged.files)} runs"
    )
    return 0
