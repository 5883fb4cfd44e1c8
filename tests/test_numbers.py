"""Numbers that people pass: read as the numbers they are, of whatever type, or refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.errors import QapruneError
from qaprune_lib.models import ModelShape, Topology, shape_of
from qaprune_lib.pruning import measure_latency, prune, reconstruct
from qaprune_lib.scorers.registry import SCORERS
from qaprune_lib.training import Distillation
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import WINDOWS, toy_questions

MODEL, QUESTIONS = tiny_model("bert"), toy_questions(6)
SCORES = qp.scorers.random(MODEL)
SHAPE = ModelShape(n_layers=1, n_heads=2, head_size=4, d_intermediate=4, d_embedding=8)
TRAINED = ("finetune", "retrain", "l0", "evaluate", "evaluate_natural_questions")  # by settings


def cut(**how: Any) -> Topology:
    return Topology.from_scores(SCORES, **how)


def mended(**how: Any) -> Any:
    small = prune(MODEL, random_topology(shape_of(MODEL.config), 0))
    return reconstruct(small, MODEL, QUESTIONS, **{"n_windows": 8, **WINDOWS, **how})[1]


def surgeon(**how: Any) -> Any:
    return qp.scorers.surgeon(MODEL, QUESTIONS, **WINDOWS, **how).get("attn").round(9).tolist()


def trained(**how: Any) -> Any:
    model = qp.finetune(MODEL, QUESTIONS, max_steps=1, batch_size=2, **WINDOWS, **how)
    return {name: weights.sum().item() for name, weights in model.state_dict().items()}


def timed(**how: Any) -> Any:
    given = {"batch_size": 1, "length": 4, "repeats": 1, **how}
    return measure_latency(SHAPE, device="cpu", progress=False, **given).batch_size


def l0(**how: Any) -> Any:
    given = {"penalty": {"attn": 0.1}, "max_steps": 1, "batch_size": 2, **how}
    return qp.scorers.l0(MODEL, QUESTIONS, **given, **WINDOWS).get("attn").tolist()


COUNTS: dict[str, Callable[..., Any]] = {
    "head_seed": lambda **how: qp.load_model("embedded-small", device="cpu", **how).get_parameter(
        "qa_outputs.weight"
    ).sum(),
    "layers": lambda **how: len(
        qp.load_model("embedded-small", device="cpu", **how).base_model.encoder.layer
    ),
    "random.seed": lambda **how: qp.scorers.random(MODEL, **how).get("attn").tolist(),
    "MACs.length": lambda **how: cut(budget=qp.MACs(0.5, **how)),
    "Speedup.length": lambda **how: qp.Speedup(1.0, table=None, **how).costs(
        Topology.full(SHAPE), "bert"
    ).attn.shape,
    "Speedup.batch_size": lambda **how: qp.Speedup(1.0, length=4, **how).costs(
        Topology.full(SHAPE), "bert"
    ).attn.shape,
    "multiple_of": lambda **how: cut(fraction=0.5, **how),
    "shuffled.seed": lambda seed: Topology.full(SHAPE).shuffled(seed),
    "surgeon.seed": surgeon,
    "reconstruct.n_windows": mended,
    "reconstruct.seed": mended,
    "measure_latency.batch_size": timed,
    "measure_latency.length": timed,
    "measure_latency.repeats": timed,
    "measure_latency.embedding": timed,
    "load_squad.seed": lambda **how: qp.load_squad("embedded", **how)["heldout"][0],
    "sample.seed": lambda seed: qp.load_natural_questions("embedded")["dev"].sample(
        0.5, seed=seed
    ).samples,
    "leave_one_out.max_tokens": lambda **how: qp.scorers.leave_one_out(
        tiny_model("bert", num_hidden_layers=1), QUESTIONS, **WINDOWS, **how
    ).get("attn").round(5).tolist(),
}  # fmt: skip
SHARES: dict[str, Callable[..., Any]] = {
    "heldout": lambda **how: len(qp.load_squad("embedded", **how)["heldout"]),
    "null_rate": lambda **how: qp.Windows(64, **how),
    "sample.share": lambda share: (
        qp.load_natural_questions("embedded")["dev"].sample(share).samples
    ),
    "fraction": cut,
    "threshold": cut,
    "Parameters.share": lambda **how: cut(budget=qp.Parameters(**how)),
    "MACs.share": lambda **how: cut(budget=qp.MACs(**how)),
    "surgeon.ridge": surgeon,
    "reconstruct.ridge": mended,
    "reconstruct.heldout": mended,
    "learning_rate": trained,
    "warmup": trained,
    "weight_decay": trained,
    "max_grad_norm": trained,
    "initial_mean": l0,
    "penalty": lambda penalty: l0(penalty={"attn": penalty}),
    "weight": lambda **how: Distillation(**how),
    "temperature": lambda **how: Distillation(**how),
    "hidden": lambda **how: Distillation(**how),
}


@cache
def as_plain(name: str, number: float) -> str:
    return repr({**COUNTS, **SHARES}[name](**{name.split(".")[-1]: number}))


ELSEWHERE = {  # tested in tests/data/test_rows.py, with what they make of the number
    *("max_length", "doc_stride", "max_question_length", "max_answer_length", "n_best"),
    *("max_tokens", "repeats", "batch_size", "max_questions"),
}
UNTESTED = {"num_proc", "opset", "ratio", "compress.seed", "GateScores.seed"}


@pytest.mark.parametrize("number", [np.int64(2), np.float32(2), torch.tensor(2)])
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_may_be_of_any_type(name: str, number: Any) -> None:
    last = name.split(".")[-1]
    assert repr(COUNTS[name](**{last: number})) == as_plain(name, 2)


@pytest.mark.parametrize("number", [np.float16(0.5), np.float64(0.5)])
@pytest.mark.parametrize("name", SHARES)
def test_a_share_may_be_of_any_type(name: str, number: Any) -> None:
    last = name.split(".")[-1]
    assert repr(SHARES[name](**{last: number})) == as_plain(name, 0.5)


@pytest.mark.parametrize("number", ["2", True, 1.5, -1, 10**400])
@pytest.mark.parametrize("name", COUNTS)
def test_what_is_no_count_is_named(name: str, number: Any) -> None:
    with pytest.raises(QapruneError, match=name.split(".")[-1]):
        COUNTS[name](**{name.split(".")[-1]: number})


@pytest.mark.parametrize("number", ["0.5", True, float("nan"), [0.5]])
@pytest.mark.parametrize("name", SHARES)
def test_what_is_no_number_is_named(name: str, number: Any) -> None:
    with pytest.raises(QapruneError, match=name.split(".")[-1]):
        SHARES[name](**{name.split(".")[-1]: number})


@pytest.mark.parametrize("budget", [0.5, "Parameters", 1, object()])
def test_a_budget_says_of_what(budget: Any) -> None:
    with pytest.raises(QapruneError, match=r"share|Parameters"):
        cut(budget=budget)


def test_every_number_of_a_public_function_is_among_them() -> None:
    public = [getattr(qp, name) for name in qp.__all__ if name != "scorers"]
    public += [*(getattr(qp.scorers, name) for name in SCORERS), reconstruct, measure_latency]
    for function in public:
        for name, parameter in inspect.signature(function).parameters.items():
            said = str(parameter.annotation)
            if parameter.kind == parameter.VAR_KEYWORD or not ("int" in said or "float" in said):
                continue
            owner = getattr(function, "__name__", "")
            names = {name, f"{owner}.{name}"}
            assert names & {*COUNTS, *SHARES, *ELSEWHERE, *UNTESTED}, f"{owner}.{name}"
