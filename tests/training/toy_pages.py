"""Toy Natural Questions for tiny models: answers of every type, documents of several windows."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional

from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions.stream import NaturalQuestions, load_natural_questions
from qaprune_lib.data.windows import Windows
from qaprune_lib.models import QuestionAnsweringModel
from tests.data.pages import annotation, page, simplified, write
from tests.models.tiny import tiny_model

NULL_RATE = 0.3
SIZES: dict[str, Any] = {"windows": Windows(32, 12)}
TRAINING: dict[str, Any] = {"windows": Windows(32, 12, null_rate=NULL_RATE)}


def toy_natural_questions(folder: Path, n: int = 10, seed: int = 0) -> NaturalQuestions:
    """Pages of paragraphs, a table and a list of short words; five annotators who agree."""
    rng = random.Random(seed)

    def words(least: int, most: int) -> str:
        return " ".join(
            "".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 4)))
            for _ in range(rng.randint(least, most))
        )

    rows = []
    for number in range(n):
        passages = [
            ("P", words(3, 9)),
            ("Table", f"{words(1, 2)} | {words(1, 3)}"),
            ("P", words(2, 7)),
            ("Ul", f"{words(1, 3)} | {words(1, 2)}"),
        ]
        tokens, candidates = page(*passages)
        long = rng.randrange(len(candidates))
        start, end = (candidates[long][f"{side}_token"] for side in ("start", "end"))
        text = [i for i in range(start, end) if tokens[i][0] != "<"]
        first = rng.choice(text)
        answers = [
            annotation(candidates),
            annotation(candidates, long, [(first, first + 1)]),
            annotation(candidates, 0),
            annotation(candidates, long, yes_no="YES"),
            annotation(candidates, long, yes_no="NO"),
        ]
        answer = answers[number % 5]
        question = f"is {tokens[first][0]} in {number % 5}?"
        rows.append(simplified(number, tokens, candidates, [answer] * 5, question))
    (examples,) = load_natural_questions(write(folder / f"dev-{n}-{seed}.jsonl", rows)).values()
    return examples


def small_reader(
    architecture: str = "bert", *, seed: int = 0, **sizes: Any
) -> QuestionAnsweringModel:
    """A tiny model for Natural Questions with two layers."""
    small = {"num_hidden_layers": 2, "intermediate_size": 16, **sizes}
    return tiny_model(architecture, task="natural_questions", seed=seed, **small)


def toy_features(
    model: QuestionAnsweringModel, examples: NaturalQuestions, null_rate: float = NULL_RATE
) -> Dataset:
    windows = Windows(32, 12, null_rate=null_rate)
    return make_features(examples, model.tokenizer, windows, training=True)


def single_pages(
    model: QuestionAnsweringModel, features: Dataset
) -> Iterator[tuple[dict[str, torch.Tensor], list[int]]]:
    """One window at a time, without padding: model inputs; start, end and answer type."""
    for row in features:
        inputs = {
            "input_ids": torch.tensor([row["input_ids"]]),
            "attention_mask": torch.ones(1, len(row["input_ids"]), dtype=torch.int64),
        }
        if "token_type_ids" in model.tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.tensor([row["token_type_ids"]])
        yield inputs, [row[n] for n in ("start_position", "end_position", "answer_type")]


def literal_loss(outputs: Any, labels: list[int]) -> torch.Tensor:
    """Mean of three cross-entropies of one window."""
    logits = outputs.start_logits, outputs.end_logits, outputs.answer_type_logits
    parts = [-functional.log_softmax(x[0], -1)[y] for x, y in zip(logits, labels, strict=True)]
    return torch.stack(parts).mean()
