from __future__ import annotations

import copy
import gzip
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaprune_lib.data.natural_questions.example import Annotation, Candidate, Span, tag_name
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.natural_questions.stream import load_natural_questions
from qaprune_lib.data.sources import Fault
from qaprune_lib.errors import DataError, SettingsError
from tests.data.pages import annotation, candidate, original, page, simplified, write

TOKENS, CANDIDATES = page(
    ("P", "Ada wrote the first program in 1843 ."),
    ("Table", "Year Event | 1815 birth | 1852 death"),
    ("Ul", "notes | letters"),
)


def good(identity: int = 7) -> dict[str, Any]:
    answers = [
        annotation(CANDIDATES, 0, [(5, 6), (11, 12)]),
        annotation(CANDIDATES, 3, [(21, 22)]),
        annotation(CANDIDATES, 1, yes_no="YES"),
        annotation(CANDIDATES, 5),
        annotation(CANDIDATES),
    ]
    return copy.deepcopy(simplified(identity, TOKENS, CANDIDATES, answers))


def test_every_kind_of_answer_is_read() -> None:
    example = read_example(json.dumps(good()).encode())
    assert (example.id, example.question, example.tokens) == (7, "who wrote it", TOKENS)
    assert example.candidates[0] == Candidate(4, 14, True)
    assert [c.top_level for c in example.candidates] == [True, True, False, False, False, True] + (
        [False] * 2
    )
    first, second, third, fourth, fifth = example.annotations
    assert first == Annotation(Span(4, 14), (Span(5, 6), Span(11, 12)), "NONE")
    assert TOKENS[slice(*first.short[1])] == ["1843"]
    assert TOKENS[slice(*second.short[0])] == ["birth"]
    assert second.long == example.candidates[3][:2]
    assert third == Annotation(example.candidates[1][:2], (), "YES")
    assert fourth.long == example.candidates[5][:2]
    assert fifth == Annotation(None)


def test_the_original_format_reads_as_the_official_simplification_of_it() -> None:
    text_utils = pytest.importorskip("natural_questions.text_utils")
    raw = good()
    raw["document_text"] = raw["document_text"].replace("<Table>", '<Table_class="a_b">')
    whole = original(raw)
    assert any(" " in token["token"] for token in whole["document_tokens"])
    from_original = read_example(whole)
    html = tuple(n for n, token in enumerate(whole["document_tokens"]) if token["html_token"])
    simple = replace(read_example(raw), html=html)
    assert from_original == simple
    assert read_example(text_utils.simplify_nq_example(copy.deepcopy(whole))) == read_example(raw)
    assert tag_name(from_original.tokens[14]) == "Table"


@pytest.mark.parametrize("token", ["<", ">", "<>", "< P>", "<3>", "<p>", "P", "a<P>", "<P>b", "<P"])
def test_other_tokens_are_no_tags(token: str) -> None:
    assert tag_name(token) is None


