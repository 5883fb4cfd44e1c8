"""SQuAD metrics against a slow second implementation, written dictionary by dictionary."""

from __future__ import annotations

import math
import random
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.evaluation.predict import evaluate
from qaprune_lib.evaluation.squad import (
    Prediction,
    SquadResult,
    fit_threshold,
    normalize_answer,
    per_question_f1,
    score_predictions,
)
from tests.quick import at_most

Case = tuple[list[str], str, float]  # gold answers, predicted text, null_score - score


# The second implementation: `evaluate-v2.0.py` in other words, one question at a time.


def slow_normalize(text: str) -> str:
    kept = [char for char in text.lower() if char not in string.punctuation]
    words = re.sub(r"\b(a|an|the)\b", " ", "".join(kept)).split()
    return " ".join(words)


def slow_f1(gold: str, predicted: str) -> float:
    gold_words, predicted_words = slow_normalize(gold).split(), slow_normalize(predicted).split()
    if not gold_words or not predicted_words:
        return int(gold_words == predicted_words)
    left, common = list(gold_words), 0
    for word in predicted_words:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0
    precision, recall = common / len(predicted_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)


class Slow:
    """All numbers of the official script for questions 0, 1, 2, …"""

    def __init__(self, cases: list[Case]) -> None:
        self.n = len(cases)
        self.na = {q: case[2] for q, case in enumerate(cases)}
        self.text = {q: case[1] for q, case in enumerate(cases)}
        self.has_answer = {q: bool(case[0]) for q, case in enumerate(cases)}
        self.exact: dict[int, float] = {}
        self.f1: dict[int, float] = {}
        for q, (golds, text, _) in enumerate(cases):
            golds = [gold for gold in golds if slow_normalize(gold)]
            if not golds:
                golds = [""]
            self.exact[q] = max(int(slow_normalize(g) == slow_normalize(text)) for g in golds)
            self.f1[q] = max(slow_f1(g, text) for g in golds)

    def at(self, raw: dict[int, float], threshold: float | None) -> dict[int, float]:
        scores = {}
        for q, score in raw.items():
            if threshold is not None and self.na[q] > threshold:
                scores[q] = float(not self.has_answer[q])
            else:
                scores[q] = score
        return scores

    def best(self, raw: dict[int, float]) -> tuple[float, float]:
        current: float = sum(1 for q in raw if not self.has_answer[q])
        best_score, best_threshold = current, 0.0
        for q in sorted(self.na, key=lambda q: self.na[q]):
            if self.has_answer[q]:
                change = raw[q]
            elif self.text[q]:
                change = -1
            else:
                change = 0
            current += change
            if current > best_score:
                best_score, best_threshold = current, self.na[q]
        return 100.0 * best_score / self.n, best_threshold

    def attainable(self) -> float:
        thresholds = [-math.inf, *self.na.values()]
        return max(100 * sum(self.at(self.f1, t).values()) / self.n for t in thresholds)

    def summary(self, threshold: float | None) -> dict[str, float | None]:
        if all(self.has_answer.values()):
            threshold = None
        exact, f1 = self.at(self.exact, threshold), self.at(self.f1, threshold)
        out: dict[str, float | None] = {}
        for prefix, chosen in (
            ("", list(exact)),
            ("HasAns_", [q for q in exact if self.has_answer[q]]),
            ("NoAns_", [q for q in exact if not self.has_answer[q]]),
        ):
            for name, scores in (("exact", exact), ("f1", f1)):
                total = sum(scores[q] for q in chosen)
                out[prefix + name] = 100 * total / len(chosen) if chosen else None
            out[prefix + "total"] = len(chosen)
        return out


# Cases


def as_dataset(cases: list[Case]) -> Dataset:
    """The two columns that scoring reads; thousands of real data sets would take minutes."""
    ids = [f"q{i}" for i in range(len(cases))]
    answers = [{"text": golds, "answer_start": [0] * len(golds)} for golds, _, _ in cases]
    return cast(Dataset, {"id": ids, "answers": answers})


