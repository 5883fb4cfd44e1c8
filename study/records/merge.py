"""Take in the records and models that runs elsewhere have left: `python -m study merge FOLDER`."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qaprune_lib.errors import RecordError
from study.command import command, parser, say
from study.records.lineage import git
from study.records.record import FINISHED, read_record, record_files, record_path, write_record

MOST_TIMES = 100
"""As large as its parts a tar file can be; records shrink to about a tenth."""
PART = "part-"
"""How the names of the parts of a tar file begin, which end in their numbers."""


class Merged(NamedTuple):
    """What came in: ids of new records, of those that were there, and of runs with files."""

    new: list[str]
    known: list[str]
    files: list[str]


def merge(source: Path, results: Path, runs: Path) -> Merged:
    """File the records under `results`, and models and scores of runs under `runs`.

    All records are read and checked before the first is filed: of commits that git knows here, and
    saying nothing else than those of the same runs. The source is a folder with `results` and,
    perhaps, `runs` in it, or one with the parts of a tar file of these.
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
        marks = sorted((source / "runs").rglob(FINISHED))
        files = [str(_file(mark.parent, source / "runs", runs)) for mark in marks]
    return Merged([record.id for record in new], known, files)


def _unpack(folder: Path, target: Path) -> Path:
    """Join the parts of a tar file, and unpack plain files alone, none of them outside of it."""
    parts = sorted(folder.glob(f"{PART}*"), key=lambda path: int(path.name.removeprefix(PART)))
    content = b"".join(part.read_bytes() for part in parts)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            whole = packed.read(2**20 + MOST_TIMES * len(content))
            if packed.read(1):  # at the end it reads the checksum
                raise RecordError(
                    f"{folder}: its parts unpack to more than {MOST_TIMES} times their size, which "
                    "is no bundle's results"
                )
        with tarfile.open(fileobj=io.BytesIO(whole), mode="r:") as archive:
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


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line."""
    line = parser("merge", __doc__, "results", "runs")
    line.add_argument("folder", type=Path, help="with results and runs, or with parts of a tar")
    options = line.parse_args(arguments)
    new, known, files = merge(options.folder, Path(options.results), Path(options.runs))
    for name in new:
        say(f"new      {name}")
    say(f"{len(new)} new records, {len(known)} that were here, files of {len(files)} runs")
