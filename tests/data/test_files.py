"""Names, layouts and content of files of questions: read as meant, or one clear error."""

from __future__ import annotations

import gzip
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

import qaprune_lib as qp
from qaprune_lib.data.files import split_of_name
from qaprune_lib.errors import DataError, QapruneError, SettingsError
from tests.data.pages import annotation, page, simplified, write

CONTEXT = "Ada wrote it in 1843."
DEV = ("dev", "val", "valid", "validation", "test")
LOADERS: dict[str, Callable[..., Any]] = {
    ".json": qp.load_squad,
    ".jsonl": qp.load_natural_questions,
}


def squad(*, answers: Any = ({"text": "1843", "answer_start": 16},), **fields: Any) -> dict:
    asked = {"id": "a", "question": "When?", "answers": list(answers)} | fields
    return {"data": [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": [asked]}]}]}


def put(folder: Path, name: str) -> Path:
    """A good file of the kind that the name ends in."""
    folder.mkdir(exist_ok=True)
    tokens, candidates = page(("P", "Ada wrote it in 1843"))
    example = simplified(1, tokens, candidates, [annotation(candidates, 0)])
    return write(folder / name, [example if ".jsonl" in name else json.dumps(squad())])


@given(
    words=st.lists(st.sampled_from(["KorQuAD", "v1.0", "2", "german", "latest"]), max_size=3),
    word=st.sampled_from(["train", *DEV]),
    at=st.integers(0, 3),
    mark=st.sampled_from(["-", "_", ".", " "]),
    change=st.sampled_from([str.lower, str.upper, str.title]),
)
def test_the_split_is_a_word_anywhere_in_the_name(
    words: list[str], word: str, at: int, mark: str, change: Callable[[str], str]
) -> None:
    words.insert(at, change(word))
    assert split_of_name(mark.join(words) + ".json") == ("train" if word == "train" else "dev")


@pytest.mark.parametrize("ending", LOADERS)
@pytest.mark.parametrize(
    "name", ["answers", "training", "contest", "devil", "train-dev", "retrain"]
)
def test_a_name_that_does_not_say_needs_split(tmp_path: Path, ending: str, name: str) -> None:
    load, file = LOADERS[ending], put(tmp_path, name + ending)
    with pytest.raises(DataError, match=rf"{name}.*train, dev, val.*split='train'"):
        load(file)
    assert list(load(file, split="dev")) == ["dev"]
    with pytest.raises(SettingsError, match="split='test' is unknown"):
        load(file, split="test")


@pytest.mark.parametrize("ending", LOADERS)
@pytest.mark.parametrize("extra", ["more", "test", "validation.json", "all.parquet", "old.jsonl"])
def test_no_file_of_a_folder_goes_unused(tmp_path: Path, ending: str, extra: str) -> None:
    load = LOADERS[ending]
    for name in ("train", "dev", extra):
        put(tmp_path, name if "." in name else name + ending)
    with pytest.raises(DataError, match=rf"({extra}.* would go unused|more than one dev).*pass"):
        load(tmp_path)


@pytest.mark.parametrize("ending", LOADERS)
@pytest.mark.parametrize(
    "extra", ["test.arrow", "dev.csv", "val.tsv", "train.ndjson", "test.json.bz2", "train.zip"]
)
def test_what_is_called_a_split_is_read_or_named(tmp_path: Path, ending: str, extra: str) -> None:
    put(tmp_path, "dev" + ending)
    file = put(tmp_path, extra)
    with pytest.raises(DataError, match=f"{extra} would go unused"):
        LOADERS[ending](tmp_path)
    file.rename(tmp_path / f".{extra}")
    put(tmp_path / "validation", "part" + ending)
    with pytest.raises(DataError, match="validation would go unused"):
        LOADERS[ending](tmp_path)
    (tmp_path / "validation" / f"part{ending}").rename(tmp_path / "validation" / "README.md")
    for name in (f"dev{ending}.zip", "test.py", "dev.log", "train.md"):
        (tmp_path / name).touch()
    assert list(LOADERS[ending](tmp_path)) == ["dev"]


@pytest.mark.parametrize("ending", LOADERS)
def test_another_layout_is_named(tmp_path: Path, ending: str) -> None:
    (tmp_path / "squad" / "data").mkdir(parents=True)
    put(tmp_path / "squad" / "data", "train" + ending)
    (tmp_path / "squad" / "README.md").touch()
    said = rf"must hold train\*{ending}.* where README.md, data stands"
    with pytest.raises(DataError, match=said):
        LOADERS[ending](tmp_path / "squad")


@pytest.mark.parametrize("source", [None, 7, b"train.json", ["a.json"], DatasetDict()])
def test_what_is_no_source_is_named(source: Any) -> None:
    with pytest.raises(DataError, match="load_squad reads a path or a name, and this is a"):
        qp.load_squad(source)


def rows(tmp_path: Path, count: int = 3) -> Dataset:
    loaded = qp.load_squad(put(tmp_path, "source-dev.json"))["dev"]
    return Dataset.from_list([loaded[0] | {"id": str(number)} for number in range(count)])


def test_saved_and_parquet_data_read_as_json_does(tmp_path: Path) -> None:
    data = rows(tmp_path)
    data.save_to_disk(tmp_path / "saved_dev", num_shards=2)
    DatasetDict(train=data, validation=data, test=data).save_to_disk(tmp_path / "saved")
    data.to_parquet(tmp_path / "dev.parquet")
    (tmp_path / "shards").mkdir()
    for number in range(2):
        part = data.select(range(2 * number, min(3, 2 * number + 2)))
        part.to_parquet(tmp_path / "shards" / f"validation-0000{number}-of-00002.parquet")
    with pytest.warns(UserWarning, match="left out test"):
        both = qp.load_squad(tmp_path / "saved", heldout=0)
    assert both["train"].to_list() == data.to_list()
    found = [
        qp.load_squad(tmp_path / name)["dev"] for name in ("saved_dev", "dev.parquet", "shards")
    ]
    assert all(read.to_list() == data.to_list() for read in [*found, both["dev"]])
    state = tmp_path / "saved_dev" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "../dev.arrow"}]}))
    with pytest.raises(DataError, match=r"'\.\./dev\.arrow' is no file of this folder"):
        qp.load_squad(tmp_path / "saved_dev")