def as_predictions(cases: list[Case]) -> list[Prediction]:
    return [
        Prediction(f"q{i}", text, 0, len(text), score=0.0, null_score=na)
        for i, (_, text, na) in enumerate(cases)
    ]


PIECES = ["the", "An", "a", "cat", "Cat's", "sat", "!?", "...", "—", "東京", "café", "cafe\u0301"]
PIECES += ["İstanbul", "ﬁn", "١٢", "\u00a0", "\u200d", "🙂", "the-cat", "\n", "שלום", "ß", "_a_"]


def same(value: float | None, expected: float | None) -> bool:
    if value is None or expected is None:
        return value is expected
    return math.isclose(value, expected, rel_tol=1e-12, abs_tol=1e-10)


def check(cases: list[Case], threshold: float, result: SquadResult) -> None:
    slow = Slow(cases)
    for scores, at in ((result.at_zero, 0.0), (result.fitted, threshold), (result.answered, None)):
        assert scores is not None
        expected = slow.summary(at)
        assert scores.model_dump().keys() == expected.keys()
        for name, value in scores:
            assert same(value, expected[name]), (name, at)
    assert (result.best_exact, result.best_exact_threshold) == slow.best(slow.exact)
    assert (result.best_f1, result.best_f1_threshold) == slow.best(slow.f1)
    assert same(result.attainable_f1, slow.attainable())
    assert same(result.attainable_f1, slow.summary(result.attainable_f1_threshold)["f1"])
    assert result.threshold == threshold


@pytest.mark.slow
def test_thousands_of_seeded_cases_agree_with_the_slow_implementation() -> None:
    rng = random.Random(0)

    def text(most: int) -> str:
        return " ".join(rng.choice(PIECES) for _ in range(rng.randint(0, most)))

    for number in range(3000):
        some_without = number % 5 > 0
        cases: list[Case] = []
        for _ in range(rng.randint(1, 12)):
            n_golds = rng.randint(0, 3) if some_without else rng.randint(1, 3)
            golds = [text(3) for _ in range(n_golds)]
            copied = rng.choice(golds) if golds and rng.random() < 0.5 else text(4)
            na = float(rng.randint(-2, 2)) if rng.random() < 0.7 else rng.gauss(0, 2)
            cases.append((golds, copied, na))
        threshold = rng.choice([-1.0, 0.5, 1.0])
        result = score_predictions(as_dataset(cases), as_predictions(cases), threshold=threshold)
        check(cases, threshold, result)


texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=4).map(" ".join), st.text(max_size=8))
na_values = st.one_of(
    st.sampled_from([-1.0, 0.0, -0.0, 1.0, 1.0 + 2**-52, 5e-324]),
    st.floats(-1e30, 1e30),
)
case_lists = st.lists(
    st.tuples(st.lists(texts, max_size=3), texts, na_values), min_size=1, max_size=10
)


@settings(max_examples=at_most(150))
@given(cases=case_lists, threshold=st.floats(-3, 3), order=st.randoms(use_true_random=False))
def test_any_case_agrees_with_the_slow_implementation(
    cases: list[Case], threshold: float, order: random.Random
) -> None:
    columns = as_dataset(cases)
    dataset = Dataset.from_dict({name: columns[name] for name in ("id", "answers")})
    predictions = as_predictions(cases)
    order.shuffle(predictions)
    result = score_predictions(dataset, predictions, threshold=threshold)
    check(cases, threshold, result)
    assert SquadResult.model_validate_json(result.model_dump_json()) == result
    assert result.fitted is not None
    for at, scores in ((threshold, result.fitted), (None, result.answered)):
        f1 = per_question_f1(dataset, predictions, at)
        assert f1.shape == (len(cases),)
        assert f1.mean() == pytest.approx(scores.f1, abs=1e-10)


