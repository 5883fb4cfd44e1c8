from __future__ import annotations

import copy
import gzip
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.data.squad import questions
from qaprune_lib.data.squad.questions import data_digest, load_squad
from qaprune_lib.errors import DataError, SettingsError
from tests.quick import at_most

CONTEXT = "Zürich lies at the lake. The 塔 was built in 1880 by Ada Berg."


def question(identity: str, text: str | None, **fields: Any) -> dict[str, Any]:
    answers = [] if text is None else [{"text": text, "answer_start": CONTEXT.index(text)}]
    return {
        "id": identity,
        "question": f"What about {identity}?",
        "answers": answers,
        "is_impossible": text is None,
        **fields,
    }


def squad(n_articles: int = 3) -> dict[str, Any]:
    return {
        "version": "v2.0",
        "data": [
            {
                "title": f"Article {number}",
                "paragraphs": [
                    {
                        "context": CONTEXT,
                        "qas": [
                            question(f"{number}a", "Zürich"),
                            question(f"{number}b", None, plausible_answers=[{"text": "junk"}]),
                            question(f"{number}c", "塔 was"),
                        ],
                    }
                ],
            }
            for number in range(n_articles)
        ],
    }


def write(path: Path, content: Any) -> Path:
    text = json.dumps(content, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def ids(dataset: Dataset) -> list[str]:
    return list(dataset["id"])


@pytest.mark.parametrize("name", ["train.json", "train-v2.0.json.gz"])
def test_rows_are_the_files_questions_in_order(tmp_path: Path, name: str) -> None:
    splits = load_squad(write(tmp_path / name, squad()), heldout=0)
    assert list(splits) == ["train"]
    rows = splits["train"]
    assert rows.column_names == ["id", "title", "context", "question", "answers"]
    assert ids(rows) == ["0a", "0b", "0c", "1a", "1b", "1c", "2a", "2b", "2c"]
    assert rows[2] == {
        "id": "0c",
        "title": "Article 0",
        "context": CONTEXT,
        "question": "What about 0c?",
        "answers": {"text": ["塔 was"], "answer_start": [CONTEXT.index("塔")]},
    }
    assert rows[1]["answers"] == {"text": [], "answer_start": []}
    assert "0 bad questions" in rows.info.description


@pytest.mark.parametrize("name", ["dev-v2.0.json", "test.json", "Validation.json.gz"])
def test_a_single_file_is_dev_by_its_name(tmp_path: Path, name: str) -> None:
    assert list(load_squad(write(tmp_path / name, squad()))) == ["dev"]


def test_several_reference_answers_are_kept(tmp_path: Path) -> None:
    content = squad(1)
    answers = content["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    answers += [{"text": "Zürich lies", "answer_start": 0}, {"text": "Zürich", "answer_start": 0}]
    row = load_squad(write(tmp_path / "dev.json", content))["dev"][0]
    assert row["answers"]["text"] == ["Zürich", "Zürich lies", "Zürich"]


@given(n_articles=st.integers(2, 30), heldout=st.floats(0.01, 0.7), seed=st.integers(0, 3))
@settings(max_examples=at_most(15))
def test_heldout_takes_whole_articles_by_seed(
    tmp_path_factory: pytest.TempPathFactory, n_articles: int, heldout: float, seed: int
) -> None:
    file = write(tmp_path_factory.mktemp("squad") / "train.json", squad(n_articles))
    nearest = max(1, round(heldout * n_articles)) / n_articles
    tolerance = max(heldout / 2, 1 / (3 * n_articles))
    if n_articles == 1 or abs(nearest - heldout) > tolerance:
        with pytest.raises(DataError, match="heldout_by='paragraph'"):
            load_squad(file, heldout=heldout, seed=seed)
        return
    splits = load_squad(file, heldout=heldout, seed=seed)
    share = len(splits["heldout"]) / (3 * n_articles)
    assert abs(share - heldout) <= tolerance
    titles = {name: set(split["title"]) for name, split in splits.items()}
    assert not titles["train"] & titles["heldout"]
    assert len(titles["heldout"]) == max(1, round(heldout * n_articles))
    assert sorted(ids(splits["train"]) + ids(splits["heldout"])) == sorted(
        ids(load_squad(file, heldout=0)["train"])
    )
    again = load_squad(file, heldout=heldout, seed=seed)
    assert ids(again["heldout"]) == ids(splits["heldout"])


def test_another_seed_holds_out_other_articles(tmp_path: Path) -> None:
    file = write(tmp_path / "train.json", squad(30))
    drawn = {tuple(ids(load_squad(file, seed=seed)["heldout"])) for seed in range(4)}
    assert len(drawn) > 1


def test_one_article_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be split.*heldout_by='paragraph'.*heldout=0"):
        load_squad(write(tmp_path / "train.json", squad(1)))


def test_folder_of_both_versions_needs_version(tmp_path: Path) -> None:
    old = squad()
    old["version"] = "1.1"
    for article in old["data"]:
        del article["paragraphs"][0]["qas"][1]
        for entry in article["paragraphs"][0]["qas"]:
            del entry["is_impossible"]
    for split in ("train", "dev"):
        write(tmp_path / f"{split}-v1.1.json", old)
        write(tmp_path / f"{split}-v2.0.json.gz", squad())
    with pytest.raises(DataError, match=r"train-v1\.1\.json, train-v2\.0\.json\.gz.*version="):
        load_squad(tmp_path)
    assert len(load_squad(tmp_path, version="1.1", heldout=0.3)["dev"]) == 6
    new = load_squad(str(tmp_path), version="2.0", heldout=0.3)
    assert sorted(new) == ["dev", "heldout", "train"]
    assert len(new["dev"]) == 9
    with pytest.raises(DataError, match=r"its version is 1\.1, not the 2\.0 asked for"):
        load_squad(tmp_path / "dev-v1.1.json", version="2.0")


def test_version_1_1_has_no_unanswerable_questions(tmp_path: Path) -> None:
    content = squad() | {"version": None}
    file = write(tmp_path / "dev.json", content)
    with pytest.raises(DataError, match=r"'0b'.*1\.1"):
        load_squad(file, version="1.1")


# Faults of one question: how it is made, and what the error must say.
Edit = Callable[[dict[str, Any]], None]


def edit_question(**fields: Any) -> Edit:
    return lambda paragraph: paragraph["qas"][2].update(fields)


QUESTION_FAULTS: dict[str, tuple[Edit, str]] = {
    "answer elsewhere": (
        edit_question(answers=[{"text": "1880", "answer_start": 3}]),
        "'1880' is not at offset 3, where 'ich ' stands",
    ),
    "second answer elsewhere": (
        edit_question(
            answers=[{"text": "1880", "answer_start": 44}, {"text": "Ada", "answer_start": 0}]
        ),
        "'Ada' is not at offset 0, where 'Zür' stands",
    ),
    "negative offset": (
        edit_question(answers=[{"text": "Berg.", "answer_start": -5}]),
        "'Berg.' is said to start at -5, outside of the context of 61 characters",
    ),
    "offset behind the end": (
        edit_question(answers=[{"text": "Berg", "answer_start": 10**30}]),
        f"start at {10**30}, outside",
    ),
    "empty answer": (edit_question(answers=[{"text": "", "answer_start": 2}]), "answer is empty"),
    "duplicate id": (edit_question(id="1a"), "an earlier question has the same id"),
    "empty id": (edit_question(id=""), "the id is empty"),
    "empty question": (edit_question(question=" \n"), "question is empty: ' \\n'"),
    "impossible with answers": (
        edit_question(is_impossible=True),
        "is_impossible is true, but an answer stands there: '塔 was'",
    ),
    "answerable without answers": (edit_question(answers=[]), "it has no answers"),
    "offset as text": (
        edit_question(answers=[{"text": "1880", "answer_start": "45"}]),
        "answers[0].answer_start: Input should be a valid integer, where '45' stands",
    ),
    "no answers field": (
        lambda paragraph: paragraph["qas"][2].pop("answers"),
        "answers: missing, where other questions have them",
    ),
    "no id": (lambda paragraph: paragraph["qas"][2].pop("id"), "number 2 of its paragraph: id"),
    "not an object": (
        lambda paragraph: paragraph["qas"].__setitem__(2, 7),
        "number 2 of its paragraph: the top level",
    ),
    "lone surrogate": (
        edit_question(question="\ud800?"),
        "surrogates not allowed, where '\\ud800?' stands",
    ),
}


@pytest.mark.parametrize("fault", QUESTION_FAULTS)
def test_a_bad_question_is_named_or_dropped(tmp_path: Path, fault: str) -> None:
    edit, says = QUESTION_FAULTS[fault]
    content = squad()
    edit(content["data"][1]["paragraphs"][0])
    file = tmp_path / "train.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError) as error:
        load_squad(file)
    message = str(error.value)
    assert message.startswith(f"{file}: article 'Article 1', question ")
    assert says in message
    assert "on_bad='drop'" in message
    if "number" not in says and "id" not in fault:
        assert "question '1c'" in message

    with pytest.warns(UserWarning, match="1 bad questions dropped, 8 kept; the first: .*Article 1"):
        rows = load_squad(file, heldout=0, on_bad="drop")["train"]
    assert len(rows) == 8
    assert "1 bad questions dropped" in rows.info.description


def test_questions_on_an_empty_context_are_bad(tmp_path: Path) -> None:
    content = squad()
    content["data"][1]["paragraphs"][0]["context"] = " "
    file = write(tmp_path / "dev.json", content)
    with pytest.raises(DataError, match=r"'Article 1', question '1a': the context is empty: ' '"):
        load_squad(file)
    with pytest.warns(UserWarning, match="3 bad questions dropped, 6 kept"):
        assert len(load_squad(file, on_bad="drop")["dev"]) == 6


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    content = squad(1)
    content["data"][0]["paragraphs"][0]["context"] = ""
    with pytest.raises(DataError, match=r"3 bad questions dropped, 0 kept.*context is empty"):
        load_squad(write(tmp_path / "dev.json", content), on_bad="drop")
    with pytest.raises(DataError, match="there are no questions"):
        load_squad(write(tmp_path / "dev.json", {"data": []}))


@pytest.mark.parametrize("on_bad", ["raise", "drop"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not JSON: line 1, column 1"),
        (
            b'{"data": [\n  {"title": }]}',
            "not JSON: line 2, column 13: Expecting value, where '}]}'",
        ),
        (gzip.compress(json.dumps(squad()).encode())[:-40], "gzip file is truncated or damaged"),
        (b"\x1f\x8bnot gzip at all", "truncated or damaged"),
        (b'{"data": "\xff\xfe"}', "not UTF-8 text: byte 10"),
        (b"[1, 2]", "the top level: Input should be"),
        (b"{}", "data: Field required, where {} stands"),
        (b'{"data": {"title": 3}}', "data: Input should be a valid list"),
        (b'{"data": [5]}', "data[0]: Input should be"),
        (
            b'{"data": [{"title": "T", "paragraphs": [{"qas": []}]}]}',
            "article 'T': data[0].paragraphs[0].context: Field required",
        ),
        (
            b'{"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": 1}]}]}',
            "article 'T': data[0].paragraphs[0].qas: Input should be a valid list, where 1 stands",
        ),
    ],
)
def test_a_bad_file_always_raises(tmp_path: Path, content: bytes, says: str, on_bad: Any) -> None:
    file = tmp_path / "dev.json"
    file.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_squad(file, on_bad=on_bad)
    assert str(error.value).startswith(f"{file}: ")
    assert says in str(error.value)


def test_missing_files_are_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in (tmp_path / "squad", "data/squda", "./squad", "train.json", "a/b/c", "x.json.gz"):
        with pytest.raises(DataError, match=r"no such file or folder.*download"):
            load_squad(source)
    with pytest.raises(DataError, match=r"must hold train\*\.json .*where nothing stands"):
        load_squad(tmp_path / "data")


def test_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"(?s)'nobody/squad_v2'.*Hub.*download.*pass their folder"):
        load_squad("nobody/squad_v2")


def test_hub_rows_pass_the_same_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = load_squad(write(tmp_path / "dev.json", squad(20)))["dev"]
    hub = DatasetDict({"train": rows, "validation": rows.select(range(3))})
    monkeypatch.setattr(datasets, "load_dataset", lambda source: hub)
    splits = load_squad("rajpurkar/squad_v2")
    assert sorted(splits) == ["dev", "heldout", "train"]
    assert data_digest(splits["dev"]) == data_digest(rows.select(range(3)))

    def misplace(row: dict[str, Any]) -> dict[str, Any]:
        starts = [start + 1 for start in row["answers"]["answer_start"]]
        return {"answers": {**row["answers"], "answer_start": starts}}

    hub["validation"] = rows.select(range(3)).map(misplace)
    with pytest.raises(DataError, match=r"squad_v2 validation: article 'Article 0', question '0a'"):
        load_squad("rajpurkar/squad_v2")
    hub["validation"] = rows.remove_columns("context")
    with pytest.raises(DataError, match="it has no column context"):
        load_squad("rajpurkar/squad_v2")
    monkeypatch.setattr(datasets, "load_dataset", lambda source: DatasetDict({"all": rows}))
    with pytest.raises(DataError, match="neither a train nor a validation split"):
        load_squad("rajpurkar/squad_v2")


@pytest.mark.parametrize(
    "arguments",
    [
        {"heldout": 1.0},
        {"heldout": -0.1},
        {"heldout": float("nan")},
        {"version": "3"},
        {"on_bad": "x"},
    ],
)
def test_settings_without_meaning_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(arguments))):
        load_squad("nowhere", **arguments)