@pytest.mark.parametrize(
    ("token", "name"),
    [("<P>", "P"), ("</Table>", "Table"), ('<Td_colspan="2">', "Td"), ("<H1>", "H1")],
)
def test_tags_have_names(token: str, name: str) -> None:
    assert tag_name(token) == name


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of an example: value at a dotted path, or its removal (...)."""

    def edit(raw: dict[str, Any]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        target: Any = raw
        for parent in parents:
            target = target[parent]
        if value is ...:
            del target[last]
        else:
            target[last] = value

    return edit


FAULTS = {
    "no id": (change("example_id", ...), "example_id: Field required"),
    "id is text": (change("example_id", "7"), "example_id: Input should be a valid integer"),
    "no question": (change("question_text", " "), "the question is empty"),
    "no document": (change("document_text", ...), "must have either document_text"),
    "two documents": (change("document_tokens", [{"token": "a"}]), "must have either"),
    "empty document": (change("document_text", ""), "the document is empty"),
    "no candidates": (change("long_answer_candidates", ...), "long_answer_candidates: Field"),
    "candidate outside": (
        change("long_answer_candidates.7.end_token", 99),
        "candidate 7 has the tokens 32 to 99, which is no span of a document of 36",
    ),
    "candidate negative": (change("long_answer_candidates.0.start_token", -1), "candidate 0 has"),
    "candidate empty": (change("long_answer_candidates.0.end_token", 4), "tokens 4 to 4"),
    "candidates overlap": (
        change("long_answer_candidates.0.end_token", 16),
        "overlap, and neither holds the other",
    ),
    "nested top level": (
        change("long_answer_candidates.3.top_level", True),
        "marked top_level but lies inside of the other",
    ),
    "top_level is missing": (change("long_answer_candidates.3.top_level", ...), "top_level"),
    "long answer is no candidate": (
        change("annotations.0.long_answer.end_token", 13),
        "annotation 0: the long answer, tokens 4 to 13, is not the candidate it must be",
    ),
    "long answer is another candidate": (
        change("annotations.0.long_answer.candidate_index", 1),
        r"\(candidate_index 1 of 8\)",
    ),
    "candidate index beyond": (
        change("annotations.0.long_answer.candidate_index", 8),
        "candidate_index 8 of 8",
    ),
    "long answer outside": (
        change("annotations.0.long_answer.end_token", 99),
        "the long answer of annotation 0 has the tokens 4 to 99",
    ),
    "long answer without end": (
        change("annotations.0.long_answer.end_token", -1),
        "tokens 4 to -1",
    ),
    "short answer outside of the document": (
        change("annotations.0.short_answers.0.end_token", 99),
        "short answer 0 has the tokens 5 to 99",
    ),
    "short answer outside of the long one": (
        change("annotations.0.short_answers.1.end_token", 15),
        "is not inside of the long one, tokens 4 to 14",
    ),
    "short answer without a long one": (
        change("annotations.4.short_answers", [{"start_token": 5, "end_token": 6}]),
        "annotation 4 has a short or yes/no answer, but no long answer",
    ),
    "yes without a long answer": (change("annotations.4.yes_no_answer", "YES"), "no long answer"),
    "yes and a short answer": (change("annotations.0.yes_no_answer", "YES"), "both short answers"),
    "perhaps": (change("annotations.0.yes_no_answer", "MAYBE"), "yes_no_answer: Input should be"),
    "half a surrogate": (change("question_text", "\ud800?"), "not JSON"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named_and_dropped(name: str, tmp_path: Path) -> None:
    edit, message = FAULTS[name]
    bad = good(8)
    edit(bad)
    file = write(tmp_path / "dev.jsonl.gz", [good(1), bad, good(2)])
    with pytest.raises(DataError, match=message) as raised:
        list(load_natural_questions(file)["dev"])
    assert f"{file}: line 2" in str(raised.value)
    if name not in ("no id", "id is text", "half a surrogate"):
        assert "example 8" in str(raised.value)
    examples = load_natural_questions(file, on_bad="drop")["dev"]
    with pytest.warns(UserWarning, match="1 bad questions dropped, 2 kept"):
        assert [example.id for example in examples] == [1, 2]
    assert (examples.n_examples, examples.faults.count) == (2, 1)
    assert f"{file}: line 2" in examples.faults.first


@pytest.mark.parametrize("line", ['{"example_id": 3', "nothing", '{"a": 1} {"b": 2}', "[1, 2]"])
def test_bad_lines(line: str, tmp_path: Path) -> None:
    file = write(tmp_path / "dev.jsonl", [good(1), "", line])
    with pytest.raises(DataError, match="line 3: "):
        list(load_natural_questions(file)["dev"])


def test_an_id_may_occur_once(tmp_path: Path) -> None:
    files = [write(tmp_path / f"dev-{n}.jsonl", [good(4)]) for n in range(2)]
    with pytest.raises(DataError, match=r"dev-1\.jsonl: line 1, example 4: an earlier example"):
        list(load_natural_questions(files)["dev"])


@pytest.mark.parametrize("on_bad", ["raise", "drop"])
def test_truncated_and_damaged_gzip_files_always_raise(on_bad: Any, tmp_path: Path) -> None:
    whole = write(tmp_path / "dev.jsonl.gz", [good(n) for n in range(200)])
    content = whole.read_bytes()
    for damaged in (content[:-9], content[: len(content) // 2], content[:40] + b"x" * 99):
        file = tmp_path / "dev-cut.jsonl.gz"
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="truncated or damaged"):
            list(load_natural_questions(file, on_bad=on_bad)["dev"])


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no questions"):
        list(load_natural_questions(write(tmp_path / "train.jsonl", []))["train"])
    with pytest.raises(DataError, match=r"it must hold train\*\.jsonl .*where .* stands"):
        load_natural_questions(tmp_path.parent)
    with pytest.raises(DataError, match="no such file"):
        load_natural_questions(tmp_path / "c.jsonl")
    with pytest.raises(DataError, match="reads a path or a name"):
        load_natural_questions([])
    with pytest.raises(SettingsError, match="on_bad"):
        load_natural_questions(tmp_path, on_bad="keep")  # type: ignore[arg-type]


def test_folders_files_and_shards(tmp_path: Path) -> None:
    write(tmp_path / "nq-train-00.jsonl.gz", [good(1)])
    write(tmp_path / "nq-train-01.jsonl.gz", [good(2), original(good(3))])
    write(tmp_path / "nq-dev-all.jsonl", ["\ufeff" + json.dumps(good(4))])
    splits = load_natural_questions(str(tmp_path))
    assert {name: [e.id for e in split] for name, split in splits.items()} == {
        "train": [1, 2, 3],
        "dev": [4],
    }
    assert [example.id for example in splits["train"]] == [1, 2, 3]  # once more
    shard = load_natural_questions(tmp_path / "nq-train-01.jsonl.gz")
    assert [e.id for e in shard["train"]] == [2, 3]
    assert shard["train"].digest() != splits["train"].digest()
    write(tmp_path / "dev-other.jsonl", [good(5)])
    with pytest.raises(DataError, match="more than one dev set: dev-other"):
        load_natural_questions(tmp_path)


def test_rows_on_disk_say_what_was_read(tmp_path: Path) -> None:
    file = write(tmp_path / "dev.jsonl", [good(1), simplified(2, TOKENS, CANDIDATES, [])])
    examples = load_natural_questions(file)["dev"]
    rows = examples.dataset(tmp_path)
    assert rows["id"][:] == [1, 2]
    first = next(iter(examples))
    assert rows[0]["text"] == first.text
    assert [Candidate(**c) for c in rows[0]["candidates"]] == list(first.candidates)
    kept = [
        Annotation(
            Span(**row["long"]) if row["long"] else None,
            tuple(Span(**span) for span in row["short"]),
            row["yes_no"],
        )
        for row in rows[0]["annotations"]
    ]
    assert kept == list(first.annotations)
    assert rows[1]["annotations"] == []
    again = load_natural_questions(file)["dev"].dataset(tmp_path)
    assert again.cache_files == rows.cache_files


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    raw = good()
    raw["document_text"] += " word" * 20_000
    file = tmp_path / "train.jsonl.gz"
    with gzip.open(file, "wt", compresslevel=1) as out:
        for number in range(200):  # 20 MB
            out.write(json.dumps(raw | {"example_id": number}) + "\n")
    tracemalloc.start()
    assert sum(1 for _ in load_natural_questions(file)["train"]) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def hub_row(raw: dict[str, Any]) -> dict[str, Any]:
    """An example in the schema of the Hub's natural_questions."""

    def columns(rows: list[dict[str, Any]], *names: str) -> dict[str, list[Any]]:
        return {name: [row[name] for row in rows] for name in names}

    whole = original(raw)
    tokens = [token | {"is_html": token["html_token"]} for token in whole["document_tokens"]]
    codes = {"NONE": -1, "NO": 0, "YES": 1}
    return {
        "id": str(raw["example_id"]),
        "document": {
            "title": "A page",
            "tokens": columns(tokens, "token", "is_html", "start_byte", "end_byte"),
        },
        "question": {"text": raw["question_text"], "tokens": raw["question_text"].split()},
        "long_answer_candidates": columns(
            raw["long_answer_candidates"], "start_token", "end_token", "top_level"
        ),
        "annotations": {
            "id": ["1"] * len(raw["annotations"]),
            "long_answer": [a["long_answer"] for a in raw["annotations"]],
            "short_answers": [
                columns(a["short_answers"], "start_token", "end_token") for a in raw["annotations"]
            ],
            "yes_no_answer": [codes[a["yes_no_answer"]] for a in raw["annotations"]],
        },
    }


