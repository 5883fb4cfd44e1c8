"""SQuAD 1.1 and 2.0 questions, checked on reading, in the Hugging Face ``squad_v2`` schema."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args
from weakref import WeakKeyDictionary

import datasets
import numpy as np
from datasets import Dataset, DatasetDict

from qaprune_lib.data.sources import OnBad, hub_errors, hub_splits, may_be_hub_id
from qaprune_lib.data.squad.official import (
    DOWNLOAD,
    Questions,
    Version,
    add_rows,
    load_json,
    read_official,
)
from qaprune_lib.errors import DataError, SettingsError

_DEV_NAMES = ("dev", "test", "validation")
_COLUMNS = ["id", "context", "question", "answers"]
_DIGESTS: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()


def load_squad(
    source: str | Path,
    *,
    version: Version | None = None,
    heldout: float = 0.1,
    seed: int = 0,
    on_bad: OnBad = "raise",
) -> DatasetDict:
    """Read and check SQuAD questions.

    Args:
        source: ``"embedded"`` (the generated corpus), a folder with ``train*.json[.gz]`` and
            ``dev*.json[.gz]``, one such file (a dev set if its name starts with dev, test or
            validation, else a training set), or a Hugging Face Hub id such as
            ``"rajpurkar/squad_v2"``.
        version: which version to take from a folder that holds both; contradicting files are
            an error, and so are unanswerable questions in 1.1.
        heldout: share of the training *articles* that go to ``"heldout"``; 0 for no such split.
        seed: draws the held-out articles.
        on_bad: what to do about a bad question: raise, or drop it, warn once and write the count
            into ``dataset.info.description``. A fault of a whole file always raises.

    Returns:
        The splits that exist among ``train``, ``heldout`` and ``dev``, each with the columns id,
        title, context, question and answers (``{"text": [...], "answer_start": [...]}``, both
        empty when the question has no answer; ``answer_start`` in characters of the context).

    Raises:
        DataError: a file or question that does not say what it claims to say.
        SettingsError: an argument out of range.

    >>> load_squad("embedded")["dev"][1]["answers"]["text"]
    ['Anna Valdon']
    """
    if not 0 <= heldout < 1:
        raise SettingsError(f"heldout={heldout} is not a share: it must lie in [0, 1)")
    if version is not None and version not in get_args(Version):
        raise SettingsError(f"version={version!r} is unknown; choose one of {get_args(Version)}")
    if on_bad not in get_args(OnBad):
        raise SettingsError(f"on_bad={on_bad!r} is unknown; choose one of {get_args(OnBad)}")

    read = {}
    for split, questions in _read_source(source, version, on_bad).items():
        read[split] = questions.dataset()
    splits = DatasetDict()
    if "train" in read:
        splits.update(_split_by_article(read["train"], heldout, seed))
    if "dev" in read:
        splits["dev"] = read["dev"]
    return splits


def batches(dataset: Dataset) -> Iterator[dict[str, list[Any]]]:
    """Ids, contexts, questions and answers of a thousand rows at a time, as plain columns.

    Raises:
        DataError: a column is missing.
    """
    missing = [name for name in _COLUMNS if name not in dataset.column_names]
    if missing:
        raise DataError(f"the questions have no column {', '.join(missing)}")
    rows = dataset.select_columns(_COLUMNS).with_format("arrow")
    for table in rows.iter(batch_size=1000):
        yield table.to_pydict()


def data_digest(dataset: Dataset) -> str:
    """SHA-256 (hex) of ids, contexts, questions and answers, in order.

    Depends on the content alone, not on how it is cached, chunked or indexed. It is remembered as
    long as the data set is in memory.

    Raises:
        DataError: a column is missing.
    """
    if dataset not in _DIGESTS:
        digest = hashlib.sha256()
        encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
        for columns in batches(dataset):
            # each row as JSON; questions on the same context often follow each other
            contexts = {text: encode(text) for text in dict.fromkeys(columns["context"])}
            rows = (
                f"[{encode(identity)},{contexts[context]},{encode(question)},"
                f"{encode(answer['text'])},{encode(answer['answer_start'])}]\n"
                for identity, context, question, answer in zip(
                    *(columns[name] for name in _COLUMNS), strict=True
                )
            )
            digest.update("".join(rows).encode())
        _DIGESTS[dataset] = digest.hexdigest()
    return _DIGESTS[dataset]


def _read_source(
    source: str | Path, version: Version | None, on_bad: OnBad
) -> dict[str, Questions]:
    if source == "embedded":
        from qaprune_lib.data.embedded.articles import generate_squad

        return {
            split: read_official(raw, f"embedded {split}", version, on_bad)
            for split, raw in generate_squad().items()
        }
    path = Path(source).expanduser()
    if path.is_dir():
        files = files_of_folder(path, version)
    elif path.is_file():
        files = {"dev" if path.name.lower().startswith(_DEV_NAMES) else "train": path}
    elif not may_be_hub_id(source):
        raise DataError(f"{path}: no such file or folder; {DOWNLOAD}")
    else:
        return _read_hub(str(source), version, on_bad)
    return {
        split: read_official(load_json(file), str(file), version, on_bad)
        for split, file in files.items()
    }


def files_of_folder(folder: Path, version: Version | None) -> dict[str, Path]:
    """The training and the dev file of a folder, of one version."""
    found = {}
    for split in ("train", "dev"):
        files = sorted([*folder.glob(f"{split}*.json"), *folder.glob(f"{split}*.json.gz")])
        others = [other for other in get_args(Version) if version and other != version]
        files = [file for file in files if not any(other in file.name for other in others)]
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise DataError(
                f"{folder}: more than one {split} file: {names}; pass version='1.1' or "
                f"version='2.0', or the path of one file"
            )
        if files:
            found[split] = files[0]
    if not found:
        wanted = f" of version {version}" if version else ""
        raise DataError(
            f"{folder}: no train*.json[.gz] and no dev*.json[.gz]{wanted} in it; {DOWNLOAD}"
        )
    return found


def _read_hub(source: str, version: Version | None, on_bad: OnBad) -> dict[str, Questions]:
    with hub_errors(source, DOWNLOAD):
        loaded = datasets.load_dataset(source)
    read = {}
    for split, (name, rows) in hub_splits(source, loaded).items():
        read[split] = Questions(f"{source} {name}", version, on_bad)
        add_rows(rows, read[split])
    return read


def _split_by_article(train: Dataset, heldout: float, seed: int) -> dict[str, Dataset]:
    if heldout == 0:
        return {"train": train}
    row_titles = train["title"][:]
    titles = sorted(set(row_titles))
    n_heldout = max(1, round(heldout * len(titles)))
    if n_heldout == len(titles):
        raise DataError(
            f"{len(titles)} article(s) cannot be split with heldout={heldout}: no article would "
            f"be left to train on; pass heldout=0 or more articles"
        )
    drawn = np.random.default_rng(seed).permutation(len(titles))[:n_heldout]
    chosen = {titles[index] for index in drawn}
    is_heldout = np.array([title in chosen for title in row_titles])
    return {
        "train": train.select(np.flatnonzero(~is_heldout)),
        "heldout": train.select(np.flatnonzero(is_heldout)),
    }
