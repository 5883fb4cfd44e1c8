"""What an answer may be, in every script; the best few; long texts; models shared by threads."""

from __future__ import annotations

import time
import tracemalloc
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import regex
import torch
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

import qaprune_lib as qp
from qaprune_lib.data.squad.contexts import SQUAD
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError
from qaprune_lib.evaluation.decode import decode
from tests.data.test_features import SCRIPTS, TOKENIZERS, texts
from tests.models.tiny import TEXT, tiny_model
from tests.quick import at_most

HANGUL = unicodedata.normalize("NFD", "서울특별시는 대한민국의 수도이다.")
QUESTION, CONTEXT = TEXT
BLANK = regex.compile(r"[\s\p{Cc}\p{Default_Ignorable_Code_Point}]+")


def unigram(normalizer: Any) -> PreTrainedTokenizerFast:
    """XLM-RoBERTa's kind: pieces of a normalised text, of which one is a lone space."""
    pieces = sorted(
        {char for text in [*SCRIPTS, HANGUL] for char in normalizer.normalize_str(text)}
    )
    vocabulary = [(piece, -1.0) for piece in ("<pad>", "<s>", "</s>", "<unk>", "▁")]
    vocabulary += [(piece, -2.0) for piece in pieces if not piece.isspace()]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 1), ("</s>", 2)],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", model_input_names=["input_ids"]
    )


ALL_TOKENIZERS = TOKENIZERS | {
    "pieces, NFC": unigram(normalizers.NFC()),
    "pieces, NFKC": unigram(normalizers.NFKC()),
}
CUTTERS = {name: WindowCutter(SQUAD, t, Windows(64, 16)) for name, t in ALL_TOKENIZERS.items()}


@pytest.mark.parametrize("kind", ALL_TOKENIZERS)
@given(context=st.one_of(st.sampled_from([*SCRIPTS, HANGUL]), texts()), seed=st.integers(0, 2**31))
@example(HANGUL, 0)
@example("  東京  タワー  ", 3)
@example("a \u0301b", 1)
@example("\u200b\ufeff \x00 a\u2060 \u3164 \u200f\u00ad", 1)
@settings(max_examples=at_most(60))
def test_answers_are_whole_characters_that_are_seen(kind: str, context: str, seed: int) -> None:
    row = {"id": ["a"], "question": ["who"], "context": [context], "answers": [None]}
    try:
        features = Dataset(pa.concat_tables(CUTTERS[kind](0, row)))
    except DataError as error:
        assert "no token" in str(error)  # noqa: PT017
        return
    random = np.random.default_rng(seed)
    logits = [random.normal(size=(2, size)) for size in features["length"][:]]
    (found,) = decode(Dataset.from_dict(row), features, logits, max_answer_length=4, n_best=5)
    edges = {0}
    for cluster in regex.findall(r"\X", context):
        edges.add(max(edges) + len(cluster))
    for span in (found, *found.n_best):
        assert span.text == context[span.start : span.end] == span.text.strip()
        assert not BLANK.fullmatch(span.text)
        assert {span.start, span.end} <= edges


def brute_force(
    context: str, features: Dataset, logits: list[np.ndarray], width: int
) -> list[tuple[float, int, int]]:
    best: dict[tuple[int, int], float] = {}
    for window, (start, end) in zip(features, logits, strict=True):
        offset, left, right = (window[n] for n in ("context_start", "token_start", "token_end"))
        for i in range(len(left)):
            for j in range(i, min(len(left), i + width)):
                if not any(
                    context[left[k]].isspace() or BLANK.fullmatch(context, left[k], right[k])
                    for k in (i, j)
                ):
                    score = float(start[offset + i]) + float(end[offset + j])
                    place = left[i], right[j]
                    best[place] = max(best.get(place, -np.inf), score)
    return sorted(((s, *place) for place, s in best.items()), key=lambda span: -span[0])


