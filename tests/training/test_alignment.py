"""A teacher with another tokenizer, against an alignment character by character."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.data.features import make_features
from qaprune_lib.data.tasks import SQUAD
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.evaluation.logits import window_logits
from qaprune_lib.models import load_model
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.packaged import PACKAGED
from qaprune_lib.training import retrain
from qaprune_lib.training.alignment import align_pages, align_windows
from qaprune_lib.training.teacher import NO_MASS, aligned_logits, carry
from tests.data.test_features import SCRIPTS, TOKENIZERS
from tests.models.tiny import tiny_model
from tests.quick import at_most
from tests.training.toy import WINDOWS, small_bert, toy_questions, toy_windows
from tests.training.toy_pages import TRAINING, small_reader, toy_features, toy_natural_questions

KINDS = list(TOKENIZERS)
TEXTS = st.lists(
    st.sampled_from([*SCRIPTS, "internationally (1843)", "e=mc²", "naïve"]), min_size=1
)
NO_ANSWER: dict[str, Any] = {"text": [], "answer_start": []}


def rows(questions: list[str], contexts: list[str]) -> Dataset:
    return Dataset.from_dict(
        {
            "id": [str(n) for n in range(len(contexts))],
            "question": questions,
            "context": contexts,
            "answers": [NO_ANSWER] * len(contexts),
        }
    )


@cache
def cutter_of(kind: str) -> WindowCutter:
    return WindowCutter(SQUAD, TOKENIZERS[kind], Windows(384))


def windows_of(dataset: Dataset, kind: str, max_length: int) -> Dataset:
    cutter = cutter_of(kind)
    cutter.windows = Windows(max_length, 7, 12)
    return Dataset(pa.concat_tables(cutter(0, dataset[:])))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=at_most(10))
@given(question=TEXTS, context=TEXTS, max_length=st.integers(24, 60))
def test_a_tokenizer_is_aligned_to_itself_one_to_one(
    kind: str, question: list[str], context: list[str], max_length: int
) -> None:
    dataset = rows([" ".join(question)], [" ".join(context)])
    features = windows_of(dataset, kind, max_length)
    tokenizer = TOKENIZERS[kind]
    for row, window in zip(
        features, align_windows(features, dataset, tokenizer, tokenizer), strict=True
    ):
        assert window.input_ids.tolist() == row["input_ids"]
        assert window.token_type_ids.tolist() == row["token_type_ids"]
        assert window.start.tolist() == window.end.tolist() == list(range(row["length"]))


@pytest.mark.parametrize("ours", KINDS)
@pytest.mark.parametrize("theirs", KINDS[:2] + KINDS[3:])  # trimmed offsets of a blank are none
def test_starts_and_ends_go_to_the_tokens_that_hold_them(ours: str, theirs: str) -> None:
    text = "Unbelievably, internationally (1843-44) she wrote naive e-mails."
    dataset = rows(["Who wrote?", "Is it so?"], [f"{text} {text}", "A b c."])
    features = windows_of(dataset, ours, 30)
    assert len(features) > 2
    student, teacher = TOKENIZERS[ours], TOKENIZERS[theirs]
    middle = len(teacher("a", "b")["input_ids"]) - 4
    for row, window in zip(
        features, align_windows(features, dataset, student, teacher), strict=True
    ):
        source = dataset[row["example_index"]]
        tokens = list(zip(row["token_start"], row["token_end"], strict=True))
        shift = row["context_start"]
        # by hand: the teacher's tokens whose characters the window holds
        whole = teacher(source["context"], add_special_tokens=False, return_offsets_mapping=True)
        wanted = []
        for token, (a, b) in zip(whole["input_ids"], whole["offset_mapping"], strict=True):
            if source["context"][a] == " " and b > a + 1:
                a += 1  # the blank before a word
            if tokens[0][0] <= a and b <= tokens[-1][1]:
                start = max(p for p, (first, _) in enumerate(tokens) if first <= a)
                end = min(p for p, (_, last) in enumerate(tokens) if last >= b)
                wanted.append((token, start + shift, end + shift))
                if source["context"][a:b] != " ":
                    assert tokens[start][0] <= a < tokens[start][1]
                    assert tokens[end][0] < b <= tokens[end][1]
        first = len(window.input_ids) - len(wanted) - 1
        columns = (window.input_ids, window.start, window.end)
        found = zip(*(column[first:-1].tolist() for column in columns), strict=True)
        assert list(found) == wanted
        asked = teacher(source["question"], add_special_tokens=False)["input_ids"]
        assert window.input_ids[1 : first - middle].tolist() == asked
        assert window.start[0] == window.end[0] == 0
        assert window.start[-1] == window.end[-1] == row["length"] - 1


def test_mass_adds_up_and_is_nowhere_else() -> None:
    logits = np.array([1.0, 2.0, 0.5, -3.0], np.float32)
    places = np.array([0, 2, 2, 3])
    found = carry(logits, places, 5)
    expected = [1.0, np.log(np.exp(2.0) + np.exp(0.5)), -3.0]
    np.testing.assert_allclose(found[[0, 2, 3]], expected, rtol=1e-6)
    assert found[[1, 4]].tolist() == [NO_MASS, NO_MASS]
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.exp(found).sum(), np.exp(logits).sum(), rtol=1e-6)


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_a_teacher_aligned_to_itself_says_what_it_says(architecture: str) -> None:
    teacher, questions = tiny_model(architecture), toy_questions(8)
    features = toy_windows(teacher, questions)
    aligned = aligned_logits(features, questions, teacher.tokenizer, teacher, progress=False)
    assert_equal(aligned, window_logits(teacher, features, progress=False))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_student_learns_from_a_teacher_with_another_tokenizer(temperature: float) -> None:
    from qaprune_lib.training import Distillation

    questions = toy_questions(12)
    student = small_bert()
    for teacher in (tiny_model("mpnet"), tiny_model("roberta", max_position_embeddings=200)):
        trained = retrain(
            student,
            questions,
            teacher=teacher,
            distillation=Distillation(temperature=temperature),
            batch_size=4,
            epochs=8,
            learning_rate=3e-3,
            **WINDOWS,
        )
        losses = np.array(trained.training_report.losses)
        assert np.isfinite(losses).all()
        assert losses[-8:].mean() < 0.9 * losses[:4].mean()


def test_windows_that_are_too_long_for_the_teacher() -> None:
    teacher = tiny_model("roberta", max_position_embeddings=30)
    assert Encoder(teacher).longest_input() == 28
    assert Encoder(tiny_model("bert")).longest_input() == 80
    with pytest.raises(SettingsError, match=r"a window takes \d+ of the teacher's tokens.* 28"):
        retrain(small_bert(), toy_questions(8), teacher=teacher, **WINDOWS)


@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_a_teacher_of_natural_questions_aligned_to_itself(architecture: str, tmp_path: Any) -> None:
    examples = toy_natural_questions(tmp_path, 10)
    teacher = small_reader(architecture)
    features = toy_features(teacher, examples)
    aligned = aligned_logits(features, examples, teacher.tokenizer, teacher, progress=False)
    assert_equal(aligned, window_logits(teacher, features, progress=False))
    (window, *_) = align_pages(features, examples, teacher.tokenizer, teacher.tokenizer)
    assert window.input_ids.tolist() == features[0]["input_ids"]


@pytest.mark.parametrize(("ours", "theirs"), [("bert", "roberta"), ("roberta", "mpnet")])
def test_words_of_pages_go_to_themselves(ours: str, theirs: str, tmp_path: Any) -> None:
    examples = toy_natural_questions(tmp_path, 10)
    student, teacher = (tiny_model(a, task="natural_questions") for a in (ours, theirs))
    features = toy_features(student, examples, null_rate=1.0)
    listed = list(examples)
    whole = make_features(examples, teacher.tokenizer, Windows(200, 200))
    windows = list(align_pages(features, examples, student.tokenizer, teacher.tokenizer))
    assert len(windows) == len(features) > 15
    for row, window in zip(features, windows, strict=True):
        full = whole[row["example_index"]]
        places = np.array(full["document_token"])
        context = np.array(full["input_ids"])[full["context_start"] :][: len(places)]
        n_head = len(window.input_ids) - 1
        source = np.array(row["document_token"])
        shift = row["context_start"]
        # the teacher's tokens of the words that lie in the window as a whole
        inner = list(dict.fromkeys(source[source >= 0].tolist()))[1:-1]
        text = listed[row["example_index"]].tokens
        assert all(text[w][0] != "<" for w in inner)
        for word in inner:
            (ids,) = [context[places == word]]
            mine = np.flatnonzero(source == word) + shift
            found = [
                at
                for at in range(n_head)
                if window.input_ids[at : at + len(ids)].tolist() == ids.tolist()
                and window.start[at] == mine[0]
                and window.end[at + len(ids) - 1] == mine[-1]
            ]
            assert found, text[word]
        assert (window.start < row["length"]).all()
        assert (np.diff(window.start) >= 0).all()
        assert (np.diff(window.end) >= 0).all()


def test_a_student_of_natural_questions_learns_from_another_tokenizer(tmp_path: Any) -> None:
    examples = toy_natural_questions(tmp_path, 12)
    teacher = small_reader("roberta", max_position_embeddings=200)
    trained = retrain(
        small_reader(), examples, teacher=teacher, batch_size=8, epochs=12, learning_rate=3e-3,
        **TRAINING,
    )  # fmt: skip
    losses = np.array(trained.training_report.losses)
    assert np.isfinite(losses).all()
    assert losses[-8:].mean() < 0.8 * losses[:4].mean()


def test_mpnet_and_minilm_cut_the_same_text(tmp_path: Any) -> None:
    """Their vocabularies differ in ids alone, so that each token has its counterpart."""
    try:
        PACKAGED["mpnet-base"].locate("mpnet-base")
    except ModelError as error:
        pytest.skip(str(error))
    teacher = load_model("mpnet-base", layers=1, device="cpu")
    student = load_model("embedded", layers=1, device="cpu")
    dataset = toy_questions(6)
    features = make_features(dataset, student.tokenizer, **WINDOWS, cache_dir=tmp_path)
    with torch.no_grad():
        for row, window in zip(
            features,
            align_windows(features, dataset, student.tokenizer, teacher.tokenizer),
            strict=True,
        ):
            context = slice(row["context_start"], -1)
            ours = student.tokenizer.convert_ids_to_tokens(row["input_ids"][context])
            ids = window.input_ids[row["context_start"] + 1 : -1].tolist()
            assert teacher.tokenizer.convert_ids_to_tokens(ids) == ours
