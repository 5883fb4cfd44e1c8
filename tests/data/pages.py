"""Natural Questions for tests: small pages in the official formats."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

NULL = {"start_token": -1, "end_token": -1, "start_byte": -1, "end_byte": -1}


def page(*passages: tuple[str, str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Tokens and candidates of a page; a table's or list's rows, split by "|", are nested ones."""
    tokens, candidates = ["<H1>", "A", "page", "</H1>"], []
    for tag, text in passages:
        start, place = len(tokens), len(candidates)
        tokens.append(f"<{tag}>")
        rows = [] if tag == "P" else text.split(" | ")
        tokens += text.split(" ") if tag == "P" else []
        for row in rows:
            first, inner = len(tokens), "Tr" if tag == "Table" else "Li"
            tokens += [f"<{inner}>", *row.split(" "), f"</{inner}>"]
            candidates.append(candidate(first, len(tokens), top_level=False))
        tokens.append(f"</{tag}>")
        candidates.insert(place, candidate(start, len(tokens), top_level=True))
    return tokens, candidates


def candidate(start: int, end: int, *, top_level: bool) -> dict[str, Any]:
    return {"start_token": start, "end_token": end, "top_level": top_level}


def annotation(
    candidates: Sequence[dict[str, Any]],
    long: int | None = None,
    short: Iterable[tuple[int, int]] = (),
    yes_no: str = "NONE",
) -> dict[str, Any]:
    """An annotation; `short` are spans of document tokens."""
    span = NULL if long is None else candidates[long]
    return {
        "annotation_id": 1,
        "long_answer": {
            "start_token": span["start_token"],
            "end_token": span["end_token"],
            "start_byte": -1,
            "end_byte": -1,
            "candidate_index": -1 if long is None else long,
        },
        "short_answers": [
            {"start_token": a, "end_token": b, "start_byte": -1, "end_byte": -1} for a, b in short
        ],
        "yes_no_answer": yes_no,
    }


def simplified(
    identity: int,
    tokens: Sequence[str],
    candidates: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
    question: str = "who wrote it",
) -> dict[str, Any]:
    return {
        "example_id": identity,
        "question_text": question,
        "document_text": " ".join(tokens),
        "document_url": "https://example.org",
        "long_answer_candidates": list(candidates),
        "annotations": list(annotations),
    }


def original(raw: dict[str, Any]) -> dict[str, Any]:
    """The same example in the original format, with made-up byte offsets."""
    tokens, place = [], 0
    for token in raw["document_text"].split(" "):
        html = token.startswith("<") and token.endswith(">")
        size = len(token.encode())
        text = token.replace("_", " ") if html else token
        tokens.append(
            {"token": text, "html_token": html, "start_byte": place, "end_byte": place + size}
        )
        place += size + 1
    rest = {key: value for key, value in raw.items() if key != "document_text"}
    html = "".join(token["token"] + " " for token in tokens)
    return rest | {
        "document_tokens": tokens,
        "document_html": html,
        "document_title": "A page",
        "question_tokens": raw["question_text"].split(" "),
    }


def write(path: Path, rows: Iterable[Any]) -> Path:
    """Write JSON lines, gzipped by the name; strings go in as they are."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
