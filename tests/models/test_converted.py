"""The embedded RoBERTa: MiniLM's layers, and a tokenizer that gives texts back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import BertModel, RobertaTokenizer

from qaprune_lib.data.embedded.articles import generate_articles
from qaprune_lib.data.natural_questions.documents import MARKUP, markup_ids
from qaprune_lib.models import (
    PACKAGED,
    QuestionAnsweringModel,
    load_model,
    shape_of,
    weights_digest,
)
from qaprune_lib.models.converted import ConvertedModel

IN_ANOTHER_PROCESS = """
from qaprune_lib.models import load_model, weights_digest
print(weights_digest(load_model("embedded-roberta", device="cpu")))
"""


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> QuestionAnsweringModel:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QAPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_model("embedded-roberta", device="cpu")


@pytest.mark.slow
def test_it_is_a_roberta_of_the_embedded_model_s_shape(roberta: QuestionAnsweringModel) -> None:
    assert roberta.config.model_type == "roberta"
    embedded = load_model("embedded", device="cpu")
    assert shape_of(roberta.config) == shape_of(embedded.config)
    assert isinstance(roberta.tokenizer, RobertaTokenizer)
    assert roberta.tokenizer.model_input_names == ["input_ids", "attention_mask"]
    assert len(roberta.tokenizer) == roberta.config.vocab_size <= 6000
    assert roberta.config.max_position_embeddings == 514
    for name, weights in embedded.base_model.encoder.state_dict().items():
        assert torch.equal(roberta.base_model.encoder.state_dict()[name], weights)


def test_its_hidden_states_are_minilm_s(roberta: QuestionAnsweringModel) -> None:
    bert = BertModel.from_pretrained(
        PACKAGED["minilm"].locate("minilm"), num_hidden_layers=4, add_pooling_layer=False
    ).eval()
    texts = ["Who tended the lamp?", "Ada Berg kindled it in 1843, and left."]
    batch = roberta.tokenizer(*texts, return_tensors="pt")
    with torch.no_grad():
        words = roberta.get_input_embeddings()(batch["input_ids"])
        found = roberta.base_model(**batch).last_hidden_state
        expected = bert(inputs_embeds=words).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_embeddings_are_those_of_the_text(roberta: QuestionAnsweringModel) -> None:
    bert = load_model("minilm", device="cpu")
    ours, theirs = (m.get_input_embeddings().weight for m in (roberta, bert))
    vocabulary, pieces = roberta.tokenizer.get_vocab(), bert.tokenizer.get_vocab()
    for token, piece in [("Ġthe", "the"), ("Ġlighthouse", "lighthouse"), ("ing", "##ing"),
                         ("<s>", "[CLS]"), ("</s>", "[SEP]"), ("<pad>", "[PAD]")]:  # fmt: skip
        assert torch.equal(ours[vocabulary[token]], theirs[pieces[piece]])
    several = [t for t in vocabulary if t.startswith("Ġ") and t[1:].isalpha() and len(t) > 7]
    for token in several[:50]:
        ids = bert.tokenizer(token[1:], add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(ours[vocabulary[token]], theirs[ids].mean(0))


def test_the_tokenizer_gives_texts_back_and_cuts_few_words(
    roberta: QuestionAnsweringModel,
) -> None:
    n_tokens = n_words = 0
    for article in generate_articles("dev", 5):
        for passage, _ in article.passages:
            ids = roberta.tokenizer(passage.text, add_special_tokens=False)["input_ids"]
            assert roberta.tokenizer.decode(ids) == passage.text
            n_tokens, n_words = n_tokens + len(ids), n_words + len(passage.text.split())
    assert n_tokens / n_words < 1.7


@pytest.mark.slow
def test_another_process_makes_the_same(roberta: QuestionAnsweringModel, tmp_path: Path) -> None:
    import os

    run = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "QAPRUNE_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.stdout.strip() == weights_digest(roberta)
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] != []


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_one_is_made_again(file: str, tmp_path: Path) -> None:
    made: list[int] = []

    class Counted(ConvertedModel):
        def _convert(self, origin: Path, folder: Path) -> None:
            made.append(1)
            for name in ("model.safetensors", "tokenizer.json", "config.json"):
                (folder / name).write_text(f"{name} {origin}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QAPRUNE_CACHE", str(tmp_path))
        entry = Counted(SimpleNamespace(locate=lambda _: tmp_path), layers=1)
        folder = entry.locate("some")
        entry.locate("some")
        assert len(made) == 1
        path = folder / file
        path.write_text(path.read_text().replace("o", "0"))
        assert entry.locate("some") == folder
        assert len(made) == 2
        assert "0" not in path.read_text().partition(" ")[0]


@pytest.mark.slow
def test_natural_questions_add_markup(
    roberta: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path))
    model = load_model("embedded-roberta", task="natural_questions", device="cpu")
    n_before = len(roberta.tokenizer)
    expected = list(range(n_before, n_before + len(MARKUP)))
    assert markup_ids(model.tokenizer.backend_tokenizer) == expected
    assert len(model.get_input_embeddings().weight) == n_before + len(MARKUP)
