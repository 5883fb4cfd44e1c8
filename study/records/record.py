"""Records of runs: one JSON file for each run, at a path made of the run's parameters.

A run that is repeated replaces its own record, two different runs never meet at one path, and
a writer that dies leaves the old record or none. Reading needs neither torch nor transformers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from qaprune_lib.errors import RecordError

if TYPE_CHECKING:
    import pandas as pd

Provenance = Literal["measured", "embedded", "published"]
RunName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*$")
]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Hexadecimal = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]

SLUG_LENGTH = 60
TELLING = (
    "data",
    "model",
    "scorer",
    "kinds",
    "penalty_attn",
    "penalty_ff",
    "penalty_emb",
    "choice",
    "objective",
    "seed",
)
"""Parameters whose values, where they are not other runs, make a run's readable name."""
HASH_LENGTH = 10


class Record(BaseModel):
    """What one run was given, what it measured, and where.

    Attributes:
        name: readable path of the run within its profile, as `table2/squad2/minilm/x2/seed0`.
        stage: kind of run: "finetune", "score", "curve", "prune", "retrain", "evaluate", "time", …
        profile: the sweep that it belongs to, for instance "embedded".
        parameters: all that tells this run from others of its stage, as JSON values.
        metrics: what was measured, as JSON values, nested as is convenient.
        started: UTC, ISO 8601 with its offset.
        seconds: wall time of the run.
        device: the GPU or the processor that it ran on.
        packages: versions of Python and of the packages that matter, by name.
        commit: of the library's git checkout; None where there is none. dirty: whether files of it
            were changed.
        source, data_digest: of the data set that was read; None if none was.
        provenance: "published" numbers are others', "embedded" ones are of the generated corpus.

    Raises:
        RecordError: a field is missing, unknown or of the wrong type; a number is not finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: RunName
    stage: FileName
    profile: FileName
    parameters: dict[str, JsonValue]
    metrics: dict[str, JsonValue]
    started: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    device: str
    packages: dict[str, str]
    commit: Hexadecimal | None = None
    dirty: bool = False
    source: str | None = None
    data_digest: Hexadecimal | None = None
    provenance: Provenance

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

    @property
    def id(self) -> str:
        """The run's identity within its profile: its name and a hash of stage and parameters."""
        return f"{self.name}-{run_id(self.stage, self.parameters)[-HASH_LENGTH:]}"

    @property
    def reference(self) -> str:
        """How parameters of other runs name this one."""
        return f"run:{self.id}"


def run_id(stage: str, parameters: Mapping[str, JsonValue]) -> str:
    """The name of a run within its profile: `stage/slug-hash`.

    The slug is there to be read: the values of the telling parameters. The hash (10 hex digits of
    the SHA-256 over canonical JSON of all parameters, in which 1 and 1.0 are one number) tells runs
    apart.
    """
    digest = hashlib.sha256(_canonical(dict(parameters)).encode()).hexdigest()[:HASH_LENGTH]
    telling = [parameters.get(name) for name in TELLING]
    words = [_canonical(value) for value in telling if value is not None and "/" not in str(value)]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(words))[:SLUG_LENGTH].strip("-.")
    return f"{stage}/{slug}-{digest}" if slug else f"{stage}/{digest}"


def record_path(root: Path, record: Record) -> Path:
    """The one place of a record: `root/provenance/profile/`, its id, and `.json`."""
    return root / record.provenance / record.profile / f"{record.id}.json"


def write_record(root: Path, record: Record) -> Path:
    """Write a record at its path, replacing the same run's earlier one; returns the path.

    At any moment, and after a crash at any moment, the path holds a whole record or nothing.
    """
    checked = Record(**record.model_dump())  # the dicts of a frozen record can still be changed
    text = json.dumps(checked.model_dump(), indent=2, allow_nan=False) + "\n"
    path = record_path(root, checked)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path


def read_record(path: Path) -> Record:
    """Read one record.

    Raises:
        RecordError: the file is missing, damaged, or does not lie where its parameters put it;
            names the file and what is wrong.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not JSON, or cut short: {error}") from error
    if not isinstance(fields, dict):
        raise RecordError(f"{path}: holds a {type(fields).__name__}, not the fields of a record")
    try:
        record = Record(**fields)
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from None
    place = record_path(Path(), record)
    if path.absolute().parts[-len(place.parts) :] != place.parts:
        raise RecordError(f"{path}: its contents belong at {place}: edited by hand, or moved?")
    return record


def read_records(root: Path) -> list[Record]:
    """All records under a folder, in the order of their paths; none if there is no folder.

    Raises:
        RecordError: any of them is damaged.
    """
    paths = sorted(root.rglob("*.json"))
    hidden = {path for path in paths if any(p[0] == "." for p in path.relative_to(root).parts)}
    return [read_record(path) for path in paths if path not in hidden]


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record; nested values in columns such as `metrics.dev.f1`.

    The package versions are left out. A value that a record lacks is missing (NaN) in its row.
    """
    import pandas as pd

    rows = [record.model_dump(exclude={"packages"}) for record in records]
    plain = [name for name in Record.model_fields if name not in _NOT_COLUMNS]
    return pd.json_normalize(rows) if rows else pd.DataFrame(columns=pd.Index(plain))


_NOT_COLUMNS = {"parameters", "metrics", "packages"}


def _plain(value: object, key: str) -> JsonValue:
    """The value in Python's own JSON types, for instance without numpy's scalars."""
    match value:
        case None | bool() | str():
            return value
        case Integral():
            return int(value)
        case Real():
            if not math.isfinite(value):
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
    """JSON that equal values share: sorted keys, no spaces, whole numbers without a point."""

    def whole(item: JsonValue) -> JsonValue:
        match item:
            case float() if item.is_integer():
                return int(item)
            case dict():
                return {key: whole(inner) for key, inner in item.items()}
            case list():
                return [whole(inner) for inner in item]
        return item

    return json.dumps(whole(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False, include_context=False):
        where = ".".join(map(str, problem["loc"])) or "record"
        problems.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
