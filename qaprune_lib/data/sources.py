"""What all reading of questions from outside shares: strictness, and words for what is wrong."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from qaprune_lib.errors import DataError

OnBad = Literal["raise", "drop"]
T = TypeVar("T")


def _encodable(text: str) -> str:
    text.encode()  # JSON can spell half of a surrogate pair, which is no text
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class Strict(BaseModel):
    """A part of a file, whose values are taken as they stand: "1" is no number."""

    model_config = ConfigDict(strict=True)


class Fault(Exception):
    """What is wrong with one question, and its id where it has one."""

    def __init__(self, what: str, identity: Any = None) -> None:
        super().__init__(what)
        self.what, self.identity = what, identity


@dataclass
class Faults:
    """The bad questions of one file: the first raises, or all are counted."""

    on_bad: OnBad
    count: int = 0
    first: str = ""

    def add(self, message: str) -> None:
        """Raise DataError, or count one more."""
        if self.on_bad == "raise":
            raise DataError(
                f"{message} Correct the data, or pass on_bad='drop' to leave such questions out."
            )
        self.count += 1
        self.first = self.first or message

    def report(self, file: str, n_kept: int, *, stacklevel: int) -> None:
        """Warn of what was dropped; DataError where nothing is left."""
        dropped = f"{self.count} bad questions dropped, {n_kept} kept; the first: {self.first}"
        if not n_kept:
            raise DataError(f"{file}: there are no questions" + f": {dropped}" * bool(self.count))
        if self.count:
            warnings.warn(dropped, stacklevel=stacklevel)


def first_error(error: ValidationError, whole: str = "the top level") -> str:
    """Where a value is wrong, and how; `whole` names the place without a path."""
    first = error.errors()[0]
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    return f"{place or whole}: {first['msg']}, where {short(first['input'])} stands"


def short(value: Any, width: int = 80) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= width else text[: width - 1] + "…"


def may_be_hub_id(source: str | Path) -> bool:
    """Whether a source that is no file here can be an id on the Hub, and is no mistyped path."""
    if isinstance(source, Path):
        return False
    is_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", source) is not None
    parent = Path(source).parent
    is_mistyped = source.endswith((".json", ".jsonl", ".gz"))
    return is_id and not is_mistyped and (parent == Path() or not parent.is_dir())


@contextmanager
def hub_errors(source: str, instead: str) -> Iterator[None]:
    """Whatever the Hub's client raises becomes a DataError that says what to do instead."""
    try:
        yield
    except Exception as error:  # its own, httpx's and requests' errors
        raise DataError(
            f"{source!r} is no file or folder here, and the Hugging Face Hub did not give it "
            f"({type(error).__name__}: {error}). Without network, {instead}"
        ) from error


def hub_splits(source: str, loaded: Mapping[str, T]) -> dict[str, tuple[str, T]]:
    """The splits ``train`` and ``dev`` of what the Hub gave, with their names there.

    Raises:
        DataError: there are neither.
    """
    names = {"train": "train", "dev": "validation"}
    found = {split: (name, loaded[name]) for split, name in names.items() if name in loaded}
    if not found:
        raise DataError(f"{source!r} has neither a train nor a validation split: {list(loaded)}")
    return found
