"""Records of runs: one JSON file for each run, at a path that people can read.

A run that is repeated replaces its own record, two different runs never meet at one path, and
a writer that dies leaves the old record or none. Reading needs neither torch nor transformers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from qaprune_lib.cache import write_atomically
from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

Provenance = Literal["measured", "embedded"]
WORD = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}"
Word = Annotated[str, StringConstraints(pattern=f"^{WORD}$")]
"""A name that may be a part of a path: short, no slash, no space, nothing that a shell reads."""
NAME = f"{WORD}(/{WORD})*"
Name = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Hexadecimal = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]
HASH_LENGTH = 10
FINISHED = "finished"
"""A file in a run's folder of models or scores: the folder is whole. The record follows it."""
LARGEST = 2**26
"""Bytes of a record, which is far smaller."""
RUN = "run:"
"""How a parameter that names another run begins; its id follows."""


class Record(BaseModel, frozen=True, extra="forbid"):
    """What one run was given, what it measured, and where.

    Attributes:
        name: to be read, for instance "table2/squad2/minilm/x2/distilled/seed0".
        stage: kind of run: "finetune", "score", "select", "prune", "retrain" or "time".
        profile: the sweep that it belongs to, for instance "embedded".
        parameters: all that tells this run from others of its stage, as JSON values; other runs
            are named `run:ID`.
        metrics: what was measured, as JSON values, nested as is convenient.
        started: UTC, ISO 8601 with its offset. seconds: wall time.
        device: the GPU or the processor that it ran on.
        packages: versions of what can change a result.
        commit: of the library, None where it was no git checkout; dirty: whether files differed
            from it, which a measured record is refused for.
        source: where the questions came from: "embedded", a Hub id, or the names of files.
        data_digest: of the questions that were used.
        provenance: "embedded" numbers are of the generated corpus.
        built_on: the weights' digests of the models that it read, by their runs' ids.
    """

    name: Name
    stage: Word
    profile: Word
    parameters: dict[str, Any]
    metrics: dict[str, Any]
    started: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    device: str
    packages: dict[str, str]
    commit: Hexadecimal | None
    dirty: bool
    source: str
    data_digest: Hexadecimal
    provenance: Provenance
    built_on: dict[str, Hexadecimal] = {}

    if not TYPE_CHECKING:  # mypy takes the signature from the fields

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise RecordError(_explain(error)) from None

    @field_validator("parameters", "metrics", mode="before")
    @classmethod
    def _only_json(cls, values: object, info: ValidationInfo) -> object:
        return _plain(values, info.field_name or "")

    @field_validator("started")
    @classmethod
    def _in_utc(cls, started: str) -> str:
        if datetime.fromisoformat(started).utcoffset() != timedelta(0):
            raise ValueError("not a time in UTC with its offset, as 2024-05-06T07:08:09+00:00")
        return started

    @model_validator(mode="after")
    def _measured_at_a_commit(self) -> Record:
        if self.provenance == "measured" and self.dirty:
            raise ValueError(
                "a measured record comes from a commit: commit the changes of the tree first"
            )
        return self

    @property
    def id(self) -> str:
        """Its name with the hash of its stage and parameters behind."""
        return run_id(self.name, self.stage, self.parameters)


def run_id(name: str, stage: str, parameters: Mapping[str, JsonValue]) -> str:
    """`name-hash`: 10 hex digits of the SHA-256 over stage and parameters as canonical JSON.

    In it 1 and 1.0 are one number, and a run that a parameter names counts by its own hash: what
    runs are called changes nothing.
    """
    digest = hashlib.sha256(_canonical([stage, dict(parameters)]).encode()).hexdigest()
    return f"{name}-{digest[:HASH_LENGTH]}"


def hash_of(run: str) -> str:
    """The hash at the end of a run's id, or of a reference to it."""
    return run.rpartition("-")[2]


def is_run(name: object) -> bool:
    """Whether a parameter names a run rather than a model."""
    return isinstance(name, str) and name.startswith(RUN)