@settings(max_examples=at_most(300))
@given(cases=case_lists)
def test_fitted_threshold_lies_midway_and_gives_the_attainable_best(cases: list[Case]) -> None:
    threshold = fit_threshold(as_dataset(cases), as_predictions(cases))
    slow = Slow(cases)
    assert math.isfinite(threshold)
    assert slow.summary(threshold)["f1"] == pytest.approx(slow.attainable(), abs=1e-10)
    below = [na for na in slow.na.values() if na <= threshold]
    above = [na for na in slow.na.values() if na > threshold]
    if below and above:
        low, high = max(below), min(above)
        assert abs((threshold - low) - (high - threshold)) <= 2 * np.spacing(
            max(-low, high, 1e-300)
        )


@given(st.one_of(texts, st.text()))
def test_normalization(text: str) -> None:
    assert normalize_answer(text) == slow_normalize(text)


# Single cases whose numbers can be checked by hand


def test_official_best_splits_ties_and_the_attainable_best_does_not() -> None:
    cases: list[Case] = [(["cat"], "cat", 1.0), ([], "dog", 1.0), ([], "dog", 2.0)]
    result = score_predictions(as_dataset(cases), as_predictions(cases))
    assert (result.best_f1, result.best_f1_threshold) == (100.0, 1.0)
    assert result.attainable_f1 == pytest.approx(200 / 3)
    assert result.attainable_f1_threshold == 0.0  # all null: as good as answering the tie
    assert result.at_zero.HasAns_f1 == 0.0
    assert result.at_zero.NoAns_f1 == 100.0
    assert result.answered.NoAns_f1 == 0.0


def test_threshold_is_exclusive() -> None:
    cases: list[Case] = [(["cat"], "cat", 0.0), ([], "dog", 1e-300)]
    assert score_predictions(as_dataset(cases), as_predictions(cases)).at_zero.f1 == 100.0


def test_punctuation_only_gold_counts_as_answerable_and_wants_the_empty_answer() -> None:
    cases: list[Case] = [(["?!"], "the", 1.0), (["?!"], "cat", 0.0), ([], "…", -1.0)]
    result = score_predictions(as_dataset(cases), as_predictions(cases))
    assert (result.answered.HasAns_total, result.answered.NoAns_total) == (2, 1)
    assert result.answered.HasAns_exact == 50.0
    assert result.answered.NoAns_exact == 0.0  # "…" is no ASCII punctuation
    assert result.at_zero.HasAns_exact == 0.0


def test_where_every_question_has_an_answer_null_is_never_predicted() -> None:
    cases: list[Case] = [(["a cat"], "cat", 5.0), (["dog"], "big dog", 9.0)]
    result = score_predictions(as_dataset(cases), as_predictions(cases), threshold=-3.0)
    assert result.at_zero == result.fitted == result.answered
    assert result.f1 == pytest.approx((100 + 200 / 3) / 2)
    assert result.attainable_f1 == result.best_f1 == result.f1
    assert result.answered.NoAns_f1 is None
    assert result.attainable_f1_threshold == 10.0


def test_f1_is_the_fitted_one_where_there_is_one() -> None:
    cases: list[Case] = [(["cat"], "cat", 1.0), ([], "dog", 2.0)]
    dataset, predictions = as_dataset(cases), as_predictions(cases)
    assert score_predictions(dataset, predictions).f1 == 50.0
    assert score_predictions(dataset, predictions, threshold=1.5).f1 == 100.0


@pytest.mark.parametrize(
    ("na", "label", "expected"),
    [([1.0, 2.0], [1, 0], 1.5), ([1.0, 2.0], [1, 1], 3.0), ([1.0, 2.0], [0, 0], 0.0)],
)
def test_fit_threshold_by_hand(na: list[float], label: list[int], expected: float) -> None:
    cases: list[Case] = [
        (["cat"] if has else [], "cat", value) for has, value in zip(label, na, strict=True)
    ]
    assert fit_threshold(as_dataset(cases), as_predictions(cases)) == expected


# Errors

GOOD: list[Case] = [(["cat"], "cat", 0.0), ([], "dog", 1.0)]


