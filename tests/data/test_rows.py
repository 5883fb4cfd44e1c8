"""Rows that were changed in memory, windows of every text, and what is said of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st

import qaprune_lib as qp
from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions.documents import NATURAL_QUESTIONS
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.sources import Fault
from qaprune_lib.data.squad.questions import data_digest
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError, SettingsError
from qaprune_lib.evaluation import Prediction, fit_threshold, score_predictions
from qaprune_lib.scorers.registry import SCORERS
from qaprune_lib.training.settings import TrainingSettings
from tests.data.pages import annotation, original, page, simplified
from tests.data.test_features import TOKENIZERS, questions
from tests.data.test_natural_questions_features import MINILM
from tests.models.tiny import tiny_model
from tests.quick import at_most

CONTEXT = "  The café was built in 1880 by Ada Berg, and sold in 1902."
ROW = ("When was it built?", CONTEXT, CONTEXT.index("1880"), CONTEXT.index("1880") + 4)
TOKENIZER = TOKENIZERS["wordpiece"]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model("bert")


def changed(**values: Any) -> Dataset:
    """Rows whose second one has other values."""
    good, other = questions(ROW, ROW).to_list()
    return Dataset.from_list([good, other | values])


Change = tuple[dict[str, Any], str]
CHANGES: dict[str, Change] = {
    "a stripped context": ({"context": CONTEXT.strip()}, "'1880' is not at .* where '80 b'"),
    "an edited context": ({"context": CONTEXT.replace("was ", "")}, "'1880' is not at"),
    "an offset past the end": ({"answers": {"text": ["1880"], "answer_start": [999]}}, "at 999"),
    "a negative offset": ({"answers": {"text": ["1902"], "answer_start": [-5]}}, "at -5, outside"),
    "a second answer": (
        {"answers": {"text": ["1880", "Ada"], "answer_start": [ROW[2], 0]}},
        "'Ada' is not at offset 0",
    ),
    "uneven lists": ({"answers": {"text": ["1880"], "answer_start": []}}, "equal lengths"),
    "a text of white space": ({"answers": {"text": [" "], "answer_start": [0]}}, "answer is empty"),
    "no text": ({"answers": {"text": [None], "answer_start": [0]}}, "no text with an offset"),
    "no context": ({"context": None}, "the context is empty: None"),
    "no question": ({"question": " "}, "the question is empty"),
    "another form": (
        {"context": unicodedata.normalize("NFD", CONTEXT), "answers": {
            "text": ["café"], "answer_start": [CONTEXT.index("café")]}},
        r"where 'caf.+' stands - .*U\+00E9 against U\+0065 U\+0301 at character 3.*normalize",
    ),
    "compatibility characters": (
        {"context": "Sold for 5 ﬁne coins", "answers": {"text": ["fine"], "answer_start": [11]}},
        r"U\+0066 U\+0069 against U\+FB01",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_rows_are_never_trained_on(tmp_path: Path, kind: str) -> None:
    values, says = CHANGES[kind]
    for training in (True, False):
        with pytest.raises(DataError, match=f"question '1': .*{says}"):
            make_features(changed(**values), TOKENIZER, training=training, cache_dir=tmp_path)


@given(st.text(max_size=5), st.integers(-3, 70), st.integers(0, 10))
@settings(max_examples=at_most(60))
def test_any_edit_of_a_context_is_noticed_or_harmless(text: str, at: int, cut: int) -> None:
    at = at % len(CONTEXT)
    context = CONTEXT[:at] + text + CONTEXT[at + cut :]
    try:
        data_digest(changed(context=context))
    except DataError as error:
        assert "question '1'" in str(error)  # noqa: PT017
    else:
        assert context[ROW[2] : ROW[3]] == "1880"


@pytest.mark.parametrize("answers", [None, "a list of objects"])
def test_answers_of_another_shape(tmp_path: Path, answers: Any) -> None:
    given: Any = answers and [{"text": "1880", "answer_start": ROW[2]}]
    rows = Dataset.from_list([row | {"answers": given} for row in questions(ROW, ROW).to_list()])
    make = lambda **how: make_features(rows, TOKENIZER, cache_dir=tmp_path, **how)  # noqa: E731
    if given:
        with pytest.raises(DataError, match=r"question '0': answers are not \{'text'"):
            make()
        return
    assert make()["start_position"][:] == [0, 0]  # to predict from
    with pytest.raises(DataError, match=r"2 questions have no answers to train on.* question '0'"):
        make(training=True)


def test_offsets_may_be_numbers_of_any_type(tmp_path: Path) -> None:
    """As a column becomes in pandas, when some row has none."""
    plain = questions(ROW, ROW)
    given = [float(ROW[2])]
    rows = [row | {"answers": {"text": ["1880"], "answer_start": given}} for row in plain.to_list()]
    windows = make_features(Dataset.from_list(rows), TOKENIZER, training=True, cache_dir=tmp_path)
    assert windows.to_list() == make_features(plain, TOKENIZER, cache_dir=tmp_path).to_list()
    assert data_digest(Dataset.from_list(rows)) == data_digest(plain)


def test_rows_without_answers_are_predicted_and_not_scored(model: Any) -> None:
    rows = questions(ROW, ROW).remove_columns("answers")
    found = qp.predict(model, rows, progress=False)
    assert found == qp.predict(model, questions(ROW, ROW), progress=False)
    with pytest.raises(DataError, match=r"2 questions have no answers to score against.*'0'"):
        qp.evaluate(model, rows, progress=False)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_an_answer_longer_than_any_window_is_said(tmp_path: Path, num_proc: int) -> None:
    long = ("Who?", "word " * 60, 0, 299)
    rows = questions(ROW, long, ("Who?", "word " * 5, 0, 4), long)
    for _ in range(2):  # made, and read from the disk
        with pytest.warns(UserWarning, match=r"2 questions have .*question '1', an answer of 60 "):
            make_features(
                rows, TOKENIZER, Windows(48), training=True, num_proc=num_proc, cache_dir=tmp_path
            )


def heldout_rows(sizes: list[int], folder: Path) -> Path:
    rows = [
        {"id": f"{n} {at}", "title": str(n), "context": f"{n} {at}", "question": "?", "answers": []}
        for n, size in enumerate(sizes)
        for at in range(size)
    ]
    Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    return folder / "train.parquet"


@pytest.mark.parametrize(
    ("sizes", "fits"), [([97, 3], 0.03), ([90, 10], 0.1), ([10, 30, 65], 0.095)]
)
def test_the_share_of_questions_is_kept_or_refused(
    tmp_path: Path, sizes: list[int], fits: float
) -> None:
    file = heldout_rows(sizes, tmp_path)
    for seed in range(4):
        if abs(fits - 0.1) > 0.05:
            with pytest.raises(DataError, match=r"the largest of 97 of 100 .*paragraph"):
                qp.load_squad(file, seed=seed)
        else:
            held = qp.load_squad(file, seed=seed)["heldout"]
            assert len(held) / sum(sizes) == pytest.approx(fits, abs=0.01)
        by_paragraph = qp.load_squad(file, seed=seed, heldout_by="paragraph")
        assert len(by_paragraph["heldout"]) / sum(sizes) == pytest.approx(0.1, abs=0.01)


def test_the_original_format_says_what_is_markup() -> None:
    """The simplified format can only be judged by the look of a token."""
    tokens, candidates = page(("P", "the tag <B> is bold"), ("P", "more"))
    raw = simplified(1, tokens, candidates, [annotation(candidates, 0)])
    told = original(raw)
    for token in told["document_tokens"]:
        token["html_token"] = token["token"] in ("<P>", "</P>", "<H1>", "</H1>", "is")
    cutter = WindowCutter(NATURAL_QUESTIONS, MINILM, Windows(64))
    by_source = {
        name: [
            MINILM.decode(ids[table["context_start"][0].as_py() :])
            for table in cutter(0, [read_example(source)])
            for ids in table["input_ids"].to_pylist()
        ]
        for name, source in (("look", raw), ("told", told))
    }
    told["document_tokens"][3].pop("html_token")
    with pytest.raises(Fault, match=r"document_tokens\[3\]: html_token is missing, where other"):
        read_example(told)
    assert "< b >" not in by_source["look"][0]
    assert " is " in by_source["look"][0]
    assert "the tag < b > bold" in by_source["told"][0]


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "finetune": qp.finetune,
    "retrain": qp.retrain,
    "predict": qp.predict,
    "evaluate": qp.evaluate,
    "threshold_from": lambda model, data: qp.evaluate(model, questions(ROW), data),
    "time_decoding": lambda model, data: qp.time_decoding([model], data),
    "predict_natural_questions": qp.predict_natural_questions,
    "make_features": lambda model, data: make_features(data, model.tokenizer),
    "score_predictions": lambda _, data: score_predictions(data, []),
    "fit_threshold": lambda _, data: fit_threshold(data, []),
    "gain": qp.scorers.gain,
    "fisher": qp.scorers.fisher,
    "surgeon": qp.scorers.surgeon,
    "leave_one_out": qp.scorers.leave_one_out,
    "l0": lambda model, data: qp.scorers.l0(model, data, penalty={"attn": 1.0}),
}
NO_QUESTIONS: dict[str, tuple[Any, str]] = {
    "a name": ("dev.json", r"load_squad\('dev\.json'\)\[\"train\"\]"),
    "a path": (Path("a/dev.json"), "load_squad"),
    "all splits": (DatasetDict(train=questions(ROW)), r"splits \['train'\].*data\['train'\]"),
    "a list of rows": (questions(ROW).to_list(), "from_list"),
    "columns": (questions(ROW).to_dict(), "from_dict"),
    "a frame": (pd.DataFrame({"question": ["Who?"]}), "from_pandas"),
    "None": (None, "NoneType is no set of questions"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("given", NO_QUESTIONS)
def test_what_is_no_set_of_questions_is_named(model: Any, call: str, given: str) -> None:
    data, says = NO_QUESTIONS[given]
    if call == "threshold_from" and data is None:
        return  # what it is by default
    if given == "columns" and call in ("score_predictions", "fit_threshold"):
        return  # which take any columns
    with pytest.raises(DataError, match=f"no set of questions.*{says}|{says}.*"):
        list(CALLS[call](model, data))


def test_every_scorer_that_reads_questions_is_among_the_calls() -> None:
    assert {*SCORERS} - {"random"} <= {*CALLS}


WHOLE = [np.int64(64), np.int32(64), 64.0, np.float32(64), torch.tensor(64)]


@pytest.mark.parametrize("size", WHOLE)
def test_counts_may_be_any_kind_of_whole_number(size: Any, model: Any) -> None:
    assert repr(Windows(size)) == repr(Windows(64))
    assert repr(TrainingSettings(max_steps=size, seed=size)) == repr(
        TrainingSettings(max_steps=64, seed=64)
    )
    rows = questions(ROW)
    one = qp.predict(model, rows, max_answer_length=size, max_tokens=size, n_best=size)
    assert one == qp.predict(model, rows, max_answer_length=64, max_tokens=64, n_best=64)
    assert (
        len(qp.time_decoding([model], rows, repeats=size // 32, max_questions=size)[0].rounds) == 2
    )


@pytest.mark.parametrize("size", [64.5, "64", True, float("inf"), np.float64("nan"), 0])
def test_other_numbers_are_refused(size: Any, model: Any) -> None:
    for name in ("max_answer_length", "max_tokens", "n_best"):
        with pytest.raises(SettingsError, match=f"{name}=.*integer of at least 1"):
            qp.predict(model, questions(ROW), **{name: size})
    with pytest.raises(SettingsError, match=r"epochs=.*integer"):
        TrainingSettings(epochs=size)
    with pytest.raises(SettingsError, match=r"seed=an? .*too large to print.*integer from 0"):
        TrainingSettings(seed=10**5000)


@pytest.mark.parametrize("call", [name for name in CALLS if name not in (
    "make_features", "score_predictions", "fit_threshold", "threshold_from",
    "predict_natural_questions")] + ["ask"])  # fmt: skip
def test_windows_beyond_the_positions_are_named_before_any_is_cut(
    call: str, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WindowCutter, "__init__", lambda *_: pytest.fail("windows are cut"))
    calls: dict[str, Callable[..., Any]] = {
        **CALLS,
        "ask": lambda model, _, **how: qp.ask(model, "Who?", CONTEXT, **how),
        "time_decoding": lambda model, data, **how: qp.time_decoding([model], data, **how),
        "l0": lambda *given, **how: qp.scorers.l0(*given, penalty={"attn": 1.0}, **how),
    }
    with pytest.raises(SettingsError, match="max_length=81 is more than the 80 positions"):
        calls[call](model, questions(ROW), windows=Windows(81))


def test_windows_beyond_the_teachers_positions_are_named(model: Any) -> None:
    student = tiny_model("bert", max_position_embeddings=96)
    with pytest.raises(SettingsError, match="max_length=90 is more than the 80 positions"):
        qp.retrain(student, questions(ROW), teacher=model, windows=Windows(90))


def test_a_question_that_fills_its_window_is_named(model: Any) -> None:
    rows = questions(ROW, ("why " * 70, CONTEXT, 0, 0))
    for call in (qp.predict, qp.finetune, qp.scorers.gain):
        with pytest.raises(SettingsError, match=r"question '1': max_length=60 .*64 tokens.*last"):
            call(model, rows, windows=Windows(60))
    answers = qp.predict(model, rows, windows=Windows(60, max_question_length=20), progress=False)
    assert len(answers) == 2


def test_ids_that_differ_in_form_alone_are_shown() -> None:
    with pytest.raises(DataError, match=r"U\+00E9 against U\+0065 U\+0301"):
        score_predictions(
            Dataset.from_dict({"id": ["é"], "answers": [{"text": ["a"], "answer_start": [0]}]}),
            [Prediction("e\u0301", "a", 0, 1, 0.0, 0.0)],
        )
