"""Ask the full and a pruned model the same question, side by side, in a live notebook.

Imports neither torch nor transformers: who has them passes the models in, or what loads them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ipywidgets import HTML, Combobox, Dropdown, Layout, Textarea, Widget, interactive

from qaprune_lib.errors import QapruneError
from study.markup import fill, render
from study.names import place_of
from study.operating_points import named_points
from study.records.record import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from qaprune_lib.data.windows import Windows
    from qaprune_lib.evaluation.predict import Answer


@dataclass(frozen=True)
class SavedModel:
    """A model of a run that is still there.

    Attributes:
        source: its folder, or what else `load_model` takes.
        threshold: null score − score above which there is no answer, from the run's record.
        sizes: of windows, as in the run: `max_length` and `doc_stride`.
    """

    name: str
    source: str
    threshold: float = 0.0
    sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What one model said: `seconds` is the median over repeats of decoding, windows included."""

    name: str
    answer: Answer
    seconds: float
    answered: bool


def saved_pairs(records: Sequence[Record], runs_folder: Path) -> dict[str, list[SavedModel]]:
    """By name, each pruned model with the one that it was cut from in front of it.

    Those whose records and folders are both there: a model lies at
    `runs_folder/provenance/profile/run id/model`. Records come with a checkout, models do not.
    """
    by_id = {(r.provenance, r.profile, r.id): r for r in records}
    pairs = {}
    points = named_points(records)
    for row in points[points["kinds"] != "none"].to_dict("records"):
        place = row["provenance"], row["profile"]
        if (full := by_id.get((*place, row["finetune"]))) is None:
            continue
        pruned = by_id[*place, row["run"]]
        models = [
            _saved(full, runs_folder, "full"),
            _saved(pruned, runs_folder, f"pruned, {row['then']}"),
        ]
        if all(Path(model.source).is_dir() for model in models):
            pairs[f"{place_of(row)}: {row['name']}, {row['then']}"] = models
    return pairs


def compare(
    models: Mapping[str, PreTrainedModel],
    question: str,
    context: str,
    *,
    thresholds: Mapping[str, float],
    repeats: int = 3,
    windows: Windows | None = None,
) -> list[Reply]:
    """Ask all models one question, in turns after a warm-up of each, and time them.

    Models go by name, each with its tokenizer and its threshold of "no answer"; times are medians
    over `repeats`. Question, context and windows are those of `qaprune_lib.ask`, as are its errors.
    """
    from qaprune_lib.evaluation.predict import ask

    answers: dict[str, Answer] = {}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + repeats):
        for name, model in models.items():
            start = time.perf_counter()
            answers[name] = ask(model, question, context, windows=windows)
            seconds[name].append(time.perf_counter() - start)
    replies = []
    for name, answer in answers.items():
        answered = answer.null_score - answer.score <= thresholds[name]
        replies.append(Reply(name, answer, statistics.median(seconds[name][1:]), answered))
    return replies


def question_box(
    pairs: Mapping[str, Sequence[SavedModel]],
    load: Callable[[str], PreTrainedModel],
    *,
    context: str,
    questions: Sequence[str],
) -> Widget:
    """A form: choose a pair of models, write a context and a question, and press the button."""
    wide = {"layout": Layout(width="95%"), "style": {"description_width": "6em"}}
    loaded = cache(load)

    def answer(pair: Sequence[SavedModel], context: str, question: str) -> HTML:
        from qaprune_lib.data.windows import Windows

        thresholds = {saved.name: saved.threshold for saved in pair}
        windows = Windows(**pair[0].sizes) if pair[0].sizes else None
        try:
            models = {saved.name: loaded(saved.source) for saved in pair}
            replies = compare(models, question, context, thresholds=thresholds, windows=windows)
            return HTML(replies_html(context, replies, thresholds))
        except QapruneError as error:
            return HTML(fill("<p>{{ error }}</p>", error=error))

    return interactive(
        answer,
        {"manual": True, "manual_name": "Ask", "auto_display": True},
        pair=Dropdown(options=list(pairs.items()), description="models", **wide),
        context=Textarea(context, description="context", rows=6, **wide),
        question=Combobox(
            value=questions[0], options=list(questions), description="question", **wide
        ),
    )


def replies_html(context: str, replies: Sequence[Reply], thresholds: Mapping[str, float]) -> str:
    """The replies side by side, each with its answer marked in the context; times relative."""
    return render("replies.html.jinja", context=context, replies=replies, thresholds=thresholds)


def _saved(record: Record, runs_folder: Path, name: str) -> SavedModel:
    parameters, metrics = record.parameters, record.metrics
    folder = runs_folder / record.provenance / record.profile / record.id / "model"
    names = ("max_length", "doc_stride")
    windows: dict[str, int] = {key: parameters[key] for key in names if key in parameters}
    return SavedModel(name, str(folder), float(metrics["dev"].get("threshold") or 0.0), windows)
