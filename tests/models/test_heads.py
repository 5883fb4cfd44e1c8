"""The head for Natural Questions: what it computes, and whom it takes its weights from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForPreTraining

from qaprune_lib.data.natural_questions.documents import MARKUP, markup_ids
from qaprune_lib.errors import ModelError
from qaprune_lib.models import (
    HEADS,
    Task,
    Topology,
    architecture_of,
    full_class,
    load_model,
    parameter_count,
    shape_of,
    weights_digest,
)
from qaprune_lib.models.load import QuestionAnsweringModel
from qaprune_lib.pruning import prune
from tests.models.tiny import READERS, logits, random_topology, tiny_batch, tiny_model

NQ: Task = "natural_questions"


def read(folder: Path, task: Task | None = None, seed: int = 0) -> QuestionAnsweringModel:
    return load_model(folder, task=task, head_seed=seed, device="cpu")


@pytest.mark.parametrize("architecture", READERS)
def test_its_logits_are_those_of_two_layers_on_the_encoder(architecture: str) -> None:
    model = tiny_model(architecture, task=NQ)
    batch = tiny_batch(model)
    with torch.no_grad():
        output = model(**batch)
        hidden = model.base_model(**batch).last_hidden_state
        if architecture == "modernbert":
            hidden = model.head(hidden)
        spans = model.get_submodule(architecture_of(model.config).span_layer)
        span = hidden @ spans.weight.T + spans.bias
        types = hidden[:, 0] @ model.answer_type_outputs.weight.T + model.answer_type_outputs.bias
    torch.testing.assert_close(output.start_logits, span[..., 0])
    torch.testing.assert_close(output.end_logits, span[..., 1])
    torch.testing.assert_close(output.answer_type_logits, types)
    assert tuple(output) == HEADS[NQ].logits
    assert types.shape == (3, 5)
    assert not any("pooler" in name for name, _ in model.named_modules())
    stock = full_class(model.config.model_type)(model.config)
    assert parameter_count(model) == parameter_count(stock) + 5 * 32 + 5


@pytest.mark.slow
@pytest.mark.parametrize("architecture", READERS)
@pytest.mark.parametrize("pruned", [False, True])
def test_a_squad_model_gives_its_span_layer(
    architecture: str, pruned: bool, tmp_path: Path
) -> None:
    squad = tiny_model(architecture, trained=True)
    if pruned:
        squad = prune(squad, random_topology(shape_of(squad.config), 0))
    squad.save_pretrained(tmp_path)
    model, other = read(tmp_path, NQ), read(tmp_path, NQ, seed=1)
    assert weights_digest(read(tmp_path, NQ)) == weights_digest(model) != weights_digest(other)
    assert Topology.of(model) == Topology.of(squad)
    taken, had = model.state_dict(), squad.state_dict()
    words = next(name for name in had if "embeddings.word" in name or "tok_embeddings" in name)
    new = {f"answer_type_outputs.{name}" for name in ("weight", "bias")}
    assert set(taken) == set(had) | new
    for name in had:
        assert torch.equal(taken[name][: len(had[name])], had[name])
        assert name == words or taken[name].shape == had[name].shape
    assert 0.005 < model.answer_type_outputs.weight.std().item() < 0.05
    assert not model.answer_type_outputs.bias.any()
    # these tokenizers lack the markup tokens; they have them now, with embeddings
    assert markup_ids(model.tokenizer.backend_tokenizer) == list(
        range(len(had[words]), len(had[words]) + len(MARKUP))
    )
    assert taken[words].shape[0] == model.config.vocab_size == len(model.tokenizer)
    batch = tiny_batch(squad)
    n_positions = len(logits(squad, batch))
    assert torch.equal(logits(model, batch)[:n_positions], logits(squad, batch))
    # and what is loaded so is saved and loaded as it is
    model.save_pretrained(tmp_path / "again")
    again = read(tmp_path / "again")
    assert type(again) is type(model)
    assert weights_digest(again) == weights_digest(model)
    assert again.config.vocab_size == model.config.vocab_size


def test_a_bare_encoder_gets_both_layers(tmp_path: Path) -> None:
    stock = tiny_model("bert")
    stock.save_pretrained(tmp_path / "stock")
    torch.manual_seed(0)
    config = BertConfig.from_pretrained(tmp_path / "stock")
    BertForPreTraining(config).save_pretrained(tmp_path / "bare")
    stock.tokenizer.save_pretrained(tmp_path / "bare")
    state = torch.get_rng_state()
    models = [read(tmp_path / "bare", NQ, seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    digests = [weights_digest(model) for model in models]
    assert digests[0] == digests[1] != digests[2]
    for name in ("qa_outputs.weight", "answer_type_outputs.weight"):
        layers = [model.get_parameter(name) for model in models]
        assert not torch.equal(layers[0], layers[2])
        assert 0.005 < layers[0].std().item() < 0.05


def test_ids_that_are_there_are_taken(tmp_path: Path) -> None:
    """[unused] entries of a vocabulary, or markup tokens of an earlier model."""
    embedded = load_model("embedded", task=NQ, device="cpu")
    assert len(embedded.tokenizer) == embedded.config.vocab_size == 30522
    assert embedded.tokenizer.convert_ids_to_tokens(
        markup_ids(embedded.tokenizer.backend_tokenizer)
    ) == [f"[unused{n}]" for n in range(1, len(MARKUP) + 1)]
    model = tiny_model("roberta", task=NQ)
    model.save_pretrained(tmp_path)
    assert weights_digest(read(tmp_path)) == weights_digest(model)


def test_what_is_no_such_model_is_refused(tmp_path: Path) -> None:
    model = tiny_model("bert", task=NQ)
    model.save_pretrained(tmp_path)
    assert isinstance(read(tmp_path), full_class("bert", NQ))
    with pytest.raises(ModelError, match="'natural_questions' has no use as one for 'squad'"):
        read(tmp_path, "squad")
    with pytest.raises(ModelError, match="task='nq' is unknown"):
        read(tmp_path, "nq")  # type: ignore[arg-type]
    with torch.no_grad():
        model.answer_type_outputs = nn.Linear(32, 4)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"answer_type_outputs.bias: \[4\], where .* \[5\]"):
        read(tmp_path)
    del model.answer_type_outputs
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"2 weights are missing, the first answer_type_outputs"):
        read(tmp_path)