def test_unmatched_predictions_are_named() -> None:
    dataset, predictions = as_dataset(GOOD), as_predictions(GOOD)
    with pytest.raises(DataError, match="no prediction for question 'q1'"):
        score_predictions(dataset, predictions[:1])
    with pytest.raises(DataError, match="two predictions for question 'q0'"):
        score_predictions(dataset, [*predictions, predictions[0]])
    extra = Prediction("other", "", 0, 0, 0.0, 0.0)
    with pytest.raises(DataError, match="'other'"):
        score_predictions(dataset, [*predictions, extra])
    doubled = cast(Dataset, {"id": ["q0", "q0"], "answers": dataset["answers"]})
    with pytest.raises(DataError, match="'q0' occurs more than once"):
        score_predictions(doubled, predictions[:1])
    with pytest.raises(DataError, match="empty"):
        score_predictions(cast(Dataset, {"id": [], "answers": []}), [])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_and_thresholds_must_be_finite(bad: float) -> None:
    dataset, predictions = as_dataset(GOOD), as_predictions(GOOD)
    for broken in (
        Prediction("q1", "dog", 0, 3, score=bad, null_score=0.0),
        Prediction("q1", "dog", 0, 3, score=0.0, null_score=bad),
    ):
        with pytest.raises(ModelError, match="'q1'"):
            fit_threshold(dataset, [predictions[0], broken])
    with pytest.raises(SettingsError, match="finite"):
        score_predictions(dataset, predictions, threshold=bad)


# The rest of the module


def test_evaluate_fits_the_threshold_on_the_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    dev: list[Case] = [(["cat"], "cat", 1.0), ([], "dog", 3.0)]
    other: list[Case] = [(["bird"], "bird", 1.0), ([], "dog", 2.0)]
    cases = {"cat": dev, "bird": other}
    seen: list[dict[str, Any]] = []

    def predict(model: Any, dataset: Any, **given: Any) -> list[Prediction]:
        seen.append(given)
        return as_predictions(cases[dataset["answers"][0]["text"][0]])

    monkeypatch.setattr("qaprune_lib.evaluation.predict.predict", predict)
    model: Any = None
    result = evaluate(model, as_dataset(dev), threshold_from=as_dataset(other), progress=False)
    assert (result.threshold, result.f1) == (1.5, 100.0)
    assert result.at_zero.f1 == 50.0
    assert evaluate(model, as_dataset(dev), progress=False).fitted is None
    assert seen == [{"progress": False}] * 3


def test_metrics_import_without_torch() -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'datasets', 'pyarrow'): sys.modules[name] = None\n"
        "import qaprune_lib.evaluation.squad as squad\n"
        "from qaprune_lib.evaluation.squad import Prediction\n"
        "data = {'id': ['x'], 'answers': [{'text': ['cat'], 'answer_start': [0]}]}\n"
        "assert squad.score_predictions(data, [Prediction('x', 'cat', 0, 3, 1.0, 0.0)]).f1 == 100\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=60)


def test_official_dev_set_agrees_with_the_slow_implementation(shared_data: Path) -> None:
    from qaprune_lib.data.squad.questions import load_squad

    dev = load_squad(shared_data / "squad" / "dev-v2.0.json.gz")["dev"]
    dev = dev.select(range(0, len(dev), 8))  # the slow best threshold takes quadratic time
    rng = np.random.default_rng(0)
    cases: list[Case] = []
    for context, answers in zip(dev["context"], dev["answers"], strict=True):
        left = int(rng.integers(len(context)))
        guess = context[left : left + int(rng.integers(40))]
        text = answers["text"][0] if answers["text"] and rng.random() < 0.6 else guess
        cases.append((answers["text"], text, float(rng.normal())))
    predictions = [
        Prediction(question_id, text, 0, len(text), 0.0, na)
        for question_id, (_, text, na) in zip(dev["id"], cases, strict=True)
    ]
    check(cases, 0.25, score_predictions(dev, predictions, threshold=0.25))
