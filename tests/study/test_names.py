"""Names for readers, from rows as frames and records have them."""

from __future__ import annotations

from study.names import counted, place_of


def test_places() -> None:
    row = {"profile": "measured", "provenance": "measured", "data": "squad2", "model": "minilm"}
    assert place_of(row) == "MiniLM on SQuAD 2.0, measured profile"
    other = {**row, "profile": "paper", "model": "bert-base-uncased", "data": "nq"}
    assert place_of(other) == "bert-base-uncased on NQ-format questions, measured, profile paper"


def test_the_generated_corpus_is_not_called_squad() -> None:
    row = {"profile": "embedded", "provenance": "embedded", "data": "squad2", "model": "embedded"}
    assert place_of(row) == "four-layer MiniLM on generated SQuAD 2.0, embedded profile"


def test_counted() -> None:
    assert [counted(n, "seed") for n in (0, 1, 2, 3000.0)] == [
        *("0 seeds", "1 seed", "2 seeds", "3,000 seeds")
    ]
