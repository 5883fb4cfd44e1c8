"""Natural Questions as the Hugging Face Hub has them, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import datasets

from qaprune_lib.data.sources import hub_errors, named_splits
from qaprune_lib.errors import DataError

DOWNLOAD = (
    "download the files of https://ai.google.com/research/NaturalQuestions (simplified or "
    "original, *.jsonl.gz) and pass their folder"
)


@dataclass(frozen=True)
class HubSplit:
    """One split of a data set on the Hub, at a fixed revision."""

    name: str
    revision: str
    split: str
    rows: datasets.IterableDataset

    def raw_examples(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield a place to name in messages and an example in the official form."""
        for number, row in enumerate(self.rows):
            place = f"{self.name} {self.split}: row {number}"
            try:
                raw = _official(row)
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{place}: not in the schema of the Hub's natural_questions: {error!r}"
                ) from error
            yield place, raw

    def digest(self) -> str:
        """What the rows depend on."""
        return f"{self.name} {self.revision} {self.split}"


def open_hub(source: str) -> dict[str, HubSplit]:
    """The splits ``train`` and ``dev`` that a data set on the Hub has; raises DataError."""
    from huggingface_hub import HfApi

    with hub_errors(source, DOWNLOAD):
        revision = str(HfApi().dataset_info(source).sha)
        loaded = datasets.load_dataset(source, revision=revision, streaming=True)
    return {
        split: HubSplit(source, revision, name, rows)
        for split, (name, rows) in named_splits(source, loaded).items()
    }


def _official(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the Hub's schema, where lists of objects are objects of lists, as official JSON."""
    annotations = []
    for annotation in _objects(row["annotations"]):
        answer = annotation["yes_no_answer"]
        annotations.append(
            {
                "long_answer": annotation["long_answer"],
                "short_answers": _objects(annotation["short_answers"]),
                "yes_no_answer": {-1: "NONE", 0: "NO", 1: "YES"}.get(answer, answer),
            }
        )
    return {
        "example_id": int(row["id"]),
        "question_text": row["question"]["text"],
        "document_tokens": [
            {"token": token["token"], "html_token": token.get("is_html")}
            for token in _objects(row["document"]["tokens"])
        ],
        "long_answer_candidates": [
            candidate | {"top_level": bool(candidate["top_level"])}
            for candidate in _objects(row["long_answer_candidates"])
        ],
        "annotations": annotations,
    }


def _objects(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        return [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    return list(value)
