"""From model to answers and scores: as they come, whatever the batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import ModelError
from qaprune_lib.evaluation import decode, logits
from qaprune_lib.evaluation.decode import decode_natural_questions
from qaprune_lib.evaluation.natural_questions import score_natural_questions
from qaprune_lib.evaluation.predict import evaluate_natural_questions, predict_natural_questions
from qaprune_lib.evaluation.timing import time_decoding
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.pruning import prune
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import small_bert
from tests.training.toy_pages import SIZES, single_pages, small_reader, toy_natural_questions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> NaturalQuestions:
    return toy_natural_questions(tmp_path_factory.mktemp("nq"), 15)


def literally(model: QuestionAnsweringModel, examples: NaturalQuestions) -> list[Any]:
    """Window by window, each by itself."""
    features = make_features(examples, model.tokenizer, **SIZES)
    rows = []
    for inputs, _ in single_pages(model, features):
        with torch.no_grad():
            output = model(**inputs)
        rows.append([output[name][0].numpy() for name in model.task_head.logits])
    return list(decode_natural_questions(examples, features, rows))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_predictions_are_those_of_single_windows(
    architecture: str,
    pruned: bool,
    chunk: int,
    examples: NaturalQuestions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model(architecture, task="natural_questions")
    if pruned:
        model = prune(model, random_topology(shape_of(model.config), 0))
    expected = literally(model, examples)
    monkeypatch.setattr(logits, "_CHUNK", chunk)
    found = list(
        predict_natural_questions(model, examples, max_tokens=100, progress=False, **SIZES)
    )
    assert len(found) == len(expected) == 15
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.long_score == pytest.approx(theirs.long_score, abs=1e-4)
        for name in ("id", "long", "short", "yes_no"):
            assert getattr(ours, name) == getattr(theirs, name)


def test_answers_come_before_all_windows_are_read(
    examples: NaturalQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logits, "_CHUNK", 4)
    monkeypatch.setattr(decode, "_CHUNK", 4)
    model = small_reader().train()
    calls: list[bool] = []
    model.register_forward_hook(lambda *_: calls.append(model.training))
    answers = predict_natural_questions(model, examples, max_tokens=100, progress=False, **SIZES)
    assert not calls
    next(answers)
    n_first = len(calls)
    assert model.training  # also between two answers
    assert not torch.is_inference_mode_enabled()
    assert len(list(answers)) == 14
    assert 0 < n_first < len(calls) / 3
    assert not any(calls)


def test_times_are_of_the_windows_that_are_scored(examples: NaturalQuestions) -> None:
    model = small_reader(max_position_embeddings=512)
    for windows in (None, Windows(32, 12, null_rate=0.3)):
        scored = len(make_features(examples, model.tokenizer, windows))
        (timing,) = time_decoding([model], examples, repeats=1, windows=windows, progress=False)
        assert timing.windows == scored
    assert scored > 15


def test_scores_are_the_official_ones(examples: NaturalQuestions) -> None:
    pytest.importorskip("natural_questions", reason="the extra nq is not installed")
    model = small_reader()
    found = evaluate_natural_questions(model, examples, progress=False, **SIZES)
    answers = predict_natural_questions(model, examples, progress=False, **SIZES)
    assert found == score_natural_questions(examples, answers)
    assert found.n_examples == 15
    assert found.long.n_gold == 12


def test_a_model_without_answer_types_is_refused(examples: NaturalQuestions) -> None:
    with pytest.raises(ModelError, match=r"one for 'squad'.* for 'natural_questions': load it"):
        predict_natural_questions(small_bert(), examples)
    model = small_reader()
    del model.tokenizer
    with pytest.raises(ModelError, match="carries no tokenizer"):
        predict_natural_questions(model, examples)
