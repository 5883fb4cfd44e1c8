"""The picture of Table 1: what smaller models lose, task by task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.figures.style import SEQUENCE, panels, paper_style
from study.frames import rows_of
from study.paper_tables import TASKS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def gaps(tasks: pd.DataFrame, heading: str) -> Figure:
    """F1 points behind the model with most parameters, by task.

    Args:
        tasks: model, parameters, task and f1, from `tasks_published` or one profile of
            `tasks_ours`; where sources differ, all of them are drawn.
        heading: whose numbers they are.
    """
    behind = gaps_frame(tasks)
    names = list(dict.fromkeys(behind["task"]))
    models = list(dict.fromkeys(behind["model"]))
    with paper_style():
        figure, (axes,) = panels(6.2, 3.8)
        for position, model in enumerate(models):
            rows = behind[behind["model"] == model]
            style = SEQUENCE[position % len(SEQUENCE)]
            means = rows.groupby("task", sort=False)["gap"].mean()
            axes.plot(
                [names.index(task) for task in rows["task"]],
                rows["gap"],
                color=style.color,
                marker=style.marker,
                linestyle="none",
            )
            axes.plot(
                [names.index(str(task)) for task in means.index],
                means,
                color=style.color,
                marker=style.marker,
                linestyle=style.linestyle,
                label=model,
            )
        axes.set_xticks(range(len(names)), [TASKS.get(name, name) for name in names])
        axes.set(xlabel="task", ylabel="F1 points behind the largest model", title=heading)
        axes.invert_yaxis()
        axes.legend(fontsize="small")
    return figure


def gaps_frame(tasks: pd.DataFrame) -> pd.DataFrame:
    """`tasks` with `gap`: F1 of the model with most parameters minus this one's, on its task."""
    # a model's size differs a little from task to task, by its head
    names = tasks.loc[tasks["parameters"] == tasks["parameters"].max(), "model"]
    largest = tasks[tasks["model"].isin(names)]
    reference = largest.groupby("task")["f1"].mean()
    behind = tasks.assign(gap=tasks["task"].map(reference) - tasks["f1"])
    return behind.dropna(subset=["gap"]).reset_index(drop=True)


def alt_gaps(tasks: pd.DataFrame) -> str:
    """Each gap in words."""
    return "F1 points behind the largest model: " + "; ".join(
        f"{row.model} {row.gap:.1f} on {TASKS.get(str(row.task), row.task)}"
        for row in rows_of(gaps_frame(tasks))
        if row.gap != 0
    )
