"""What all reading of questions from outside shares: strictness, and words for what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from qaprune_lib.data.files import Split, split_of_name
from qaprune_lib.errors import DataError, short, warn

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

    def report(self, file: str, n_kept: int) -> None:
        """Warn of what was dropped; DataError where nothing is left."""
        dropped = f"{self.count} bad questions dropped, {n_kept} kept; the first: {self.first}"
        if not n_kept:
            raise DataError(f"{file}: there are no questions" + f": {dropped}" * bool(self.count))
        if self.count:
            warn(dropped)


def first_error(error: ValidationError, whole: str = "the top level") -> str:
    """Where a value is wrong, and how; `whole` names the place without a path."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    return f"{place or whole}: {first['msg']}, where {short(first['input'])} stands"


def check_source(source: Any, function: str) -> None:
    """Raise DataError for what names no questions: neither a path nor a name."""
    if isinstance(source, str | Path):
        return
    raise DataError(
        f"{function} reads a path or a name, and this is a {type(source).__name__}: {short(source)}"
        f"; a Dataset of the columns id, context, question and answers goes as it is to finetune, "
        f"predict and the like"
    )


def no_questions(data: Any) -> DataError:
    """The error for data that is no questions: what was given, what is needed, what to write."""
    given, write = f"a {type(data).__name__}", 'load_squad("embedded")["train"]'
    if isinstance(data, str | Path):
        given, write = f"the name {str(data)!r}", f'load_squad({str(data)!r})["train"]'
    elif isinstance(data, Mapping) and "question" in data:
        write = "datasets.Dataset.from_dict(data)"
    elif isinstance(data, Mapping):
        given += f" with the splits {list(data)[:8]}"
        write = f"one of them, such as data[{next(iter(data), 'train')!r}]"
    elif hasattr(data, "to_dict") and hasattr(data, "columns"):
        write = "datasets.Dataset.from_pandas(data)"
    elif isinstance(data, list | tuple) or hasattr(data, "__iter__"):
        write = "datasets.Dataset.from_list(list(data))"
    return DataError(
        f"{given} is no set of questions: pass one split of load_squad or load_natural_questions; "
        f"write {write}"
    )


def may_be_hub_id(source: str | Path) -> bool:
    """Whether a source that is no file here can be an id on the Hub, and is no mistyped path."""
    if isinstance(source, Path):
        return False
    is_id = re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", source) is not None
    parent = Path(source).parent
    is_mistyped = source.endswith((".json", ".jsonl", ".gz", ".parquet")) or len(source) > 96
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


def named_splits(source: str, loaded: Mapping[str, T]) -> dict[Split, tuple[str, T]]:
    """The splits of a data set whose parts have names, by the words of these, with the names.

    Warns of parts that are left out: those of no such name, and ``test`` beside ``validation``.

    Raises:
        DataError: there are neither.
    """
    found: dict[Split, tuple[str, T]] = {}
    for name in sorted(loaded, key=lambda name: "test" in name):
        split = split_of_name(name)
        if split is not None:
            found.setdefault(split, (name, loaded[name]))
    if not found:
        raise DataError(f"{source!r} has neither a train nor a validation split: {list(loaded)}")
    left_out = sorted(set(loaded) - {name for name, _ in found.values()})
    if left_out:
        warn(f"{source}: left out {', '.join(left_out)}; read are {[n for n, _ in found.values()]}")
    return found
