"""The training loop: order of batches, micro-steps, what it learns, and what it refuses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qaprune_lib.data.batching import length_grouped_order
from qaprune_lib.errors import DataError, ModelError, SettingsError
from qaprune_lib.models import QuestionAnsweringModel, shape_of
from qaprune_lib.pruning import prune
from qaprune_lib.training import TrainingSettings, finetune, retrain
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.tiny import random_topology
from tests.training.toy import DROPOUT, WINDOWS, small_bert, toy_questions, toy_windows

QUESTIONS = toy_questions(14)


def train(model: QuestionAnsweringModel, questions: Any = QUESTIONS, **settings: Any) -> Any:
    return finetune(model, questions, **{"batch_size": 4, **WINDOWS, **settings})


def same_weights(a: QuestionAnsweringModel, b: QuestionAnsweringModel) -> bool:
    other = b.state_dict()
    return all(torch.equal(weights, other[name]) for name, weights in a.state_dict().items())


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[list[int]]]:
    """Token ids of every micro-batch of this test, without padding."""
    batches: list[list[list[int]]] = []
    original = SpanTrainer.compute_loss

    def recording(self: Any, model: Any, inputs: Any, *arguments: Any, **keywords: Any) -> Any:
        rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
        batches.append([ids[mask].tolist() for ids, mask in rows])
        return original(self, model, inputs, *arguments, **keywords)

    monkeypatch.setattr(SpanTrainer, "compute_loss", recording)
    return batches


@pytest.mark.parametrize("accumulation", [1, 2])
def test_batches_come_in_the_order_of_seed_and_epoch(
    accumulation: int, seen: list[list[list[int]]]
) -> None:
    model = small_bert()
    features = toy_windows(model, QUESTIONS)
    ids, n = features["input_ids"][:], len(features)
    assert n % 4  # an incomplete batch is left out
    train(model, epochs=3, seed=7, accumulation=accumulation)
    expected = []
    for epoch in range(3):
        order = length_grouped_order(features["length"], 4, seed=7, epoch=epoch)
        expected += [ids[row] for row in order[: n // 4 * 4]]
    assert [row for batch in seen for row in batch] == expected
    assert {len(batch) for batch in seen} == {4 // accumulation}


def test_the_number_of_steps() -> None:
    model = small_bert()
    per_epoch = len(toy_windows(model, QUESTIONS)) // 4
    for settings, expected in (
        ({"epochs": 2}, 2 * per_epoch),
        ({"epochs": 2, "max_steps": per_epoch + 1}, per_epoch + 1),
        ({"max_steps": 1000}, per_epoch),
        ({"batch_size": 500}, 1),  # fewer windows than one batch: all of them
    ):
        report = train(model, **settings).training_report
        assert report.steps == len(report.losses) == expected


def test_accumulated_micro_steps_equal_one_step() -> None:
    model = small_bert().double()
    whole, parts = (
        train(model, batch_size=8, accumulation=accumulation, epochs=3, learning_rate=1e-3)
        for accumulation in (1, 4)
    )
    assert whole.training_report.losses == pytest.approx(parts.training_report.losses, rel=1e-7)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    assert not same_weights(whole, model)


def test_one_step_is_adamw_s() -> None:
    model = small_bert().double()
    n = len(toy_windows(model, QUESTIONS))
    settings = {"batch_size": n, "warmup": 0.0, "learning_rate": 1e-3, "max_grad_norm": 0.0}
    found = train(model, **settings)
    from tests.training.toy import single_windows

    loss = torch.zeros((), dtype=torch.float64)
    for inputs, start, end in single_windows(model, toy_windows(model, QUESTIONS)):
        outputs = model(**inputs)
        for logits, label in ((outputs.start_logits, start), (outputs.end_logits, end)):
            loss = loss + torch.nn.functional.cross_entropy(logits, torch.tensor([label])) / 2
    loss = loss / n
    loss.backward()
    assert found.training_report.losses[0] == pytest.approx(loss.item(), rel=1e-6)
    trained = dict(found.named_parameters())
    for name, weights in model.named_parameters():
        g = weights.grad
        assert g is not None
        decay = 0.01 if weights.dim() > 1 else 0.0
        expected = weights - 1e-3 * (g / (g.abs() + 1e-8) + decay * weights)
        torch.testing.assert_close(trained[name], expected.detach(), rtol=0, atol=2e-5, msg=name)


@pytest.mark.slow
def test_training_learns_and_repeats_itself() -> None:
    model = small_bert(**DROPOUT)
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    runs = [train(model, epochs=8, learning_rate=3e-3) for _ in range(2)]
    losses = runs[0].training_report.losses
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])
    assert same_weights(*runs)
    assert all(torch.equal(model.state_dict()[name], w) for name, w in before.items())
    assert not runs[0].training
    assert runs[0].tokenizer is not None
    assert {m.p for m in runs[0].modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    others = [{"seed": 1}, {"dropout": False}, {"learning_rate": 1e-3}, {"warmup": 0.5}]
    for changes in others:
        other = train(model, **{"epochs": 8, "learning_rate": 3e-3, **changes})
        assert not same_weights(other, runs[0]), changes


def test_a_model_on_the_cpu_trains_there_though_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices: list[torch.device] = []
    original = SpanTrainer.training_step

    def recording(self: Any, model: Any, *arguments: Any) -> Any:
        devices.extend([self.args.device, self.accelerator.device, next(model.parameters()).device])
        return original(self, model, *arguments)

    monkeypatch.setattr(SpanTrainer, "training_step", recording)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    train(small_bert(), max_steps=1)
    assert set(devices) == {torch.device("cpu")}


def test_a_pruned_model_trains() -> None:
    model = small_bert()
    small = prune(model, random_topology(shape_of(model.config), seed=4))
    trained = retrain(small, QUESTIONS, batch_size=4, learning_rate=1e-2, **WINDOWS)
    assert trained.config.topology == small.config.topology
    assert not same_weights(trained, small)


@pytest.mark.parametrize("what", ["fine-tune", "retrain", "distil"])
def test_the_progress_bar_says_what_runs(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_bert()
    if what == "fine-tune":
        train(model)
    else:
        teacher = model if what == "distil" else None
        retrain(model, QUESTIONS, teacher=teacher, batch_size=4, **WINDOWS)
    bars = capsys.readouterr().err
    assert f"{what}: 100%" in bars
    assert "loss=" in bars


def test_a_loss_that_is_lost_is_an_error(tmp_path: Path) -> None:
    model = small_bert()
    with torch.no_grad():
        model.qa_outputs.weight *= math.nan
    with pytest.raises(ModelError, match="nan at step 1"):
        train(model, folder=tmp_path, checkpoint_steps=1)
    assert not list(tmp_path.glob("checkpoint-*"))  # nothing of it is kept


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"max_steps": 0},
        {"batch_size": 0},
        {"batch_size": 10, "accumulation": 4},
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"learning_rate": "1e-4"},
        {"warmup": 1.5},
        {"seed": -1},
        {"seed": 0.5},
        {"checkpoint_steps": 0},
        {"leaning_rate": 1e-4},
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any]) -> None:
    (name,) = [name for name in settings if name != "accumulation"]
    for function in (finetune, retrain):
        with pytest.raises(SettingsError, match=name):
            function(small_bert(), QUESTIONS, **WINDOWS, **settings)


def test_a_batch_that_processes_cannot_share_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    TrainingSettings()  # 24 windows: fine in itself
    with pytest.raises(SettingsError, match="5 processes"):
        train(small_bert(), batch_size=24)


def test_data_that_cannot_be_trained_on_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        train(small_bert(), QUESTIONS.select([]))
    with pytest.raises(DataError, match="do not fill one batch of 100"):
        train(small_bert(), batch_size=100, accumulation=2)
