"""A GPU gives what the CPU gives; QAPRUNE_GPU_TESTS=cpu rehearses these tests without one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from qaprune_lib import evaluate, finetune, load_model, predict, prune, retrain, time_decoding
from qaprune_lib.evaluation import timing
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import QuestionAnsweringModel, Task, shape_of
from qaprune_lib.models.pruned import ComputeDtype
from qaprune_lib.models.shape import KINDS
from qaprune_lib.scorers import GateScores, fisher, gain, l0, leave_one_out, random, surgeon
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.tiny import TASKED, assert_agree, logits, random_topology, tiny_batch, tiny_model
from tests.training.killed import CHECKPOINT_STEPS, STEPS, start
from tests.training.test_resume import PER_STEP, Interrupted, interrupt
from tests.training.toy import WINDOWS, answered_by, small_bert, toy_questions

DEVICE = os.environ.get("QAPRUNE_GPU_TESTS", "cuda")
# asked here, before the folders whose tests all run on the CPU hide the device
IS_MISSING = DEVICE == "cuda" and not torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(IS_MISSING, reason="torch sees no CUDA device")]

DTYPES: tuple[ComputeDtype, ...] = ("float32", "bfloat16")
QUESTIONS = toy_questions(14, seed=1)  # no best span is close to being another one
SIZES: dict[str, Any] = {**WINDOWS}
TRAINING: dict[str, Any] = {"batch_size": 4, "epochs": 2, "max_steps": 6, "learning_rate": 1e-3}
TRAINING |= SIZES
GATES: dict[str, Any] = {**TRAINING, "penalty": {"attn": 0.02, "ff": 0.01}, "learning_rate": 0.1}
SCORERS: dict[str, Callable[[QuestionAnsweringModel], GateScores]] = {
    "random": lambda m: random(m, kinds=KINDS),
    "gain": lambda m: gain(m, QUESTIONS, kinds=KINDS, **SIZES),
    "gain at 0": lambda m: gain(m, QUESTIONS, kinds=["attn"], at=0, **SIZES),
    "fisher": lambda m: fisher(m, QUESTIONS, kinds=KINDS, **SIZES),
    "surgeon": lambda m: surgeon(m, QUESTIONS, **SIZES),
    "leave one out": lambda m: leave_one_out(m, answered_by(m, QUESTIONS), **SIZES),
    "l0": lambda m: l0(m, QUESTIONS, **{**GATES, "penalty": dict.fromkeys(KINDS, 0.01)}),
}


@pytest.fixture(autouse=True)
def new_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], None]]:
    """Gives the library an empty cache, now and whenever it is called."""

    def renew() -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: DEVICE == "cuda")
        monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))

    # TF32 would be off by one part in a thousand; nothing of the library switches it on
    assert not torch.backends.cuda.matmul.allow_tf32
    renew()
    yield renew
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by the device of what is trained with every micro-step."""
    found: list[str] = []
    original = SpanTrainer.training_step

    def recording(self: Any, model: torch.nn.Module, *arguments: Any, **keywords: Any) -> Any:
        found.append(next(model.parameters()).device.type)
        return original(self, model, *arguments, **keywords)

    monkeypatch.setattr(SpanTrainer, "training_step", recording)
    return found


def small_model(device: str, dtype: ComputeDtype = "float32") -> QuestionAnsweringModel:
    model = small_bert()
    model.compute_dtype = dtype
    return moved(model, device)


def moved(model: Any, device: str = DEVICE) -> QuestionAnsweringModel:
    return model.to(device)


def weights_are(model: torch.nn.Module) -> set[tuple[str, torch.dtype]]:
    return {(weights.device.type, weights.dtype) for weights in model.parameters()}


def losses_of(result: QuestionAnsweringModel | GateScores) -> tuple[float, ...]:
    if isinstance(result, GateScores):
        return result.settings["report"]["losses"]
    return result.training_report.losses


@pytest.mark.parametrize("emb", [False, True], ids=["attn+ff", "attn+ff+emb"])
@pytest.mark.parametrize(("architecture", "attention", "task"), TASKED)
def test_masked_pruned_and_reloaded_agree_and_equal_the_cpu(
    architecture: str, attention: str, task: Task, emb: bool, tmp_path: Path
) -> None:
    model = tiny_model(architecture, attention=attention, task=task)
    topology = random_topology(shape_of(model.config), seed=4, emb=emb)
    batch = tiny_batch(model, padding=3)
    with apply_masks(model, Masks.from_topology(topology)):
        on_cpu = logits(model, batch)
        moved(model)
        batch = {name: tensor.to(DEVICE) for name, tensor in batch.items()}
        masked = logits(model, batch)
    small = prune(model, topology)
    small.save_pretrained(tmp_path)
    reloaded = load_model(tmp_path, attn_implementation=attention)
    assert_agree(masked.cpu(), on_cpu)
    for found in (small, reloaded):
        assert weights_are(found) == {(DEVICE, torch.float32)}
        assert_agree(logits(found, batch), masked)


def test_loading_leaves_random_numbers_as_they_were(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path)
    read = torch.cuda.get_rng_state if DEVICE == "cuda" else torch.get_rng_state
    before = read()
    load_model(tmp_path, task="natural_questions")
    assert torch.equal(read(), before)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_answers_are_those_of_the_cpu(architecture: str) -> None:
    model = tiny_model(architecture)
    questions = answered_by(model, QUESTIONS)
    expected = predict(model, questions, **SIZES)
    found = predict(moved(model), questions, **SIZES)
    assert [(p.text, p.start, p.end) for p in found] == [(p.text, p.start, p.end) for p in expected]
    for name in ("score", "null_score"):
        on_cpu = [getattr(p, name) for p in expected]
        assert [getattr(p, name) for p in found] == pytest.approx(on_cpu, abs=1e-4)
    assert evaluate(model, questions, **SIZES).answered.exact == 100