def test_embedded_corpus_passes_the_checks() -> None:
    splits = load_squad("embedded")
    assert sorted(splits) == ["dev", "heldout", "train"]
    assert not set(splits["train"]["title"]) & set(splits["heldout"]["title"])


def test_digest_is_of_content_not_of_layout(tmp_path: Path) -> None:
    rows = load_squad(write(tmp_path / "dev.json", squad()))["dev"]
    digest = data_digest(rows)
    pieces = [rows.select([index]) for index in range(len(rows))]
    rows.save_to_disk(tmp_path / "saved")
    same = [
        concatenate_datasets(pieces),
        rows.select(range(8, -1, -1)).select(range(8, -1, -1)),
        Dataset.load_from_disk(tmp_path / "saved"),
        Dataset.from_list(rows.to_list()),
        rows.with_format("numpy"),
        rows.add_column("extra", range(9)),
    ]
    assert {data_digest(other) for other in same} == {digest}
    assert data_digest(rows.select(range(8))) != digest
    assert data_digest(rows.select([1, 0, *range(2, 9)])) != digest


def test_digest_is_that_of_rows_as_json_and_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = load_squad(write(tmp_path / "dev.json", squad()))["dev"]
    expected = hashlib.sha256()
    for row in rows:
        values = [row["id"], row["context"], row["question"], *row["answers"].values()]
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":")) + "\n"
        expected.update(line.encode())
    assert data_digest(rows) == expected.hexdigest()
    monkeypatch.setattr(questions, "batches", lambda _: pytest.fail("read again"))
    assert data_digest(rows) == expected.hexdigest()


@pytest.mark.parametrize("column", ["id", "context", "question", "answers"])
def test_digest_sees_every_column(tmp_path: Path, column: str) -> None:
    rows = load_squad(write(tmp_path / "dev.json", squad()))["dev"].to_list()
    changed = copy.deepcopy(rows)
    if column == "answers":
        changed[0]["answers"] = {"text": ["lies"], "answer_start": [7]}
    else:
        changed[0][column] += "x"
    assert data_digest(Dataset.from_list(changed)) != data_digest(Dataset.from_list(rows))


@pytest.mark.parametrize(
    ("name", "n_questions", "n_impossible"),
    [("dev-v2.0", 11_873, 5_945), ("dev-v1.1", 10_570, 0), ("train-v2.0", 130_075, 42_961)],
)
def test_real_files_are_read_whole_and_quickly(
    shared_data: Path, name: str, n_questions: int, n_impossible: int
) -> None:
    start = time.process_time()
    rows = next(iter(load_squad(shared_data / "squad" / f"{name}.json.gz", heldout=0).values()))
    assert time.process_time() - start < 15
    assert len(rows) == n_questions
    assert sum(not answers["text"] for answers in rows["answers"][:]) == n_impossible
