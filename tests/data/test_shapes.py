"""Files as other languages and tools have them go from disk to scored answers."""

# ruff: noqa: RUF001 - their own punctuation
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import qaprune_lib as qp
from qaprune_lib.cli import main
from tests.models.tiny import tiny_model

GERMAN = "Der Turm in Zürich wurde 1880 von Ada Berg gebaut. Er ist 93,5 Meter hoch."
KOREAN = "서울특별시는 대한민국의 수도이다. 한강이 도시를 가로지른다."
CHINESE = "东京塔建成于1958年，高度为333米。"


def answer(context: str, text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, "answer_start": context.index(text), **more}


# (paragraphs, file name): what is peculiar to each is that which must not disturb
GERMANQUAD: dict[str, Any] = {  # integer ids, no titles, no version, categories
    "data": [{"paragraphs": [{
        "context": GERMAN,
        "document_id": 38_001 + number,
        "qas": [
            {"id": 44_000 + number, "question": "Wann wurde der Turm gebaut?", "answers": [
                answer(GERMAN, "1880", answer_id=51_000, document_id=38_001),
                answer(GERMAN, "wurde 1880", answer_id=51_001, document_id=38_001),
            ], "is_impossible": False},
        ]}]} for number in range(2)],
}  # fmt: skip
KORQUAD: dict[str, Any] = {  # a version of its own, ids as in SQuAD 1.1, no is_impossible
    "version": "KorQuAD_v1.0_dev",
    "data": [{"title": "서울", "paragraphs": [{"context": KOREAN, "qas": [
        {"id": "6548850-0-0", "question": "한국의 수도는?",
         "answers": [answer(KOREAN, "서울특별시")]},
        {"id": "6548850-0-1", "question": "무엇이 가로지르는가?",
         "answers": [answer(KOREAN, "한강")]},
    ]}]}],
}  # fmt: skip
CMRC: dict[str, Any] = {  # ids at every level, the same answer several times
    "version": "v1.0",
    "data": [{"title": "东京塔", "id": "DEV_0", "paragraphs": [
        {"id": "DEV_0", "context": CHINESE, "qas": [
            {"question": "高度是多少？", "id": "DEV_0_QUERY_0",
             "answers": [answer(CHINESE, "333米")] * 3}]}]}],
}  # fmt: skip
DRCD: dict[str, Any] = {  # ids with several hyphens, an id beside the title
    "version": "1.3",
    "data": [{"title": "東京", "id": "1147", "paragraphs": [{"context": CHINESE, "id": "1147-5",
        "qas": [{"id": "1147-5-1", "question": "何時建成？",
                 "answers": [answer(CHINESE, "1958年", id="1")]}]}]}],
}  # fmt: skip
TOOL: dict[str, Any] = {  # an annotation tool: null titles, and every way to say "no answer"
    "data": [{"title": None, "paragraphs": [{"context": GERMAN, "document_id": 7, "qas": [
        {"question": "Wie hoch?", "id": 1, "answers": [answer(GERMAN, "93,5 Meter")]},
        {"question": "Warum?", "id": 2, "answers": [{"text": "", "answer_start": -1}]},
        {"question": "Wo?", "id": 3, "answers": [], "is_impossible": True},
        {"question": "Wer?", "id": 4, "answers": []},
    ]}]}],
}  # fmt: skip
SHAPES = {
    "GermanQuAD_test.json": (GERMANQUAD, 2, 0),
    "KorQuAD_v1.0_dev.json": (KORQUAD, 2, 0),
    "cmrc2018_dev.json": (CMRC, 1, 0),
    "DRCD_test.json": (DRCD, 1, 0),
    "answers-val.json": (TOOL, 1, 3),
}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("bert").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", SHAPES)
def test_from_file_to_scored_answers(
    tmp_path: Path, name: str, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, n_answered, n_unanswered = SHAPES[name]
    file = tmp_path / name
    file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    ((split, rows),) = qp.load_squad(file).items()
    assert split == "dev"
    model = qp.finetune(qp.load_model(model_folder), rows, max_steps=1, windows=qp.Windows(64))
    result = qp.evaluate(model, rows, progress=False)
    scores = result.at_zero
    assert (scores.HasAns_total, scores.NoAns_total) == (n_answered, n_unanswered)
    best = qp.predict(model, rows, n_best=3, progress=False)
    assert [answers.id for answers in best] == [str(q["id"]) for q in _asked(content)]
    assert all(0 < sum(s.probability for s in answers.n_best) < 1 for answers in best)
    capsys.readouterr()
    assert main(["evaluate", str(model_folder), str(file), "--max-length", "64"]) == 0
    assert json.loads(capsys.readouterr().out)["at_zero"]["total"] == len(rows)
    as_table = tmp_path / "dev.parquet"
    rows.to_parquet(as_table)
    assert qp.load_squad(as_table)["dev"].to_list() == rows.to_list()


def _asked(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [q for article in content["data"] for part in article["paragraphs"] for q in part["qas"]]