@pytest.mark.parametrize("is_pruned", [False, True], ids=["whole", "pruned"])
@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
@pytest.mark.parametrize("name", SCORERS)
def test_scores_are_those_of_the_cpu(
    name: str, architecture: str, is_pruned: bool, new_cache: Callable[[], None]
) -> None:
    model = tiny_model(architecture)
    if is_pruned:
        model = prune(model, random_topology(shape_of(model.config), seed=2))
    expected = SCORERS[name](model)
    new_cache()
    found = SCORERS[name](moved(model))
    assert weights_are(model) == {(DEVICE, torch.float32)}
    assert found.kinds() == expected.kinds()
    for kind in expected.kinds():
        on_cpu = expected.get(kind)
        largest = np.abs(on_cpu[np.isfinite(on_cpu)]).max()
        np.testing.assert_allclose(found.get(kind), on_cpu, rtol=1e-4, atol=1e-4 * largest)


@pytest.mark.parametrize("train", ["fine-tune", "gates"])
def test_training_in_bfloat16_follows_float32(train: str, devices: list[str]) -> None:
    found = {}
    for dtype in DTYPES:
        model = small_model(DEVICE, dtype)
        if train == "gates":
            result: Any = l0(model, QUESTIONS, **GATES)
            for scores in (result.attn, result.ff):
                assert isinstance(scores, np.ndarray)
                assert np.isfinite(scores).all()
        else:
            result = finetune(model, QUESTIONS, **TRAINING)
            assert weights_are(result) == {(DEVICE, torch.float32)}
        assert weights_are(model) == {(DEVICE, torch.float32)}
        found[dtype] = losses_of(result)
    assert devices == [DEVICE] * 12
    # a handful of roundings, each of one part in 256, average out over a batch
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.01)
    assert found["bfloat16"] != found["float32"]


@pytest.mark.parametrize("kind", ["fine-tune", "gates"])
def test_a_stopped_run_ends_as_if_nothing_had_been(
    kind: str, devices: list[str], tmp_path: Path
) -> None:
    """With dropout, whose random state is the device's own."""
    uninterrupted = start(kind, None, device=DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, "training_step", PER_STEP * (2 * CHECKPOINT_STEPS + 2))
        with pytest.raises(Interrupted):
            start(kind, tmp_path, device=DEVICE)
    devices.clear()
    found = start(kind, tmp_path, device=DEVICE)
    assert losses_of(found) == pytest.approx(losses_of(uninterrupted), abs=1e-4)
    assert devices == [DEVICE] * PER_STEP * (STEPS - 2 * CHECKPOINT_STEPS)


@pytest.mark.parametrize("home", sorted({DEVICE, "cpu"}))
def test_distillation(home: str, devices: list[str], new_cache: Callable[[], None]) -> None:
    """The teacher runs on the GPU, once; the student trains where it is."""

    def distil(device: str, home: str) -> tuple[QuestionAnsweringModel, list[str]]:
        new_cache()
        teacher, whole = small_model(device), small_bert(seed=1)
        student = moved(prune(whole, random_topology(shape_of(whole.config), seed=4)), home)
        passes: list[str] = []
        teacher.register_forward_hook(lambda *_: passes.append(teacher.device.type))
        trained = [retrain(student, QUESTIONS, teacher=teacher, **TRAINING) for _ in range(2)]
        assert losses_of(trained[1]) == pytest.approx(losses_of(trained[0]), rel=1e-4)
        assert weights_are(student) == weights_are(trained[1]) == {(home, torch.float32)}
        return trained[0], passes

    found, passes = distil(DEVICE, home)
    assert passes == [DEVICE]  # of the second run the logits are read
    assert devices == [home] * 12
    expected, _ = distil("cpu", "cpu")
    assert losses_of(found) == pytest.approx(losses_of(expected), rel=1e-3)


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_timed_round_waits_for_the_device_before_and_after(
    dtype: ComputeDtype, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_model(DEVICE, dtype)
    models = {"whole": whole, "small": prune(whole, random_topology(shape_of(whole.config), 0))}
    events: list[str] = []

    def noting(event: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            events.append(event)
            return function(*arguments)

        return noted

    wait, clock = torch.accelerator.synchronize, time.perf_counter
    monkeypatch.setattr(torch.accelerator, "synchronize", noting("wait", wait))
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=noting("clock", clock)))
    for name, model in models.items():
        model.register_forward_hook(
            lambda *_, name=name: None if events[-1:] == [name] else events.append(name)
        )
    timings = time_decoding(
        [*models.values()], toy_questions(70), repeats=2, batch_size=batch_size, **SIZES
    )
    waits = ["wait"] if DEVICE == "cuda" else []
    rounds = [event for name in models for event in (*waits, "clock", name, *waits, "clock")]
    assert events == [*models, *rounds, *rounds]  # after a warm-up
    for found in timings:
        assert found.windows > 64
        assert DEVICE == "cpu" or found.device == torch.cuda.get_device_name()
        assert found.size_mib == found.parameters * 4 / 2**20  # weights stay in float32
