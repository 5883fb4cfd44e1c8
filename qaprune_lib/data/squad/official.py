"""What a SQuAD question must be, and the reading of questions that are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value
from pydantic import BeforeValidator, FailFast, ValidationError

from qaprune_lib.data.files import max_bytes, open_plain, read_bytes, too_large
from qaprune_lib.data.sources import Fault, Faults, OnBad, Strict, Text, first_error
from qaprune_lib.data.unicode_forms import form_hint, same_but_for_form
from qaprune_lib.errors import DataError, integer, real, short

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


def _integral(value: Any) -> Any:
    number = integer(value)
    return value if number is None else number


def _no_number(value: Any) -> Any:
    return value if math.isnan(real(value)) else str(value)


def _no_integer(value: Any) -> Any:
    number = integer(value)
    return value if number is None else str(number)


Name = Annotated[Text, BeforeValidator(_no_integer)]
"""Of a question or an article: tools write numbers too."""


class _Answer(Strict):
    text: Text
    answer_start: Annotated[int, BeforeValidator(_integral)]


class _Question(Strict):
    id: Name
    question: Text
    answers: list[_Answer] | None = None
    is_impossible: bool | None = None


class _Paragraph(Strict):
    context: Text
    qas: list[Any]  # each is checked by itself, so that one bad question can be dropped


class _Article(Strict):
    title: Name | None = None
    paragraphs: Annotated[list[_Paragraph], FailFast()]


class _File(Strict):
    version: Annotated[str | None, BeforeValidator(_no_number)] = None
    data: Annotated[list[_Article], FailFast()]


class Questions:
    """The good questions of one split.

    Args:
        version: asked for.
        on_bad: what to do about a bad question.
    """

    def __init__(self, version: Version | None, on_bad: OnBad) -> None:
        self.file, self.version, self.faults = "", version, Faults(on_bad)
        self.columns: dict[str, list[Any]] = {name: [] for name in SQUAD_FEATURES}
        self.ids: set[str] = set()

    def add(self, title: str, context: str, number: int, raw: Any, *, labelled: bool) -> None:
        """Check one question in the official form and keep it.

        In a file that is not labelled nothing is known of it, and its answers are None.
        """
        try:
            question = self._checked(context, raw, labelled)
        except Fault as fault:
            identity = raw.get("id") if isinstance(raw, dict) else None
            name = f"number {number} of its paragraph" if identity is None else short(identity)
            self.faults.add(f"{self.file}: article {title!r}, question {name}: {fault.what}.")
            return
        self.ids.add(question.id)
        answers = labelled and {
            "text": [answer.text for answer in question.answers or ()],
            "answer_start": [answer.answer_start for answer in question.answers or ()],
        }
        row = (question.id, title, context, question.question, answers or None)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)

    def _checked(self, context: str, raw: Any, labelled: bool) -> _Question:
        try:
            question = _Question.model_validate(raw)
        except ValidationError as error:
            raise Fault(first_error(error)) from error
        if not question.id:
            raise Fault("the id is empty")
        if question.id in self.ids:
            raise Fault("an earlier question has the same id")
        check_texts(context, question.question)
        if not labelled:
            return question
        if question.answers is None and not question.is_impossible:
            raise Fault("answers: missing, where other questions have them")
        # how some tools write that there is none
        given = [
            answer
            for answer in question.answers or ()
            if answer.text or (answer.answer_start != -1 and not question.is_impossible)
        ]
        question.answers = given
        if not given and self.version == "1.1":
            raise Fault("it has no answer, which SQuAD 1.1 does not know")
        if question.is_impossible and given:
            raise Fault(
                f"is_impossible is true, but an answer stands there: {short(given[0].text)}"
            )
        if question.is_impossible is False and not given:
            raise Fault("it has no answers, but is not marked is_impossible")
        check_answers(context, [(answer.text, answer.answer_start) for answer in given])
        return question

    def dataset(self) -> Dataset:
        """The questions that were kept; the description says how many were not."""
        self.faults.report(self.file, len(self.ids))
        info = datasets.DatasetInfo(
            description=f"{len(self.ids)} questions read, {self.faults.count} bad questions "
            f"dropped",
            features=SQUAD_FEATURES,
        )
        return Dataset(pa.table(self.columns, schema=SQUAD_FEATURES.arrow_schema), info=info)


def check_texts(context: Any, question: Any) -> None:
    """Raise Fault for a context or a question that is no text, or an empty one."""
    for name, text in (("context", context), ("question", question)):
        if not isinstance(text, str) or not text.strip():
            raise Fault(f"the {name} is empty: {short(text)}")


def check_answers(context: str, answers: Iterable[tuple[Any, Any]]) -> list[int]:
    """The offsets of answers, given as text and offset, as integers.

    Raises:
        Fault: an answer that does not stand in its context.
    """
    starts = []
    for text, offset in answers:
        start = integer(offset)
        if not isinstance(text, str) or start is None:
            raise Fault(f"an answer is no text with an offset: {short(text)} at {short(offset)}")
        if not text.strip():
            raise Fault(f"an answer is empty: {text!r} at {short(start)}")
        if not 0 <= start < len(context):
            raise Fault(
                f"answer {short(text)} is said to start at {short(start)}, outside of the context "
                f"of {len(context)} characters"
            )
        if not context.startswith(text, start):
            found = same_but_for_form(text, context, start) or context[start : start + len(text)]
            raise Fault(
                f"answer {short(text)} is not at offset {start}, where {short(found)} stands"
                f"{form_hint(text, found)}"
            )
        starts.append(start)
    return starts


def read_file(file: Path, questions: Questions, version: Version | None) -> None:
    """Add the questions of official JSON, plain or gzipped, of Parquet or of an Arrow file."""
    questions.file = str(file)
    if file.suffix.lower() in (".parquet", ".arrow"):
        for table in _tables(file):
            add_rows(table, questions)
    else:
        add_official(load_json(file), questions, version)


def _tables(file: Path) -> Iterator[pa.Table]:
    """Rows of a table on disk, some at a time and at most `max_bytes` of them in all."""
    size = 0
    with open_plain(file, unpack=False) as opened:
        try:
            if file.suffix.lower() == ".parquet":
                batches = pq.ParquetFile(opened).iter_batches(batch_size=100)
            else:
                batches = iter(pa.ipc.open_stream(opened))
            for batch in batches:
                batch.validate(full=True)
                columns = [  # a text that is stored once may stand in every row
                    part.dictionary_decode() if isinstance(part, pa.DictionaryArray) else part
                    for part in batch.columns
                ]
                table = pa.table(columns, names=batch.schema.names)
                size += table.nbytes
                if size > max_bytes():
                    raise too_large(file)
                yield table
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{file}: a damaged {file.suffix[1:]} file: {error}") from error


def load_json(file: Path) -> Any:
    """The content of a JSON file, plain or gzipped."""
    content = read_bytes(file)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text: byte {error.start}: {error.reason}") from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}: not JSON: line {error.lineno}, column {error.colno}: {error.msg}, where "
            f"{short(error.doc[error.pos : error.pos + 40])} stands"
        ) from error
    except (RecursionError, ValueError) as error:  # of thousands of brackets, or of digits
        raise DataError(f"{file}: JSON that no file of questions holds: {error}") from error


def add_official(raw: Any, questions: Questions, version: Version | None = None) -> None:
    """Add the questions of an official SQuAD JSON object.

    Without any answers it is a test file, of which nothing is known.
    """
    file = questions.file
    try:
        content = _File.model_validate(raw)
    except ValidationError as error:
        place = error.errors(include_url=False)[0]["loc"]
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
    asked = [q for article in content.data for part in article.paragraphs for q in part.qas]
    labelled = any(_is_labelled(question) for question in asked)
    for at, article_ in enumerate(content.data):
        title = f"article {at}" if article_.title is None else article_.title
        for paragraph in article_.paragraphs:
            for number, question in enumerate(paragraph.qas):
                questions.add(title, paragraph.context, number, question, labelled=labelled)


def _is_labelled(question: Any) -> bool:
    names = ("answers", "is_impossible")
    return not isinstance(question, dict) or any(question.get(name) is not None for name in names)


def add_rows(table: pa.Table, questions: Questions) -> None:
    """Add rows in the ``squad_v2`` schema; with an empty list of answers they are unanswerable.

    They need no title, and no answers where nothing is known of any of them.
    """
    missing = {"id", "context", "question"} - set(table.column_names)
    if missing:
        raise DataError(
            f"{questions.file}: it has no column {', '.join(sorted(missing))}, but "
            f"{', '.join(table.column_names)}"
        )
    columns = [name for name in SQUAD_FEATURES if name in table.column_names]
    first = len(questions.columns["id"])
    labelled = "answers" in columns and table.column("answers").null_count < len(table)
    for number, row in enumerate(table.select(columns).to_pylist(), first):
        answers = row.get("answers")
        try:
            if isinstance(answers, dict):
                pairs = list(zip(answers["text"], answers["answer_start"], strict=True))
                answers = [{"text": text, "answer_start": start} for text, start in pairs]
        except (TypeError, KeyError, ValueError) as error:
            raise DataError(
                f"{questions.file}: row {number}: answers are not {{'text': [...], "
                f"'answer_start': [...]}} of equal lengths: {short(answers)}"
            ) from error
        raw = {"id": row["id"], "question": row["question"], "answers": answers}
        title = f"row {number}" if row.get("title") is None else _no_integer(row["title"])
        if not isinstance(title, str):
            raise DataError(f"{questions.file}: row {number}: the title is no text: {short(title)}")
        questions.add(title, row["context"], number, raw, labelled=labelled)
