from __future__ import annotations

import copy
import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.data.natural_questions.example import Example, Span
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.natural_questions.stream import load_natural_questions
from qaprune_lib.errors import DataError, ModelError
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    score_natural_questions,
    word_overlap,
    write_predictions,
)
from tests.data.pages import annotation, page, simplified
from tests.quick import at_most

pytest.importorskip("natural_questions", reason="the extra nq is not installed")
from natural_questions import eval_utils, nq_eval

TOKENS, CANDIDATES = page(
    ("P", "Ada wrote it in 1843 ."), ("Table", "Year Event | 1815 birth"), ("P", "so they say")
)
ANSWERS: list[tuple[int | None, list[tuple[int, int]], str]] = [
    (None, [], "NONE"),
    (0, [(5, 6)], "NONE"),
    (0, [(5, 6), (9, 10)], "NONE"),
    (0, [], "NONE"),
    (0, [], "YES"),
    (1, [], "NO"),
    (1, [(18, 19)], "NONE"),
    (3, [(18, 19)], "NONE"),
    (4, [], "NONE"),
]


def example(identity: int, *answers: int) -> Example:
    """Annotated with these of ANSWERS."""
    annotations = [annotation(CANDIDATES, *ANSWERS[answer]) for answer in answers]
    return read_example(simplified(identity, TOKENS, CANDIDATES, annotations))


def predict(identity: int, answer: int, score: float = 1.0) -> NaturalQuestionsPrediction:
    long, short, yes_no = ANSWERS[answer]
    span = None if long is None else read_example(raw(0)).candidates[long][:2]
    return NaturalQuestionsPrediction(
        identity,
        span and Span(*span),
        score,
        tuple(Span(*pair) for pair in short),
        yes_no,  # type: ignore[arg-type]
        score / 2,
    )


def raw(identity: int, *answers: int) -> dict[str, Any]:
    annotations = [annotation(CANDIDATES, *ANSWERS[answer]) for answer in answers]
    return simplified(identity, TOKENS, CANDIDATES, annotations)


def official(
    folder: Path, rows: list[dict[str, Any]], predictions: list[NaturalQuestionsPrediction]
) -> dict[str, float]:
    """The evaluator's own way, from files; its readers, without its ten processes."""
    gold = folder / "gold.jsonl.gz"
    with gzip.open(gold, "wt") as file:
        for number, row in enumerate(rows):
            row = copy.deepcopy(row)
            if number % 2:  # with byte offsets, which the predictions do not have
                for answer in row["annotations"]:
                    for span in (answer["long_answer"], *answer["short_answers"]):
                        if span["start_token"] >= 0:
                            span["start_byte"] = 7 * span["start_token"]
                            span["end_byte"] = 7 * span["end_token"]
            file.write(json.dumps(row) + "\n")
    write_predictions(folder / "predictions.json", predictions)
    return nq_eval.get_metrics_with_answer_stats(
        *nq_eval.score_answers(
            eval_utils.read_annotation_from_one_split(str(gold)),
            eval_utils.read_prediction_json(str(folder / "predictions.json")),
        )
    )


rounds = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(ANSWERS) - 1), min_size=5, max_size=5),
        st.integers(0, len(ANSWERS) - 1),
        st.sampled_from([-1.5, 0.0, 0.25, 2.0, 3.0]),
    ),
    min_size=1,
    max_size=12,
)


@given(rounds)
@settings(max_examples=at_most(40))
def test_scores_are_those_of_the_official_files(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[list[int], int, float]]
) -> None:
    rows = [raw(n, *answers) for n, (answers, _, _) in enumerate(drawn)]
    predictions = [predict(n, answer, score) for n, (_, answer, score) in enumerate(drawn)]
    result = score_natural_questions(map(read_example, rows), predictions)
    wanted = official(tmp_path_factory.mktemp("nq"), rows, predictions)
    for name, scores in (("long", result.long), ("short", result.short)):
        assert scores.f1 == 100 * wanted[f"{name}-best-threshold-f1"]
        assert scores.precision == 100 * wanted[f"{name}-best-threshold-precision"]
        assert scores.recall == 100 * wanted[f"{name}-best-threshold-recall"]
        assert scores.threshold == wanted[f"{name}-best-threshold"]
        assert scores.recall_at_50 == 100 * wanted[f"{name}-recall-at-precision>=0.5"]
        assert scores.recall_at_75 == 100 * wanted[f"{name}-recall-at-precision>=0.75"]
        assert scores.recall_at_90 == 100 * wanted[f"{name}-recall-at-precision>=0.9"]
    assert result.n_examples == len(drawn)


def test_a_perfect_oracle_and_an_always_null_model() -> None:
    annotations = [(2, 2, 0, 0, 0), (4, 4, 4, 4, 0), (0,) * 5, (3, 3, 3, 0, 0), (7, 7, 7, 6, 6)]
    examples = [example(n, *answers) for n, answers in enumerate(annotations)]
    perfect = [predict(n, Counter(a).most_common(1)[0][0]) for n, a in enumerate(annotations)]
    perfect[0] = predict(0, 2)
    result = score_natural_questions(examples, perfect)
    for scores, n_gold in ((result.long, 4), (result.short, 3)):
        assert (scores.f1, scores.precision, scores.recall, scores.f1_of_all) == (100,) * 4
        assert scores.recall_at_90 == 100
        assert scores.n_gold == n_gold
    null = score_natural_questions(examples, [predict(n, 0) for n in range(5)])
    for scores in (null.long, null.short):
        assert (scores.f1, scores.precision, scores.recall, scores.recall_at_50) == (0,) * 4


