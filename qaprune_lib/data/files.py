"""Files of questions: which split each is, and their content in bounded memory."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast, get_args

from qaprune_lib.errors import DataError, SettingsError, counts

Split = Literal["train", "dev"]

_WORDS: dict[str, Split] = {
    "train": "train",
    **dict.fromkeys(("dev", "val", "valid", "validation", "test"), "dev"),
}
_QUESTIONS = re.compile(r"\.(jsonl?(\.gz)?|parquet)$", re.IGNORECASE)
_OTHER_FORMS = re.compile(  # of tables and of packed files, which are not read
    r"\.(arrow|csv|tsv|ndjson)$|\.(gz|bz2|xz|zst|zip|tar|tgz)$", re.IGNORECASE
)
SPLIT_RULE = f"a name needs one of the words {', '.join(_WORDS)}, or pass split='train' or 'dev'"


def max_bytes() -> int:
    """Bytes of one file that is read whole, or of one line, unpacked: 256 MiB.

    ``$QAPRUNE_MAX_BYTES`` is another limit.
    """
    value = os.environ.get("QAPRUNE_MAX_BYTES") or str(2**28)
    (limit,) = counts(QAPRUNE_MAX_BYTES=int(value) if value.isdecimal() else value)
    return int(limit)


def split_of_name(name: str) -> Split | None:
    """The split that the words of a name say; None if they say none, or both.

    >>> split_of_name("KorQuAD_v1.0_dev.json"), split_of_name("latest.json")
    ('dev', None)
    """
    found = {_WORDS[word] for word in re.findall(r"[^\W\d_]+", name.lower()) if word in _WORDS}
    return found.pop() if len(found) == 1 else None


def split_of(path: Path, split: Split | None) -> Split:
    """The split that is given, else the one that the name says.

    Raises:
        DataError: the name says none, or both.
        SettingsError: there is no such split.
    """
    if split is not None and split not in get_args(Split):
        raise SettingsError(f"split={split!r} is unknown; choose one of {get_args(Split)}")
    found = split or split_of_name(path.name)
    if found is None:
        raise DataError(f"{path}: its name does not say whether it is train or dev: {SPLIT_RULE}")
    return found


def files_by_split(
    folder: Path,
    endings: tuple[str, ...],
    *,
    shard: str,
    instead: str,
    leave_out: Sequence[str] = (),
) -> dict[Split, list[Path]]:
    """The files of questions in a folder: of each split one, or shards of one.

    Args:
        folder: where they lie.
        endings: of the names of such files.
        shard: pattern of what the names of shards differ in.
        instead: what to do where there are several sets.
        leave_out: parts of the names of files that are not asked for.

    Raises:
        DataError: nothing to read, a file that would go unused, or several sets of one split.
    """
    here = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    expected = " or ".join(f"train*{ending} and dev*{ending}" for ending in endings)
    splits: dict[Split, list[str]] = {}
    unused = []
    for name in here:
        if any(part in name for part in leave_out):
            continue
        if name.lower().endswith(endings) and (split := split_of_name(name)):
            splits.setdefault(split, []).append(name)
        elif _QUESTIONS.search(name) or _would_be_read(folder / name):
            unused.append(name)
    if not splits:
        found = ", ".join([*here[:8], "..."] if len(here) > 8 else here) or "nothing"
        without = f" without {', '.join(leave_out)} in their names" * bool(leave_out)
        raise DataError(
            f"{folder}: it must hold {expected}{without}, where {found} stands; {SPLIT_RULE}"
        )
    if unused:
        raise DataError(
            f"{folder}: {', '.join(unused)} would go unused: expected are {expected}; "
            f"{SPLIT_RULE} and the path of one file"
        )
    for split, names in sorted(splits.items(), reverse=True):
        if len({re.sub(shard, "#", name) for name in names}) > 1:
            raise DataError(f"{folder}: more than one {split} set: {', '.join(names)}; {instead}")
    return {split: [folder / name for name in names] for split, names in splits.items()}


def _would_be_read(path: Path) -> bool:
    """Whether someone who put it there, under a split's name, takes it for one of the files."""
    if split_of_name(path.name) is None:
        return False
    if path.is_dir():
        return any(map(_QUESTIONS.search, os.listdir(path)))
    is_copy = path.with_suffix("").exists()  # packed beside what it holds
    return _OTHER_FORMS.search(path.name) is not None and not is_copy


@contextmanager
def open_plain(path: Path, *, unpack: bool = True) -> Iterator[BinaryIO]:
    """A regular file, unpacked if it is gzipped and `unpack` is set.

    Raises:
        DataError: no such file, something else than a file, or one that cannot be read, here or
            inside of the block.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "no regular file"
        raise DataError(f"{path}: it is {what}, where a file must stand")
    try:
        with path.open("rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not (unpack and is_gzip):
                yield file
                return
            with gzip.open(file) as unpacked:
                yield cast(BinaryIO, unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: the gzip file is truncated or damaged ({error}); download it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def too_large(place: object) -> DataError:
    """The error for what is longer than `max_bytes`."""
    return DataError(
        f"{place}: more than {max_bytes()} bytes, unpacked, which is no file of questions; set "
        f"QAPRUNE_MAX_BYTES to a larger number if it is"
    )


def read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked; raises DataError as `open_plain`, or if it is too large."""
    limit = max_bytes()
    with open_plain(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise too_large(path)
    return content
