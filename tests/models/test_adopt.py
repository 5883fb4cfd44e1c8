"""Stock models taken in, and wrapped ones refused by every entry point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import BertForSequenceClassification, PreTrainedModel

import qaprune_lib as qp
from qaprune_lib.errors import ModelError
from qaprune_lib.models import QuestionAnsweringModel, Topology, architecture_of, shape_of
from qaprune_lib.pruning import reconstruct
from qaprune_lib.pruning.compress import compress
from tests.models.tiny import TESTED, logits, random_topology, tiny_batch, tiny_model

ROW = {
    "id": ["1"], "title": ["t"], "question": ["Where?"], "context": ["Ann was born in Rome."],
    "answers": [{"text": ["Rome"], "answer_start": [16]}],
}  # fmt: skip


def stock_twin(model: QuestionAnsweringModel) -> PreTrainedModel:
    """The same weights in transformers' own class."""
    stock = getattr(transformers, architecture_of(model.config).question_answering)(model.config)
    stock.load_state_dict(model.state_dict())
    return stock.eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", TESTED)
def test_an_adopted_model_shares_its_weights_and_can_be_pruned(architecture: str) -> None:
    model = tiny_model(architecture)
    stock, batch = stock_twin(model), tiny_batch(model)
    adopted = qp.adopt(stock, model.tokenizer)
    assert type(adopted) is type(model)
    assert torch.equal(logits(adopted, batch), logits(model, batch))
    assert {id(w) for w in adopted.parameters()} == {id(w) for w in stock.parameters()}
    topology = random_topology(shape_of(model.config), 0)
    small, expected = qp.prune(adopted, topology), qp.prune(model, topology)
    assert torch.equal(logits(small, batch), logits(expected, batch))
    assert torch.equal(logits(stock, batch), logits(model, batch))  # it stays as it is


def test_an_adopted_model_travels(tmp_path: Any) -> None:
    model = tiny_model("bert")
    qp.adopt(stock_twin(model), model.tokenizer).save_pretrained(tmp_path)
    batch = tiny_batch(model)
    assert torch.equal(logits(qp.load_model(tmp_path, device="cpu"), batch), logits(model, batch))


def three_labels(model: QuestionAnsweringModel) -> PreTrainedModel:
    stock = stock_twin(model)
    stock.qa_outputs = nn.Linear(32, 3)
    return stock


def with_nan(model: QuestionAnsweringModel) -> PreTrainedModel:
    stock = stock_twin(model)
    nn.init.constant_(stock.get_parameter("qa_outputs.bias"), float("nan"))
    return stock


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: BertForSequenceClassification(m.config), "is not a BertForQuestionAnswering"),
        (three_labels, "3 outputs, and a span head has 2"),
        (with_nan, "qa_outputs.bias holds values that are not finite"),
        (lambda m: transformers.BertModel(m.config), "a BertModel is not a BertForQuestion"),
        (lambda _: transformers.GPT2Model(transformers.GPT2Config(n_layer=1)), "'gpt2' is not"),
        (lambda m: "embedded", "'embedded' is not a model; load_model makes one"),
        (lambda m: None, "None is not a model"),
    ],
)  # fmt: skip
def test_what_is_no_stock_model_is_not_adopted(change: Callable[..., Any], message: str) -> None:
    model = tiny_model("bert")
    with pytest.raises(ModelError, match=message):
        qp.adopt(change(model), model.tokenizer)


def test_a_tokenizer_of_another_model_is_not_adopted() -> None:
    model = tiny_model("bert")
    stock = stock_twin(model)
    longer = tiny_model("bert").tokenizer
    longer.add_tokens(["one"])
    with pytest.raises(ModelError, match="ids up to 80, and the model embeddings for 80"):
        qp.adopt(stock, longer)
    model.tokenizer.pad_token = None
    with pytest.raises(ModelError, match="no pad token"):
        qp.adopt(stock, model.tokenizer)


def of_peft(model: nn.Module) -> nn.Module:
    """As peft wraps a model: a class of its package around it."""
    wrapper = type("PeftModel", (nn.Module,), {"__module__": "peft.peft_model"})()
    wrapper.base_model = model
    return wrapper  # type: ignore[no-any-return]


def with_lora(model: Any) -> nn.Module:
    """As peft injects a layer in a model."""
    lora = type("Linear", (nn.Linear,), {"__module__": "peft.tuners.lora.layer"})(32, 2)
    model.qa_outputs = lora
    return model  # type: ignore[no-any-return]


def compiled_in_place(model: nn.Module) -> nn.Module:
    model.compile()
    return model


def compiled_inside(model: Any) -> nn.Module:
    model.bert = torch.compile(model.bert)
    return model  # type: ignore[no-any-return]


WRAPPED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "stock": (stock_twin, r"qaprune_lib.adopt\(model, tokenizer\)"),
    "peft": (of_peft, "merge it with merge_and_unload"),
    "lora": (with_lora, r"adapter \(at qa_outputs\): merge it"),
    "compiled": (torch.compile, "pass the uncompiled model"),
    "compiled in place": (compiled_in_place, "pass the uncompiled model"),
    "compiled inside": (compiled_inside, r"\(at bert\): pass the uncompiled model"),
    "parallel": (nn.DataParallel, "pass .module"),
    "a name": (lambda _: "embedded", "load_model makes one"),
}


def _l0(model: Any, rows: Any) -> None:
    qp.scorers.l0(model, rows, penalty={"attn": 1.0}, max_steps=1)


def _taught(model: Any, rows: Any) -> None:
    qp.retrain(tiny_model("bert"), rows, teacher=model, max_steps=1)


ENTRIES: dict[str, Callable[[Any, Any], Any]] = {
    "prune": lambda m, _: qp.prune(m, Topology.full(shape_of(tiny_model("bert").config))),
    "random": lambda m, _: qp.scorers.random(m),
    "gain": qp.scorers.gain,
    "fisher": qp.scorers.fisher,
    "surgeon": qp.scorers.surgeon,
    "leave_one_out": qp.scorers.leave_one_out,
    "l0": _l0,
    "finetune": lambda m, rows: qp.finetune(m, rows, max_steps=1),
    "retrain": lambda m, rows: qp.retrain(m, rows, max_steps=1),
    "teacher": _taught,
    "predict": qp.predict,
    "evaluate": qp.evaluate,
    "ask": lambda m, _: qp.ask(m, "Where?", "Ann was born in Rome."),
    "time_decoding": lambda m, rows: qp.time_decoding([m], rows, progress=False),
    "reconstruct": lambda m, rows: reconstruct(m, tiny_model("bert"), rows),
    "compress": lambda m, rows: compress(m, {"train": rows, "heldout": rows}),
    "export_onnx": lambda m, _: qp.export_onnx(m, "nowhere"),
}


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_every_entry_says_what_to_pass(
    entry: str, wrapper: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset

    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path))
    wrap, message = WRAPPED[wrapper]
    with pytest.raises(ModelError, match=message):
        ENTRIES[entry](wrap(tiny_model("bert")), Dataset.from_dict(ROW))