def test_two_of_five_annotators_make_an_answer_and_one_does_not() -> None:
    predictions = [predict(0, 1)]
    one = score_natural_questions([example(0, 1, 0, 0, 0, 0)], predictions)
    assert (one.long.n_gold, one.short.n_gold, one.long.f1, one.short.f1) == (0, 0, 0, 0)
    two = score_natural_questions([example(0, 1, 0, 0, 0, 6)], predictions)
    assert (two.long.n_gold, two.short.n_gold, two.long.f1, two.short.f1) == (1, 1, 100, 100)
    # Two long answers, one of them with a short one: the short one does not count.
    apart = score_natural_questions([example(0, 1, 3, 0, 0, 0)], predictions)
    assert (apart.long.f1, apart.short.n_gold, apart.short.f1) == (100, 0, 0)


def test_a_threshold_by_arithmetic() -> None:
    examples = [example(n, *[answer] * 5) for n, answer in enumerate([1, 1, 1, 0])]
    predictions = [predict(0, 1, 4), predict(1, 6, 3), predict(2, 1, 2), predict(3, 1, 1)]
    long = score_natural_questions(examples, predictions).long
    # Down to score 2: 2 of 3 right, 2 of 3 found.
    assert long.threshold == 2
    assert long.f1 == pytest.approx(100 * 2 / 3)
    assert long.f1_of_all == pytest.approx(100 * 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert long.recall_at_50 == pytest.approx(100 * 2 / 3)
    assert long.recall_at_75 == long.recall_at_90 == pytest.approx(100 / 3)


def test_what_cannot_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there are no examples"):
        score_natural_questions([], [])
    with pytest.raises(DataError, match="order of the examples"):
        score_natural_questions([example(0, 1, 1)], [predict(1, 1)])
    for n_examples, n_predictions in ((2, 1), (1, 2)):
        with pytest.raises(DataError, match="one prediction for each example"):
            score_natural_questions(
                [example(n, 1, 1) for n in range(n_examples)],
                [predict(n, 1) for n in range(n_predictions)],
            )
    with pytest.raises(DataError, match="example 0 has no annotations"):
        score_natural_questions([example(0)], [predict(0, 1)])
    with pytest.raises(DataError, match="one annotation each"):
        score_natural_questions([example(0, 1)], [predict(0, 1)])
    with pytest.raises(ModelError, match="not finite"):
        score_natural_questions([example(0, 1, 1)], [predict(0, 1, float("nan"))])

    monkeypatch.setitem(sys.modules, "natural_questions.nq_eval", None)
    with pytest.raises(ModelError, match=r"pip install 'qaprune\[nq\]'"):
        score_natural_questions([example(0, 1, 1)], [predict(0, 1)])


def test_official_predictions(tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    write_predictions(path, [predict(3, 2), predict(4, 0), predict(5, 4)])
    first, null, yes = json.loads(path.read_text())["predictions"]
    absent = {"start_token": -1, "end_token": -1, "start_byte": -1, "end_byte": -1}
    assert first == {
        "example_id": 3,
        "long_answer": absent | {"start_token": 4, "end_token": 12},
        "long_answer_score": 1.0,
        "short_answers": [
            absent | {"start_token": 5, "end_token": 6},
            absent | {"start_token": 9, "end_token": 10},
        ],
        "short_answers_score": 0.5,
        "yes_no_answer": "NONE",
    }
    assert (null["long_answer"], null["short_answers"]) == (absent, [])
    assert (yes["short_answers"], yes["yes_no_answer"]) == ([], "YES")
    write_predictions(path, [])
    assert json.loads(path.read_text()) == {"predictions": []}
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.json"]


def test_word_overlap_takes_the_first_of_the_best_top_level_candidates() -> None:
    tokens, candidates = page(
        ("Table", "the tower | who built the Tower"), ("P", "who , who"), ("P", "the TOWER who")
    )
    source = simplified(1, tokens, candidates, [], question="who is the tower")
    found = word_overlap(read_example(source))
    assert found.long == Span(4, tokens.index("</Table>") + 1)
    assert (found.long_score, found.short, found.yes_no) == (0.75, (), "NONE")
    assert word_overlap(read_example(source | {"long_answer_candidates": []})).long is None


@pytest.mark.parametrize(("name", "share"), [("dev", 81), ("dev-real-questions", 51)])
def test_word_overlap_finds_what_the_data_sheet_says(
    name: str, share: int, shared_data: Path
) -> None:
    (examples,) = load_natural_questions(shared_data / "nq" / f"{name}.jsonl.gz").values()
    result = score_natural_questions(examples, map(word_overlap, examples))
    # An answer everywhere: all that can be found is found, and the recall is the sheet's share.
    n_found = result.long.f1_of_all / 200 * (result.n_examples + result.long.n_gold)
    assert round(100 * n_found / result.long.n_gold) == share