def test_columns_of_other_types(tmp_path: Path) -> None:
    """As pandas and annotation tools write them."""
    (row,) = rows(tmp_path, 1).to_list()
    start = float(row["answers"]["answer_start"][0])
    other = {"id": 5.0, "title": 7, "answers": {"text": ["1843"], "answer_start": [start]}}
    file = tmp_path / "numbers-dev.parquet"
    pq.write_table(pa.Table.from_pylist([row | other]), file)
    assert qp.load_squad(file)["dev"].to_list() == [row | {"id": "5", "title": "7"}]
    pq.write_table(pa.Table.from_pylist([row | {"title": b"T"}]), file)
    with pytest.raises(DataError, match="row 0: the title is no text: b'T'"):
        qp.load_squad(file)


UNUSUAL: dict[str, tuple[dict, Any]] = {
    "an integer id": (squad(id=38_001), ["1843"]),
    "no answer, -1": (squad(answers=[{"text": "", "answer_start": -1}], is_impossible=True), []),
    "no answer, -1, unmarked": (squad(answers=[{"text": "", "answer_start": -1}]), []),
    "no answer, 0": (squad(answers=[{"text": "", "answer_start": 0}], is_impossible=True), []),
    "no answers, unmarked": (squad(answers=[]), []),
    "an integral offset": (squad(answers=[{"text": "Ada", "answer_start": 0}]), ["Ada"]),
    "numbers of any type": (
        squad(id=7.0, answers=[{"text": "Ada", "answer_start": 0.0}])
        | {"version": 2.0},
        ["Ada"],
    ),
    "nothing known": ({"data": [{"paragraphs": [{"context": CONTEXT, "qas": [
        {"id": 5, "question": "When?"}]}]}]}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_people_have_is_read(tmp_path: Path, name: str) -> None:
    content, texts = UNUSUAL[name]
    content["data"][0].pop("title", None)
    (row,) = qp.load_squad(write(tmp_path / "test.json", [json.dumps(content)]))["dev"]
    assert isinstance(row["id"], str)
    assert row["title"] == "article 0"
    assert row["answers"] == texts or row["answers"]["text"] == texts


def test_ids_are_still_unique_as_strings(tmp_path: Path) -> None:
    content = squad(id=7)
    asked = content["data"][0]["paragraphs"][0]["qas"]
    asked.append(asked[0] | {"id": "7"})
    with pytest.raises(DataError, match="an earlier question has the same id"):
        qp.load_squad(write(tmp_path / "dev.json", [json.dumps(content)]))


def bomb(size: int = 2**31) -> bytes:
    """So many zero bytes, gzipped twelvefold faster than they could be."""
    part = gzip.compress(bytes(2**24), compresslevel=9)
    return part * (size // 2**24)


def arrow_bomb(path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), ["x" * 2**20])
    numbers = pa.array(map(str, range(300)))
    table = pa.table({"id": numbers, "context": column, "question": column})
    pq.write_table(table, path)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a gzip bomb": lambda path: path.write_bytes(bomb()),
    "one long line": lambda path: os.truncate(path.open("wb").name, 2**31),
    "deep nesting": lambda path: path.write_text("[" * 10**5 + "]" * 10**5),
    "deep objects": lambda path: path.write_text('{"data":' * 10**5),
    "thousands of digits": lambda path: path.write_text('{"example_id": %s}' % ("1" * 5000)),
    "digits in a good file": lambda path: path.write_text(
        json.dumps(squad(answers=[{"text": "a", "answer_start": 0}])).replace(
            "0}", "9" * 4000 + "}"
        )
    ),
    "many faults": lambda path: path.write_text('{"data": [' + "7," * 10**5 + "7]}"),
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "half a surrogate pair": lambda path: path.write_text(
        json.dumps(squad(question="\ud800")), encoding="utf-8"
    ),
    "no text": lambda path: path.write_bytes(bytes(range(256))),
    "an empty file": Path.touch,
    "a dangling link": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("ending", [*LOADERS, ".parquet"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_one_error_in_bounded_time(
    tmp_path: Path, kind: str, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QAPRUNE_MAX_BYTES", str(2**25))
    file = tmp_path / f"dev{ending}"
    HOSTILE[kind](file)
    start = time.process_time()
    tracemalloc.start()
    for source in (file, tmp_path):
        with pytest.raises(QapruneError) as caught:
            list(LOADERS.get(ending, qp.load_squad)(source)["dev"])
        assert len(str(caught.value)) < 1000
    assert tracemalloc.get_traced_memory()[1] < 2**29
    tracemalloc.stop()
    assert time.process_time() - start < 20


def test_the_limit_is_named_and_can_be_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for ending, load in LOADERS.items():
        file = put(tmp_path, f"dev{ending}")
        monkeypatch.setenv("QAPRUNE_MAX_BYTES", "50")
        with pytest.raises(DataError, match=r"more than 50 bytes.*QAPRUNE_MAX_BYTES"):
            list(load(file)["dev"])
        monkeypatch.delenv("QAPRUNE_MAX_BYTES")
        assert len(list(load(file)["dev"])) == 1
    monkeypatch.setenv("QAPRUNE_MAX_BYTES", "much")
    with pytest.raises(SettingsError, match="QAPRUNE_MAX_BYTES='much'"):
        qp.load_squad(tmp_path / "dev.json")
    monkeypatch.setenv("QAPRUNE_MAX_BYTES", str(2**25))
    arrow_bomb(tmp_path / "dev.parquet")
    with pytest.raises(DataError, match=r"dev\.parquet: more than"):
        qp.load_squad(tmp_path / "dev.parquet")


def test_lines_without_end_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "dev.jsonl"
    file.write_bytes(gzip.compress(b"\n" * 10**7))
    with pytest.raises(DataError, match="blank lines"):
        list(qp.load_natural_questions(file)["dev"])
