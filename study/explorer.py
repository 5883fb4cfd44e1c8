"""Ask the full and a pruned model the same question, side by side, in a live notebook.

Imports neither torch nor transformers: who has them passes the models in, or what loads them.
"""

from __future__ import annotations

import html
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qaprune_lib.errors import QapruneError
from study.linked import Runs, id_of
from study.missing import how_to_make
from study.names import place_of
from study.operating_points import named_points
from study.records.record import Record

if TYPE_CHECKING:
    from ipywidgets import Widget
    from transformers import PreTrainedModel

    from qaprune_lib.evaluation.predict import Answer


@dataclass(frozen=True)
class SavedModel:
    """A model of a run that is still there.

    Attributes:
        name: for readers.
        source: its folder, or what else `load_model` takes.
        threshold: null score − score above which there is no answer, from the run's record.
        windows: `max_length` and `doc_stride`, as in the run.
    """

    name: str
    source: str
    threshold: float = 0.0
    windows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A pruned model and the model that it was cut from."""

    name: str
    full: SavedModel
    pruned: SavedModel


@dataclass(frozen=True)
class Reply:
    """What one model said: `seconds` is the median over repeats of decoding, windows included."""

    name: str
    answer: Answer
    seconds: float
    threshold: float

    @property
    def answered(self) -> bool:
        """Whether the model holds the question for answerable."""
        return self.answer.null_score - self.answer.score <= self.threshold


def saved_pairs(records: Sequence[Record], runs_folder: Path) -> list[Pair]:
    """Pruned models, and their fine-tuned ones, whose records and folders are both there.

    A model lies at `runs_folder/provenance/profile/run id/model`. Records come with a checkout and
    models do not, so many records may have none.
    """
    runs = Runs(records)
    by_id = {(r.provenance, r.profile, id_of(r)): r for r in runs.records}
    pairs = []
    points = named_points(records)
    for row in points[points["kinds"] != "none"].to_dict("records"):
        place = row["provenance"], row["profile"]
        pruned, full = by_id[*place, row["run"]], by_id.get((*place, row["finetune"]))
        if full is None:
            continue
        name = f"{place_of(row)}: {row['name']}, {row['then']}"
        models = [
            _saved(model, runs_folder, label)
            for model, label in ((full, "full"), (pruned, f"pruned, {row['then']}"))
        ]
        if all(Path(model.source).is_dir() for model in models):
            pairs.append(Pair(name, *models))
    return pairs


def compare(
    models: Mapping[str, PreTrainedModel],
    question: str,
    context: str,
    *,
    thresholds: Mapping[str, float] | None = None,
    repeats: int = 3,
    **windows: int,
) -> list[Reply]:
    """Ask all models one question, in turns after a warm-up of each, and time them.

    Args:
        models: by name, each with its tokenizer.
        question, context: as for `qaprune_lib.ask`.
        thresholds: of "no answer", by name; 0 where there is none.
        repeats: rounds of which the median time is reported.
        windows: `max_length`, `doc_stride` and so on, as for `qaprune_lib.ask`.

    Raises:
        DataError: question or context is empty.
    """
    from qaprune_lib.evaluation.predict import ask

    answers = {name: ask(model, question, context, **windows) for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, model in models.items():
            start = time.perf_counter()
            ask(model, question, context, **windows)
            seconds[name].append(time.perf_counter() - start)
    cuts = thresholds or {}
    return [
        Reply(name, answers[name], statistics.median(seconds[name]), cuts.get(name, 0.0))
        for name in models
    ]


def replies_html(context: str, replies: Sequence[Reply]) -> str:
    """The replies side by side, each with its answer marked in the context.

    The times are relative to the first reply's.
    """
    cards = "".join(_card(context, reply, replies[0]) for reply in replies)
    return f'<div style="display: flex; flex-wrap: wrap; gap: 1.5em">{cards}</div>'


def question_box(
    pairs: Sequence[Pair],
    load: Callable[[str], PreTrainedModel],
    *,
    context: str,
    questions: Sequence[str],
) -> Widget:
    """A form: choose a pair of models, write a context and a question, and press the button.

    Args:
        pairs: at least one.
        load: `qaprune_lib.load_model`; called once for each model that is asked.
        context, questions: to begin with.
    """
    import ipywidgets as widgets

    wide = {"layout": widgets.Layout(width="95%"), "style": {"description_width": "6em"}}
    chosen = widgets.Dropdown(
        options=[(pair.name, pair) for pair in pairs], description="models", **wide
    )
    passage = widgets.Textarea(context, description="context", rows=6, **wide)
    passage.layout.width = "95%"
    question = widgets.Combobox(
        value=questions[0], options=list(questions), description="question", **wide
    )
    button = widgets.Button(description="Ask", button_style="primary")
    shown = widgets.HTML()
    loaded: dict[str, Any] = {}

    def model_of(saved: SavedModel) -> Any:
        if saved.source not in loaded:
            loaded[saved.source] = load(saved.source)
        return loaded[saved.source]

    def answer(_: Any) -> None:
        pair: Pair = chosen.value
        shown.value = "<p>thinking …</p>"
        both = (pair.full, pair.pruned)
        try:
            replies = compare(
                {saved.name: model_of(saved) for saved in both},
                question.value,
                passage.value,
                thresholds={saved.name: saved.threshold for saved in both},
                **pair.full.windows,
            )
        except QapruneError as error:
            shown.value = f"<p>{html.escape(str(error))}</p>"
        else:
            shown.value = replies_html(passage.value, replies)

    button.on_click(answer)
    return widgets.VBox([chosen, passage, question, button, shown])


def no_models(runs_folder: Path, profiles: Iterable[str]) -> str:
    """What to say where no pruned model is at hand: how to make some (Markdown)."""
    commands = "\n".join(f"- `{how_to_make(name)}`" for name in profiles)
    return (
        f"No pruned model with its record lies under `{runs_folder}`. These make some:\n\n"
        f"{commands}\n\nUntil then the box below asks the model of the package, which was **never "
        "trained to answer questions**: its answers are arbitrary, but its times are real."
    )


def _saved(record: Record, runs_folder: Path, name: str) -> SavedModel:
    metrics: Any = record.metrics
    parameters: Any = record.parameters
    folder = runs_folder / record.provenance / record.profile / id_of(record) / "model"
    windows = {key: parameters[key] for key in ("max_length", "doc_stride") if key in parameters}
    return SavedModel(name, str(folder), float(metrics["dev"].get("threshold") or 0.0), windows)


def _card(context: str, reply: Reply, first: Reply) -> str:
    answer = reply.answer
    before, found, after = (
        html.escape(context[span])
        for span in (
            slice(0, answer.start),
            slice(answer.start, answer.end),
            slice(answer.end, None),
        )
    )
    marked = f"{before}<mark>{found}</mark>{after}"
    said = html.escape(answer.text) if reply.answered else "no answer"
    rest = "" if reply.answered else f" (best span: {html.escape(answer.text)})"
    ratio = f", {first.seconds / reply.seconds:.2f} times as fast" if reply is not first else ""
    return (
        '<div style="flex: 1 1 20em">'
        f"<p><b>{html.escape(reply.name)}</b>: {said}{rest}</p>"
        f"<p>score {answer.score:.2f}, null score {answer.null_score:.2f}, threshold "
        f"{reply.threshold:.2f}; characters {answer.start} to {answer.end}; "
        f"{1000 * reply.seconds:.0f} ms{ratio}</p>"
        f'<p style="white-space: pre-wrap">{marked}</p></div>'
    )
