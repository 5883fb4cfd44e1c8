"""SQuAD 1.1 and 2.0 questions, checked on reading, in the Hugging Face ``squad_v2`` schema."""

from __future__ import annotations

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import datasets
import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict

from qaprune_lib.data.files import Split, files_by_split, split_of
from qaprune_lib.data.sources import (
    Fault,
    OnBad,
    check_source,
    hub_errors,
    may_be_hub_id,
    named_splits,
)
from qaprune_lib.data.squad.official import (
    DOWNLOAD,
    Questions,
    Version,
    add_official,
    add_rows,
    check_answers,
    check_texts,
    load_json,
    read_file,
)
from qaprune_lib.errors import DataError, SettingsError, counts, real, short

HeldoutBy = Literal["article", "paragraph"]
_HELD_OUT: dict[str, str] = {"article": "title", "paragraph": "context"}  # and their column
_COLUMNS = ["id", "context", "question", "answers"]
_ENDINGS = (".json", ".json.gz", ".parquet")
_DIGESTS: WeakKeyDictionary[Dataset, str] = WeakKeyDictionary()
_DRAWS = 100  # of articles, until they hold about as many questions as they should


def load_squad(
    source: str | Path,
    *,
    split: Split | None = None,
    version: Version | None = None,
    heldout: float = 0.1,
    heldout_by: HeldoutBy = "article",
    seed: int = 0,
    on_bad: OnBad = "raise",
) -> DatasetDict:
    """Read and check SQuAD questions.

    Args:
        source: ``"embedded"`` (the generated corpus); a file of official JSON, plain or gzipped,
            or of Parquet with the columns below; a folder of such files; a folder that
            ``save_to_disk`` of `datasets` wrote; or a Hugging Face Hub id such as
            ``"rajpurkar/squad_v2"``. A file is of the split that a word of its name says: train,
            or one of dev, val, valid, validation and test.
        split: of one file, whatever its name.
        version: which version to take from a folder that holds both; contradicting files are
            an error, and so are unanswerable questions in 1.1.
        heldout: share of the training questions that go to ``"heldout"``, by whole articles: at
            most half of it, or one question, more or less; 0 for no such split.
        heldout_by: ``"paragraph"`` holds out whole paragraphs instead, where articles are few.
        seed: draws what is held out.
        on_bad: what to do about a bad question: raise, or drop it, warn once and write the count
            into ``dataset.info.description``. A fault of a whole file always raises.

    Returns:
        The splits that exist among ``train``, ``heldout`` and ``dev``, each with the columns id,
        title, context, question and answers (``{"text": [...], "answer_start": [...]}``, both
        empty when the question has no answer; ``answer_start`` in characters of the context;
        None throughout where a file has no answers, which `predict` alone can use). Ids that are
        integers become strings; an article without a title is called by its number.

    Raises:
        DataError: a file or question that does not say what it claims to say.
        SettingsError: an argument out of range.

    >>> load_squad("embedded")["dev"][1]["answers"]["text"]
    ['Anna Valdon']
    """
    check_source(source, "load_squad")
    (seed,) = counts(least=0, seed=seed)
    if not 0 <= (share := real(heldout)) < 1:
        raise SettingsError(f"heldout={short(heldout)} is not a share: it must lie in [0, 1)")
    if version is not None and version not in get_args(Version):
        raise SettingsError(f"version={version!r} is unknown; choose one of {get_args(Version)}")
    if on_bad not in get_args(OnBad):
        raise SettingsError(f"on_bad={on_bad!r} is unknown; choose one of {get_args(OnBad)}")

    if heldout_by not in _HELD_OUT:
        raise SettingsError(f"heldout_by={heldout_by!r} is unknown; choose one of {[*_HELD_OUT]}")
    found = _read_source(source, split, version, on_bad)
    read = {name: questions.dataset() for name, questions in found.items()}
    splits = DatasetDict()
    if "train" in read:
        splits.update(_hold_out(read["train"], share, heldout_by, seed))
    if "dev" in read:
        splits["dev"] = read["dev"]
    return splits


def batches(dataset: Dataset) -> Iterator[dict[str, list[Any]]]:
    """Ids, contexts, questions and answers of a thousand rows at a time, as plain columns.

    Where there are no answers, they are None.

    Raises:
        DataError: a column is missing, or an answer does not stand at its offset.
    """
    here = [name for name in _COLUMNS if name in dataset.column_names]
    missing = {*_COLUMNS[:3]} - {*here}
    if missing:
        raise DataError(f"the questions have no column {', '.join(sorted(missing))}")
    for table in dataset.select_columns(here).with_format("arrow").iter(batch_size=1000):
        columns = {"answers": [None] * len(table), **table.to_pydict()}
        for identity, *row in zip(*(columns[name] for name in _COLUMNS), strict=True):
            try:
                _check_row(*row)
            except Fault as fault:
                raise DataError(f"question {short(identity)}: {fault.what}") from fault
        yield columns


