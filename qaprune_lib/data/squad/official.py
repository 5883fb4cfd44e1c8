"""What a SQuAD question must be, and the reading of questions that are."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import datasets
import pyarrow as pa
from datasets import Dataset, Features, List, Value
from pydantic import ValidationError

from qaprune_lib.data.sources import Fault, Faults, OnBad, Strict, Text, first_error, short
from qaprune_lib.errors import DataError

Version = Literal["1.1", "2.0"]

SQUAD_FEATURES = Features(
    {
        "id": Value("string"),
        "title": Value("string"),
        "context": Value("string"),
        "question": Value("string"),
        "answers": {"text": List(Value("string")), "answer_start": List(Value("int32"))},
    }
)
DOWNLOAD = (
    "download the official JSON files (https://rajpurkar.github.io/SQuAD-explorer/) "
    "and pass their folder"
)


class _Answer(Strict):
    text: Text
    answer_start: int


class _Question(Strict):
    id: Text
    question: Text
    answers: list[_Answer]
    is_impossible: bool = False


class _Paragraph(Strict):
    context: Text
    qas: list[Any]  # each is checked by itself, so that one bad question can be dropped


class _Article(Strict):
    title: Text
    paragraphs: list[_Paragraph]


class _File(Strict):
    version: str | None = None
    data: list[_Article]


class Questions:
    """The good questions of one file."""

    def __init__(self, file: str, version: str | None, on_bad: OnBad) -> None:
        self.file, self.version, self.faults = file, version, Faults(on_bad)
        self.columns: dict[str, list[Any]] = {name: [] for name in SQUAD_FEATURES}
        self.ids: set[str] = set()

    def add(self, title: str, context: str, number: int, raw: Any) -> None:
        """Check one question in the official form and keep it."""
        try:
            question = self._checked(context, raw)
        except Fault as fault:
            identity = raw.get("id") if isinstance(raw, dict) else None
            name = f"number {number} of its paragraph" if identity is None else repr(identity)
            self.faults.add(f"{self.file}: article {title!r}, question {name}: {fault.what}.")
            return
        self.ids.add(question.id)
        answers = {
            "text": [answer.text for answer in question.answers],
            "answer_start": [answer.answer_start for answer in question.answers],
        }
        row = (question.id, title, context, question.question, answers)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)

    def _checked(self, context: str, raw: Any) -> _Question:
        try:
            question = _Question.model_validate(raw)
        except ValidationError as error:
            raise Fault(first_error(error)) from error
        if not question.id:
            raise Fault("the id is empty")
        if question.id in self.ids:
            raise Fault("an earlier question has the same id")
        if not context.strip():
            raise Fault(f"the context is empty: {context!r}")
        if not question.question.strip():
            raise Fault(f"the question is empty: {question.question!r}")
        if question.is_impossible and self.version == "1.1":
            raise Fault("it has no answer, which SQuAD 1.1 does not know")
        if question.is_impossible and question.answers:
            answer = short(question.answers[0].text)
            raise Fault(f"is_impossible is true, but an answer stands there: {answer}")
        if not question.is_impossible and not question.answers:
            raise Fault("it has no answers, but is not marked is_impossible")
        for start, text in ((answer.answer_start, answer.text) for answer in question.answers):
            if not text.strip():
                raise Fault(f"an answer is empty: {text!r} at {start}")
            if not 0 <= start < len(context):
                raise Fault(
                    f"answer {short(text)} is said to start at {start}, outside of the context "
                    f"of {len(context)} characters"
                )
            if not context.startswith(text, start):
                found = short(context[start : start + len(text)])
                raise Fault(f"answer {short(text)} is not at offset {start}, where {found} stands")
        return question

    def dataset(self) -> Dataset:
        """The questions that were kept; the description says how many were not."""
        self.faults.report(self.file, len(self.ids), stacklevel=4)
        info = datasets.DatasetInfo(
            description=f"{len(self.ids)} questions read, {self.faults.count} bad questions "
            f"dropped",
            features=SQUAD_FEATURES,
        )
        return Dataset(pa.table(self.columns, schema=SQUAD_FEATURES.arrow_schema), info=info)


def load_json(file: Path) -> Any:
    """The content of a JSON file, plain or gzipped."""
    try:
        content = file.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    except (EOFError, zlib.error) as error:
        raise DataError(
            f"{file}: the gzip file is truncated or damaged ({error}); download it again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text: byte {error.start}: {error.reason}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}, where "
            f"{short(error.doc[error.pos : error.pos + 40])} stands"
        ) from error


def read_official(raw: Any, file: str, version: Version | None, on_bad: OnBad) -> Questions:
    """Questions from an official SQuAD JSON object."""
    try:
        content = _File.model_validate(raw)
    except ValidationError as error:
        place = error.errors()[0]["loc"]
        article = ""
        if len(place) > 1 and isinstance(raw["data"][place[1]], dict):
            article = f"article {raw['data'][place[1]].get('title')!r}: "
        raise DataError(
            f"{file}: {article}{first_error(error)}. Official SQuAD JSON is {{'version', 'data': "
            f"[{{'title', 'paragraphs': [{{'context', 'qas': [...]}}]}}]}}; {DOWNLOAD}"
        ) from error
    declared = (content.version or "").lstrip("v")
    if version and declared in get_args(Version) and declared != version:
        raise DataError(f"{file}: its version is {content.version}, not the {version} asked for")
    questions = Questions(file, version, on_bad)
    for article_ in content.data:
        for paragraph in article_.paragraphs:
            for number, question in enumerate(paragraph.qas):
                questions.add(article_.title, paragraph.context, number, question)
    return questions


def add_rows(rows: Dataset, questions: Questions) -> None:
    """Add rows in the ``squad_v2`` schema; without an answer they are unanswerable."""
    missing = set(SQUAD_FEATURES) - set(rows.column_names)
    if missing:
        raise DataError(f"{questions.file}: it has no column {', '.join(sorted(missing))}")
    for number, row in enumerate(rows.select_columns(list(SQUAD_FEATURES)).with_format(None)):
        answers = row["answers"]
        try:
            pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(
                f"{questions.file}: row {number}: answers are not {{'text': [...], "
                f"'answer_start': [...]}} of equal lengths: {short(answers)}"
            ) from error
        raw = {
            "id": row["id"],
            "question": row["question"],
            "answers": [{"text": text, "answer_start": start} for text, start in pairs],
            "is_impossible": not pairs,
        }
        questions.add(row["title"], row["context"], number, raw)
