"""The stages' notebooks on Natural Questions, from a model and gates of SQuAD, tiny."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from study.plan.parameters import DecodeTime, Finetune, Prune, Retrain, ScoreGates
from study.records.record import Record
from study.stages.questions import Questions, size
from tests.study.stages.test_stage_notebooks import SCORED, Chain, check_training, saved_model

NQ: dict[str, Any] = {
    "data": "nq",
    "task": "natural_questions",
    "null_rate": 0.2,
    "train_questions": 40,
    "heldout_questions": None,
    "dev_questions": 25,
}
SETS = SCORED - {"heldout"}


def check_short_answers(record: Record, examples: NaturalQuestions, folder: Path) -> None:
    """F1 of short answers at the record's threshold, by the rule of two annotators, by hand."""
    metrics: Any = record.metrics
    dev = metrics["dev"]
    entries = json.loads((folder / "dev_predictions.json").read_text())["predictions"]
    by_document: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for example, entry in zip(examples, entries, strict=True):
        assert entry["example_id"] == example.id
        answers = [
            (sorted(a.short), a.yes_no)
            for a in example.annotations
            if a.short or a.yes_no != "NONE"
        ]
        due = len(answers) >= 2
        spans = [(s["start_token"], s["end_token"]) for s in entry["short_answers"]]
        said = (sorted(spans), entry["yes_no_answer"])
        given = bool(spans) or said[1] != "NONE"
        given = given and entry["short_answers_score"] >= dev["short"]["threshold"]
        right = due and given and said in [(list(map(tuple, s)), y) for s, y in answers]
        by_document[example.text][0] += due + given
        by_document[example.text][1] += 200 * right
        by_document[example.text][2] += 1
    assert dev["articles"] == list(by_document.values())
    weights, sums, _ = zip(*by_document.values(), strict=True)
    assert dev["f1"] == dev["short"]["f1"] == pytest.approx(sum(sums) / sum(weights))
    assert dev["n_examples"] == len(entries) == size(examples)


@pytest.mark.slow
def test_from_squad_to_natural_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("natural_questions")
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chain = Chain(tmp_path)
    training: dict[str, Any] = {"max_steps": 3, "batch_size": 4}
    squad, _ = chain.run(Finetune, model=saved_model(tmp_path / "model"), **training)
    metrics: Any

    tuned, record = chain.run(Finetune, model=squad, **training, **NQ)
    questions = Questions.load(Finetune.checked({**chain.place, **NQ}))
    assert isinstance(questions.dev, NaturalQuestions)
    assert questions.heldout is None
    metrics = record.metrics
    assert set(metrics) == {*SETS, "training", "shape", "word_overlap"}
    check_training(metrics["training"], 3)
    check_short_answers(record, questions.dev, chain.artifacts(tuned))
    assert metrics["word_overlap"]["dev"]["short"]["f1"] == 0
    assert metrics["word_overlap"]["dev"]["long"]["f1"] > 10

    l0 = {"max_steps": 12, "batch_size": 2, "learning_rate": 1.0, "penalty_attn": 2e-3}
    scored, record = chain.run(
        ScoreGates, model=tuned, questions=20, fractions=[], curve_questions=8, **l0, **NQ
    )
    metrics = record.metrics
    assert 5 < metrics["scoring"]["questions"] < 40  # each is drawn by itself
    [point] = metrics["curves"][0]["points"]
    assert point["own_threshold"]
    assert set(point) == {
        *("removed", "own_threshold", "f1", "f1_at_zero", "long_f1", "questions", "articles")
    }
    assert metrics["unpruned"]["questions"] == point["questions"] < 25

    pruned, record = chain.run(Prune, model=tuned, attn=scored, **NQ)
    check_short_answers(record, questions.dev, chain.artifacts(pruned))
    metrics = record.metrics
    smaller = metrics["parameters"]
    assert set(metrics) == {*SETS, "removed", "kept"}

    retrained, record = chain.run(
        Retrain, model=pruned, objective="distillation", teacher=tuned, **training, **NQ
    )
    check_short_answers(record, questions.dev, chain.artifacts(retrained))
    assert record.metrics["parameters"] == smaller

    _, record = chain.run(DecodeTime, models=[tuned, retrained], repeats=2, max_questions=4, **NQ)
    metrics = record.metrics
    assert metrics[retrained]["macs_ratio"] > 1
    assert metrics[tuned]["windows"] == metrics[retrained]["windows"] > 0