def test_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [hub_row(good(1)), hub_row(good(-2))]

    def load_dataset(source: str, *, revision: str, streaming: bool) -> dict[str, Any]:
        assert (source, revision, streaming) == ("natural_questions", "abc", True)
        return {"validation": datasets.IterableDataset.from_generator(lambda: iter(rows))}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "dataset_info", lambda *_: SimpleNamespace(sha="abc")
    )
    (split,) = load_natural_questions("natural_questions").items()
    assert split[0] == "dev"
    assert list(split[1]) == [read_example(original(good(1))), read_example(original(good(-2)))]
    del rows[1]["question"]["text"]
    with pytest.raises(DataError, match="validation: row 1: not in the schema"):
        list(load_natural_questions("natural_questions")["dev"])


def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", fail)
    with pytest.raises(DataError, match=r"no route.*download the files"):
        load_natural_questions("google-research-datasets/natural_questions")


spans = st.tuples(st.integers(0, 12), st.integers(1, 6)).map(lambda s: (s[0], s[0] + s[1]))


@given(st.lists(st.tuples(spans, st.booleans()), max_size=6))
def test_nesting_agrees_with_all_pairs(drawn: list[tuple[tuple[int, int], bool]]) -> None:
    candidates = [candidate(a, b, top_level=top) for (a, b), top in drawn]
    wrong = False
    for i, ((a, b), top) in enumerate(drawn):
        for (c, d), other in drawn[i + 1 :]:
            apart = b <= c or d <= a
            first_holds, second_holds = a <= c and d <= b, c <= a and b <= d
            fits = (first_holds and not other) or (second_holds and not top)
            wrong |= not (apart or fits)
    raw = simplified(1, ["w"] * 18, candidates, [])
    if wrong:
        with pytest.raises(Fault):
            read_example(raw)
    else:
        assert len(read_example(raw).candidates) == len(drawn)


