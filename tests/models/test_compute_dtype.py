"""Models that compute in bfloat16: close to float32, and float32 in all that is kept."""

from __future__ import annotations

import platform
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import ModelError, QapruneWarning
from qaprune_lib.evaluation.predict import ask
from qaprune_lib.gates import Masks, apply_masks
from qaprune_lib.models import Encoder, QuestionAnsweringModel, load_model, shape_of, weights_digest
from qaprune_lib.pruning import prune
from qaprune_lib.scorers import l0
from qaprune_lib.training import finetune
from tests.models.tiny import TASKED, TESTED, logits, random_topology, tiny_batch, tiny_model
from tests.training.toy import WINDOWS, small_bert, toy_questions

PRECISION = 2**-8  # of a bfloat16


def in_bfloat16(model: QuestionAnsweringModel) -> QuestionAnsweringModel:
    model.compute_dtype = "bfloat16"
    return model


@pytest.mark.parametrize(("architecture", "attention", "task"), TASKED)
def test_logits_are_close_and_weights_stay(architecture: str, attention: str, task: Any) -> None:
    model = tiny_model(architecture, attention=attention, task=task)
    batch = tiny_batch(model)
    exact = logits(model, batch)
    coarse = logits(in_bfloat16(model), batch)
    assert not torch.equal(coarse, exact)
    # a handful of roundings, each of one part in 256
    assert (coarse - exact).abs().max() < 16 * PRECISION * exact.abs().max()
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", TESTED)
def test_batches_have_few_lengths_that_the_model_takes(architecture: str) -> None:
    model = in_bfloat16(tiny_model(architecture))
    longest = Encoder(model).longest_input()
    seen: set[int] = set()

    def note(_: Any, __: Any, inputs: dict[str, torch.Tensor]) -> None:
        seen.add(inputs["input_ids"].shape[1])

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    for length in range(longest - 20, longest + 1):
        assert ask(model, "Where?", "Ann was born in Rome. " * 20, windows=Windows(length, 20))
    hook.remove()
    assert all(length % 16 == 0 or length == longest for length in seen)
    assert max(seen) == longest
    assert len(seen) <= longest // 16 + 1


def test_a_model_without_it_leaves_autocast_to_its_caller() -> None:
    model = tiny_model("bert")
    batch = tiny_batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(**batch).start_logits.dtype == torch.bfloat16
    assert model(**batch).start_logits.dtype == torch.float32
    assert in_bfloat16(model)(**batch).start_logits.dtype == torch.bfloat16


def test_it_is_a_setting_of_loading_and_not_saved(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path / "whole")
    model = load_model(tmp_path / "whole", compute_dtype="bfloat16", device="cpu")
    assert model.compute_dtype == "bfloat16"
    model.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again", device="cpu")
    assert again.compute_dtype == "float32"
    assert weights_digest(again) == weights_digest(tiny_model("bert")) != weights_digest(model)
    with pytest.raises(ModelError, match="'float16' is unknown; there are float32, bfloat16"):
        load_model(tmp_path / "whole", compute_dtype="float16", device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_device_without_instructions_is_warned_of(
    has_instructions: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    tiny_model("bert").save_pretrained(tmp_path)
    for compute_dtype, is_slow in (("float32", False), ("bfloat16", not has_instructions)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", QapruneWarning)
            load_model(tmp_path, compute_dtype=compute_dtype, device="cpu")  # type: ignore[arg-type]
        assert is_slow == any("no instructions for bfloat16" in str(each.message) for each in said)


def test_pruned_as_masked() -> None:
    model = in_bfloat16(tiny_model("bert"))
    batch = tiny_batch(model)
    topology = random_topology(shape_of(model.config), seed=0, emb=False)
    with apply_masks(model, Masks.from_topology(topology, ("attn", "ff"))):
        masked = logits(model, batch)
    small = prune(model, topology)
    assert small.compute_dtype == "bfloat16"
    assert (logits(small, batch) - masked).abs().max() < 16 * PRECISION * masked.abs().max()


def test_training_follows_float32() -> None:
    questions = toy_questions(14)
    settings: dict[str, Any] = {"batch_size": 4, "learning_rate": 1e-3, **WINDOWS}
    exact = finetune(small_bert(), questions, **settings)
    coarse = finetune(in_bfloat16(small_bert()), questions, **settings)
    assert coarse.compute_dtype == "bfloat16"
    assert {weights.dtype for weights in coarse.parameters()} == {torch.float32}
    losses = coarse.training_report.losses
    assert losses == pytest.approx(exact.training_report.losses, rel=0.01)
    assert losses != exact.training_report.losses
    again = finetune(in_bfloat16(small_bert()), questions, **settings)
    assert weights_digest(again) == weights_digest(coarse)


def test_gates_are_trained_in_float32() -> None:
    model = in_bfloat16(small_bert())
    scores = l0(model, toy_questions(14), penalty={"attn": 0.1}, batch_size=4, **WINDOWS)
    exact = l0(small_bert(), toy_questions(14), penalty={"attn": 0.1}, batch_size=4, **WINDOWS)
    assert scores.attn is not None
    assert exact.attn is not None
    assert scores.attn == pytest.approx(exact.attn, abs=0.05)
