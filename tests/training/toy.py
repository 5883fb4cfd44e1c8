"""Toy questions for tiny models, the same for every process that makes them."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset

from qaprune_lib.data.features import make_features
from qaprune_lib.data.windows import Windows
from qaprune_lib.evaluation.predict import predict
from qaprune_lib.models import QuestionAnsweringModel
from tests.models.tiny import tiny_model

WINDOWS: dict[str, Any] = {"windows": Windows(30, 10)}
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def toy_questions(n: int = 10, seed: int = 0) -> Dataset:
    """Contexts of 3 to 13 short words, some too long for one window; a fifth unanswerable."""
    rng = random.Random(seed)
    columns: dict[str, list[Any]] = {"id": [], "title": [], "context": [], "question": []}
    columns["answers"] = []
    for number in range(n):
        words = [
            "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 4)))
            for _ in range(rng.randint(3, 13))
        ]
        chosen = rng.randrange(len(words))
        start = len(" ".join([*words[:chosen], ""]))
        answer: dict[str, list[Any]] = {"text": [words[chosen]], "answer_start": [start]}
        columns["id"].append(f"q{number}")
        columns["title"].append(f"article {number % 3}")
        columns["context"].append(" ".join(words))
        columns["question"].append(f"is {words[chosen][0]}?")
        columns["answers"].append({"text": [], "answer_start": []} if number % 5 == 4 else answer)
    return Dataset.from_dict(columns)


def answered_by(model: QuestionAnsweringModel, questions: Dataset) -> Dataset:
    """The questions with the model's own best spans for answers."""
    found = predict(model, questions, progress=False, **WINDOWS)
    answers = [{"text": [p.text], "answer_start": [p.start]} for p in found]
    return questions.remove_columns("answers").add_column("answers", answers)


def toy_windows(model: QuestionAnsweringModel, questions: Dataset) -> Dataset:
    return make_features(questions, model.tokenizer, **WINDOWS)


def small_bert(**sizes: Any) -> QuestionAnsweringModel:
    """Two layers of four heads and 16 activations."""
    return tiny_model("bert", **{"num_hidden_layers": 2, "intermediate_size": 16, **sizes})


def single_windows(
    model: QuestionAnsweringModel, features: Dataset
) -> Iterator[tuple[dict[str, torch.Tensor], int, int]]:
    """One window at a time, without padding: model inputs, start and end position."""
    for row in features:
        inputs = {
            "input_ids": torch.tensor([row["input_ids"]]),
            "attention_mask": torch.ones(1, len(row["input_ids"]), dtype=torch.int64),
        }
        if "token_type_ids" in model.tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.tensor([row["token_type_ids"]])
        yield inputs, row["start_position"], row["end_position"]
