"""Values that are kept as readable JSON, with one clear error for what is wrong in them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from qaprune_lib.cache import write_atomically
from qaprune_lib.errors import TopologyError

MAX_JSON_BYTES = 2**28
"""Of a JSON file that is read; more is refused before a byte is."""


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file holds, in time and memory that its size bounds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no regular file, more than `MAX_JSON_BYTES`, not UTF-8 or JSON, nested too
            deeply, or an integer of thousands of digits.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a regular file")
    if found.st_size > MAX_JSON_BYTES:
        raise ValueError(f"{found.st_size} bytes, more than the {MAX_JSON_BYTES} that are read")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


class SavedValue(BaseModel):
    """Frozen fields that a file can hold.

    Raises:
        TopologyError: fields that are wrong, missing or unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    called: ClassVar[str]  # in errors

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            reason = f"{place}: {first['msg']}" if place else first["msg"]
            raise TopologyError(reason.removeprefix("Value error, ")) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write readable JSON, atomically."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises:
            TopologyError: no such file, something else, or what contradicts itself.
        """
        try:
            return cls(**read_json(path))
        except FileNotFoundError as error:
            raise TopologyError(f"{path}: no such file") from error
        except (OSError, ValueError, TypeError) as error:
            raise TopologyError(f"{path}: not {cls.called}: {error}") from error