def _check_row(context: Any, question: Any, answers: Any) -> None:
    check_texts(context, question)
    if answers is None:
        return
    try:
        pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
    except (TypeError, KeyError, ValueError) as error:
        raise Fault(
            f"answers are not {{'text': [...], 'answer_start': [...]}} of equal lengths: "
            f"{short(answers)}"
        ) from error
    answers["answer_start"] = check_answers(context, pairs)


def data_digest(dataset: Dataset) -> str:
    """SHA-256 (hex) of ids, contexts, questions and answers, in order.

    Depends on the content alone, not on how it is cached, chunked or indexed. It is remembered as
    long as the data set is in memory.

    Raises:
        DataError: as `batches`.
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
                if answer is not None
                else f"[{encode(identity)},{contexts[context]},{encode(question)},null,null]\n"
                for identity, context, question, answer in zip(
                    *(columns[name] for name in _COLUMNS), strict=True
                )
            )
            digest.update("".join(rows).encode())
        _DIGESTS[dataset] = digest.hexdigest()
    return _DIGESTS[dataset]


def _read_source(
    source: str | Path, split: Split | None, version: Version | None, on_bad: OnBad
) -> dict[str, Questions]:
    read: dict[str, Questions] = defaultdict(lambda: Questions(version, on_bad))
    path = Path(os.path.expanduser(source))
    if source == "embedded":
        from qaprune_lib.data.embedded.articles import generate_squad

        for name, raw in generate_squad().items():
            read[name].file = f"embedded {name}"
            add_official(raw, read[name], version)
    elif os.path.exists(path):
        for name, files in _files(path, split, version).items():
            for file in files:
                read_file(file, read[name], version)
    elif not may_be_hub_id(source):
        raise DataError(f"{str(path)[:1000]}: no such file or folder; {DOWNLOAD}")
    else:
        with hub_errors(str(source), DOWNLOAD):
            loaded = datasets.load_dataset(source)
        for name, (part, rows) in named_splits(str(source), loaded).items():
            read[name].file = f"{source} {part}"
            for table in rows.with_format("arrow").iter(1000):
                add_rows(table, read[name])
    return read


def _files(path: Path, split: Split | None, version: Version | None) -> dict[Split, list[Path]]:
    if not path.is_dir():
        return {split_of(path, split): [path]}
    if (path / "state.json").is_file():
        return {split_of(path, split): saved_files(path)}
    if split is not None:
        raise SettingsError(f"split={split!r} is for one file, and {path} is a folder")
    return files_of_folder(path, version)


def files_of_folder(folder: Path, version: Version | None) -> dict[Split, list[Path]]:
    """The files of questions in a folder, of one version, by split."""
    if (folder / "dataset_dict.json").is_file():
        parts = {part.name: part for part in folder.iterdir() if part.is_dir()}
        found = named_splits(str(folder), parts)
        return {split: saved_files(part) for split, (_, part) in found.items()}
    return files_by_split(
        folder,
        _ENDINGS,
        shard=r"\d+-of-\d+",
        instead="pass version='1.1' or version='2.0', or the path of one file",
        leave_out=[other for other in get_args(Version) if version and other != version],
    )


def saved_files(folder: Path) -> list[Path]:
    """The files of rows of a data set that ``save_to_disk`` wrote, in order."""
    state = load_json(folder / "state.json")
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / 'state.json'}: it does not name files of rows") from error
    outside = [name for name in names if Path(name).name != name]
    if outside:
        raise DataError(f"{folder / 'state.json'}: {outside[0]!r} is no file of this folder")
    return [folder / name for name in names]


def _hold_out(train: Dataset, heldout: float, by: HeldoutBy, seed: int) -> dict[str, Dataset]:
    if heldout == 0:
        return {"train": train}
    group, names = pd.factorize(np.array(train[_HELD_OUT[by]][:], object), sort=True)
    sizes, generator = np.bincount(group), np.random.default_rng(seed)
    n_drawn = min(max(1, round(heldout * len(names))), len(names) - 1)
    tolerance = max(heldout / 2, 1 / len(train))
    for _ in range(_DRAWS):
        drawn = generator.permutation(len(names))[:n_drawn]
        share = sizes[drawn].sum() / len(train)
        if n_drawn and abs(share - heldout) <= tolerance:
            is_heldout = np.isin(group, drawn)
            return {
                "train": train.select(np.flatnonzero(~is_heldout)),
                "heldout": train.select(np.flatnonzero(is_heldout)),
            }
    instead = " heldout_by='paragraph'," if by == "article" else ""
    raise DataError(
        f"{len(names)} {by}s, the largest of {sizes.max()} of {len(train)} questions, cannot be "
        f"split so that heldout={heldout} of the questions, {tolerance:.2g} more or less, are held "
        f"out; pass{instead} another share, or heldout=0"
    )
