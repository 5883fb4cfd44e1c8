"""What an example of Natural Questions must be, and the reading of examples that are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import FailFast, Field, ValidationError

from qaprune_lib.data.natural_questions.example import Annotation, Candidate, Example, Span, YesNo
from qaprune_lib.data.sources import Fault, Strict, Text, first_error


class _Span(Strict):
    start_token: int
    end_token: int


class _Candidate(_Span):
    top_level: bool


class _Long(_Span):
    candidate_index: int | None = None


class _Annotation(Strict):
    long_answer: _Long
    short_answers: Annotated[list[_Span], Field(strict=False)]
    yes_no_answer: YesNo


class _Token(Strict):
    token: Text
    html_token: bool | None = None


class _Raw(Strict):
    """A line of the simplified (document_text) or of the original format (document_tokens)."""

    example_id: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    question_text: Text
    document_text: Text | None = None
    document_tokens: Annotated[list[_Token], FailFast()] = Field(default_factory=list)
    long_answer_candidates: Annotated[list[_Candidate], FailFast()]
    annotations: Annotated[list[_Annotation], FailFast()] = Field(default_factory=list)


def read_example(raw: bytes | Mapping[str, Any]) -> Example:
    """Check one example, as a line of JSON or as an object in the official form.

    Raises Fault.
    """
    try:
        if isinstance(raw, bytes):
            checked = _Raw.model_validate_json(raw)
        else:
            checked = _Raw.model_validate(raw)
    except ValidationError as error:
        raise _schema_fault(error, raw) from error
    try:
        return _example(checked)
    except Fault as fault:
        fault.identity = checked.example_id
        raise


def _example(raw: _Raw) -> Example:
    if not raw.question_text.strip():
        raise Fault(f"the question is empty: {raw.question_text!r}")
    if (raw.document_text is None) == (not raw.document_tokens):
        raise Fault(
            "it must have either document_text (simplified format) or document_tokens (original)"
        )
    tags = None
    if raw.document_tokens:
        # Blanks inside of tokens become underscores, as in the official simplification.
        text = " ".join(token.token.replace(" ", "_") for token in raw.document_tokens)
        told = [token.html_token is not None for token in raw.document_tokens]
        if not all(told) and any(told):
            raise Fault(f"document_tokens[{told.index(False)}]: html_token is missing, where other "
                        "tokens have it")  # fmt: skip
        if all(told):
            tags = tuple(at for at, token in enumerate(raw.document_tokens) if token.html_token)
    else:
        text = raw.document_text or ""
    if not text.strip():
        raise Fault("the document is empty")
    n_tokens = text.count(" ") + 1
    candidates = tuple(
        Candidate(*_inside(span, n_tokens, "candidate", number), span.top_level)
        for number, span in enumerate(raw.long_answer_candidates)
    )
    _check_nesting(candidates)
    annotations = tuple(
        _annotation(annotation, number, candidates, n_tokens)
        for number, annotation in enumerate(raw.annotations)
    )
    return Example(raw.example_id, raw.question_text, text, candidates, annotations, tags)


def _inside(span: _Span, n_tokens: int, what: str, number: int) -> Span:
    start, end = span.start_token, span.end_token
    if not 0 <= start < end <= n_tokens:
        raise Fault(
            f"{what} {number} has the tokens {start} to {end}, which is no span of a document of "
            f"{n_tokens} tokens"
        )
    return Span(start, end)


def _check_nesting(candidates: Sequence[Candidate]) -> None:
    """Two candidates are apart, or one holds the other and that one is not top-level."""
    order = sorted(
        range(len(candidates)),
        key=lambda i: (candidates[i].start, -candidates[i].end, not candidates[i].top_level),
    )
    around: list[int] = []
    for number in order:
        candidate = candidates[number]
        while around and candidates[around[-1]].end <= candidate.start:
            around.pop()
        if around:
            outer = candidates[around[-1]]
            names = (
                f"candidate {number} (tokens {candidate.start} to {candidate.end}) and candidate "
                f"{around[-1]} (tokens {outer.start} to {outer.end})"
            )
            if candidate.end > outer.end:
                raise Fault(f"{names} overlap, and neither holds the other")
            if candidate.top_level:
                raise Fault(f"{names}: the first is marked top_level but lies inside of the other")
        around.append(number)


def _annotation(
    raw: _Annotation, number: int, candidates: Sequence[Candidate], n_tokens: int
) -> Annotation:
    where = f"annotation {number}"
    if raw.long_answer.start_token < 0 and raw.long_answer.end_token < 0:
        if raw.short_answers or raw.yes_no_answer != "NONE":
            raise Fault(f"{where} has a short or yes/no answer, but no long answer")
        return Annotation(None)
    long = _inside(raw.long_answer, n_tokens, "the long answer of annotation", number)
    index = raw.long_answer.candidate_index
    if index is None:
        named = [candidate for candidate in candidates if candidate[:2] == long]
    else:
        named = [candidates[index]] if 0 <= index < len(candidates) else []
    if not named or named[0][:2] != long:
        given = "" if index is None else f" (candidate_index {index} of {len(candidates)})"
        raise Fault(
            f"{where}: the long answer, tokens {long.start} to {long.end}, is not the candidate "
            f"it must be{given}"
        )
    short = tuple(
        _inside(span, n_tokens, f"{where}, short answer", place)
        for place, span in enumerate(raw.short_answers)
    )
    for span in short:
        if not long.start <= span.start < span.end <= long.end:
            raise Fault(
                f"{where}: the short answer, tokens {span.start} to {span.end}, is not inside of "
                f"the long one, tokens {long.start} to {long.end}"
            )
    if short and raw.yes_no_answer != "NONE":
        raise Fault(f"{where} has both short answers and the answer {raw.yes_no_answer}")
    return Annotation(long, short, raw.yes_no_answer)


def _schema_fault(error: ValidationError, raw: bytes | Mapping[str, Any]) -> Fault:
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return Fault(f"not JSON: {first['ctx']['error']}")
    try:
        parsed = json.loads(raw) if isinstance(raw, bytes) else raw
    except (RecursionError, ValueError):  # pydantic reads integers of more digits
        parsed = None
    identity = parsed.get("example_id") if isinstance(parsed, Mapping) else None
    return Fault(first_error(error, "the line"), identity)
