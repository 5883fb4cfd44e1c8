"""Values that are kept as small readable JSON, with one clear error for what is wrong in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from qaprune_lib.cache import write_atomically
from qaprune_lib.errors import TopologyError


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
            return cls(**json.loads(Path(path).read_text()))
        except FileNotFoundError as error:
            raise TopologyError(f"{path}: no such file") from error
        except (ValueError, TypeError) as error:
            raise TopologyError(f"{path}: not {cls.called}: {error}") from error