def test_the_real_files_are_good(shared_data: Path) -> None:
    examples = load_natural_questions(shared_data / "nq" / "dev-real-questions.jsonl.gz")["dev"]
    answered = sum(any(a.long for a in example.annotations) for example in examples)
    assert (examples.n_examples, examples.faults.count) == (1354, 0)
    assert examples.n_examples - answered == 394
    with pytest.raises(DataError, match="more than one dev set"):
        load_natural_questions(shared_data / "nq")


@pytest.mark.slow
def test_samples_are_drawn_by_id_and_seed(tmp_path: Path) -> None:
    tokens, candidates = page(("P", "a b c"))
    rows = [simplified(n - 200, tokens, candidates, [annotation(candidates)]) for n in range(2000)]
    (whole,) = load_natural_questions(write(tmp_path / "train.jsonl", rows)).values()

    def ids(examples: Any) -> set[int]:
        found = [example.id for example in examples]
        assert found == sorted(found)
        assert examples.n_examples == len(found)
        return set(found)

    small, large = ids(whole.sample(0.2)), ids(whole.sample(0.5))
    assert abs(len(small) - 400) < 4 * (2000 * 0.2 * 0.8) ** 0.5
    assert small < large
    # a fifth of the half, not what both draws alone would keep
    assert small == ids(whole.sample(0.2)) == ids(whole.sample(0.5).sample(0.4))
    assert small != ids(whole.sample(0.2, seed=1))
    across = ids(whole.sample(0.5, seed=1).sample(0.5))
    assert across == ids(whole.sample(0.5)) & ids(whole.sample(0.5, seed=1))
    assert ids(whole.sample(1.0)) == ids(whole)
    assert whole.sample(0.2).n_examples == whole.sample(0.5).sample(0.4).n_examples == len(small)
    write(tmp_path / "half.jsonl", reversed(rows[::2]))
    half = load_natural_questions(tmp_path / "half.jsonl", split="train")["train"]
    assert {example.id for example in half.sample(0.2)} == {n for n in small if n % 2 == 0}
    digests = {whole.digest(), whole.sample(0.2).digest(), whole.sample(0.2, seed=1).digest()}
    assert len(digests) == 3
    assert len(whole.sample(0.2).dataset(tmp_path)) == len(small)
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="share"):
            whole.sample(share)
    with pytest.raises(DataError, match="none of the 2000 examples is drawn"):
        list(whole.sample(1e-9))