def record_path(root: Path, record: Record) -> Path:
    """The one place of a record: `root/provenance/profile/ID.json`."""
    return root / record.provenance / record.profile / f"{record.id}.json"


def write_record(root: Path, record: Record) -> Path:
    """Write a record at its path, where at any moment is a whole record or nothing."""
    checked = Record(**record.model_dump())  # the dicts of a frozen record can still be changed
    path = record_path(root, checked)
    write_atomically(path, json.dumps(checked.model_dump(), indent=1, allow_nan=False) + "\n")
    return path


def read_record(path: Path) -> Record:
    """Read one record; an error if it is damaged, or not where its parameters put it."""
    try:
        fields = json.loads(read_text(path))
        json.dumps(fields, ensure_ascii=False).encode()  # raises where no file could hold it
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON, or cut short: {error}") from error
    if not isinstance(fields, dict):
        raise RecordError(f"{path}: holds a {type(fields).__name__}, not the fields of a record")
    try:
        record = Record(**fields)
    except (RecordError, TypeError, RecursionError) as error:
        raise RecordError(f"{path}: {error}") from None
    place = record_path(Path(), record)
    if path.absolute().parts[-len(place.parts) :] != place.parts:
        raise RecordError(f"{path}: its contents belong at {place}: edited by hand, or moved?")
    return record


def read_text(path: Path, largest: int = LARGEST) -> str:
    """The text of a plain file of at most so many bytes; otherwise an OSError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "not a plain file", str(path))
    try:
        file = path.open("rb")
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    with file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise OSError(errno.EFBIG, f"more than {largest} bytes", str(path))
    return content.decode()


def record_files(root: Path) -> list[Path]:
    """The files of all records under a folder, in the order of their paths."""
    paths = sorted(root.rglob("*.json"))
    return [path for path in paths if not any(p[0] == "." for p in path.relative_to(root).parts)]


def read_records(root: Path) -> list[Record]:
    """All records under a folder, in the order of their paths."""
    if not root.is_dir():
        raise RecordError(f"{root}: no such folder of records")
    return [read_record(path) for path in record_files(root)]


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record, but for packages and `built_on`; nested as `metrics.dev.f1`."""
    import pandas as pd

    rows = [record.model_dump(exclude={"packages", "built_on"}) for record in records]
    nested = ("parameters", "metrics", "packages", "built_on")
    plain = [name for name in Record.model_fields if name not in nested]
    return pd.json_normalize(rows) if rows else pd.DataFrame(columns=pd.Index(plain))


def _plain(value: object, key: str) -> JsonValue:
    """The value in Python's own JSON types, for instance without numpy's scalars."""
    match value:
        case None | bool() | str():
            return value
        case Integral():
            return int(value)
        case Real():
            if not isfinite(value):
                raise ValueError(f"{key} is {float(value)}: numbers must be finite")
            return float(value)
        case Mapping():
            if wrong := [name for name in value if not isinstance(name, str)]:
                raise ValueError(f"{key} has the key {wrong[0]!r}: keys must be strings")
            return {name: _plain(item, f"{key}.{name}") for name, item in value.items()}
        case list() | tuple():
            return [_plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    raise ValueError(f"{key} is of {type(value)}, which is not a JSON value")


def _canonical(value: JsonValue) -> str:
    """JSON that equal values share: sorted keys, whole numbers without a point, runs by hash."""

    def plain(item: JsonValue) -> JsonValue:
        match item:
            case float() if item.is_integer():
                return int(item)
            case str() if item.startswith(RUN):
                return RUN + hash_of(item)
            case dict():
                return {key: plain(inner) for key, inner in item.items()}
            case list():
                return [plain(inner) for inner in item]
        return item

    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, problem["loc"])) or "record"
        message = re.sub("^Value error, ", "", problem["msg"])
        problems.append(f"{where}: {message:.300}")
    return "; ".join(problems)
