"""The picture of Table 1: what smaller models lose, task by task."""

from __future__ import annotations

import pandas as pd

from study.figures import style
from study.figures.style import Drawing
from study.names import counted, origin_of
from study.paper_tables import TASKS
from study.tables import NOTHING


def gaps(tasks: pd.DataFrame) -> Drawing:
    """F1 points behind the largest model: `tasks_published`, or one profile of `tasks_ours`."""
    behind = gaps_frame(tasks)
    names = list(dict.fromkeys(behind["task"]))
    heading = "published: Table 1"
    caption = (
        "F1 points behind BERT-large by task, from the paper's Table 1 (published, without "
        "seeds and numbers of questions). Lines join the means where two sources give a number."
    )
    if "n" in tasks:
        heading = origin_of(tasks.iloc[0])
        questions = ", ".join(f"{n:,.0f}" for n in tasks["n"].unique())
        caption = (
            f"F1 points behind the largest model by task, {heading}; n = {questions} dev "
            f"questions, {counted(tasks['runs'].max(), 'seed')} of fine-tuning."
        )
    with style.canvas(heading, 6.2, 3.8) as (figure, (axes,)):
        for position, (model, rows) in enumerate(behind.groupby("model", sort=False)):
            look, means = style.nth(position), rows.groupby("task", sort=False)["gap"].mean()
            style.plot(axes, rows["task"].map(names.index), rows["gap"], look.points, "_each")
            style.plot(axes, means.index.map(names.index), means, look, str(model))
        if "floor" in behind:
            nothing = behind.assign(gap=behind["gap"] + behind["f1"] - behind["floor"])
            rows = nothing.drop_duplicates("task")
            x, look = rows["task"].map(names.index), style.Look(style.BLACK, "_", "none")
            style.plot(axes, x, rows["gap"], look, NOTHING, markersize=14)
        axes.set_xticks(range(len(names)), [TASKS.get(name, name) for name in names])
        axes.set(xlabel="task", ylabel="F1 points behind the largest model")
        axes.invert_yaxis()
    return Drawing(figure, caption)


def gaps_frame(tasks: pd.DataFrame) -> pd.DataFrame:
    """`tasks` with `gap`: F1 of the model with most parameters minus this one's, on its task."""
    # a model's size differs a little from task to task, by its head
    names = tasks.loc[tasks["parameters"] == tasks["parameters"].max(), "model"]
    largest = tasks[tasks["model"].isin(names)]
    reference = largest.groupby("task")["f1"].mean()
    behind = tasks.assign(gap=tasks["task"].map(reference) - tasks["f1"])
    return behind.dropna(subset=["gap"]).reset_index(drop=True)