@pytest.mark.parametrize("kind", ["wordpiece", "bytes, untrimmed", "pieces, NFC"])
@given(context=texts(), seed=st.integers(0, 99), n_best=st.integers(1, 30), width=st.integers(1, 9))
@settings(max_examples=at_most(30))
def test_the_best_few_equal_a_search_over_all(
    kind: str, context: str, seed: int, n_best: int, width: int
) -> None:
    context = f"{context} and 東京 \u200d👩‍👩‍👧 end"
    row = {"id": ["a"], "question": ["who"], "context": [context], "answers": [None]}
    features = Dataset(pa.concat_tables(CUTTERS[kind](0, row)))
    random = np.random.default_rng(seed)
    logits = [random.normal(size=(2, size)) for size in features["length"][:]]
    (found,) = decode(
        Dataset.from_dict(row), features, logits, max_answer_length=width, n_best=n_best
    )
    expected = brute_force(context, features, logits, width)[:n_best]
    assert [(span.score, span.start, span.end) for span in found.n_best] == expected
    assert (found.score, found.start, found.end) == expected[0]
    shares = np.exp([*(score for score, *_ in expected), found.null_score])
    assert [span.probability for span in found.n_best] == pytest.approx(
        (shares / shares.sum())[:-1].tolist()
    )


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("bert", trained=True)


def test_a_list_of_questions(model: Any) -> None:
    asked, other = [QUESTION, "Who?", QUESTION], CONTEXT[:20]
    contexts = [CONTEXT, CONTEXT, other]
    expected = [qp.ask(model, q, c, n_best=3) for q, c in zip(asked, contexts, strict=True)]
    assert qp.ask(model, asked, contexts, n_best=3) == expected
    assert qp.ask(model, tuple(asked[:2]), CONTEXT, n_best=3) == expected[:2]
    assert qp.ask(model, [], CONTEXT) == []
    rows = Dataset.from_dict({"id": ["0", "1", "2"], "question": asked, "context": contexts})
    predicted = qp.predict(model, rows, n_best=3, progress=False)
    assert [(p.text, [s.text for s in p.n_best]) for p in predicted] == [
        (a.text, [s.text for s in a.n_best]) for a in expected
    ]


@pytest.mark.parametrize(
    ("question", "context", "says"),
    [
        (["a?", "b?"], ["one", "two", "three"], "2 questions go with .* a list of 3"),
        ("a?", ["one", "two"], "a list of 2"),
        (["a?", ""], "text", "the question is empty"),
        ([1], "text", "the question must be a text, not 1"),
        (None, "text", "the question must be a text or a list"),
        ({"a?": 1}, "text", "the question must be a text or a list"),
        ("a?", b"text", "the context must be a text or a list"),
        ("a\udc00?", "text", "the question is no text: half of a surrogate pair at character 1"),
    ],
)
def test_what_cannot_be_asked(model: Any, question: Any, context: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        qp.ask(model, question, context)


@pytest.mark.slow
def test_a_long_text_is_answered_in_bounded_memory(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaprune_lib.data.windows._TABLE", 5)
    context, windows = f"{'so so ' * 40}{CONTEXT} {'so so ' * 40}", Windows(64, 16)
    in_parts = qp.ask(model, QUESTION, context, windows=windows, n_best=4)
    monkeypatch.setattr("qaprune_lib.data.windows._TABLE", 5000)
    whole = qp.ask(model, QUESTION, context, windows=windows, n_best=4)
    assert (in_parts.text, in_parts.start) == (whole.text, whole.start)
    assert in_parts.start > 5 * 16 + 64  # not in the first part
    assert in_parts.score == pytest.approx(whole.score, abs=1e-4)
    assert in_parts.null_score == pytest.approx(whole.null_score, abs=1e-4)
    assert {s.start for s in in_parts.n_best} == {s.start for s in whole.n_best}

    monkeypatch.setattr("qaprune_lib.data.windows._TABLE", 256)
    seen: list[int] = []
    monkeypatch.setattr(
        "qaprune_lib.evaluation.predict.window_logits",
        lambda _, features, **__: (
            seen.append(len(features))
            or [np.zeros((2, size), np.float32) for size in features["length"][:]]
        ),
    )
    tracemalloc.start()
    qp.ask(model, QUESTION, "a b c d " * 10_000, windows=windows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(seen) == 256
    assert sum(seen) > 2_400
    assert peak < 3e7


def dropping(seed: int = 0) -> Any:
    """A model that was left in training mode, with much dropout."""
    model: Any = tiny_model("bert", seed=seed)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    return model.train()


@pytest.mark.slow
def test_predictions_are_made_in_evaluation_mode_from_every_thread() -> None:
    model = dropping()
    expected = qp.ask(model, QUESTION, CONTEXT)
    modes = {name: module.training for name, module in model.named_modules()}
    switch = model.eval

    def slowly() -> Any:
        switch()
        time.sleep(0.01)  # in which others come

    model.eval = slowly
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: qp.ask(model, QUESTION, CONTEXT), range(60)))
    assert set(found) == {expected}
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.training
