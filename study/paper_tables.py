"""Tables 1 to 5 of the paper as printed, and ours in the same columns.

Each row says where it comes from; a published row and one of ours are never averaged or joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.frames import rows_of
from study.names import data_of, measured_first, model_of, origin_of
from study.paper.published import COLUMNS, PROVENANCE, TABLE_1, TABLE_2, Table
from study.paper.released import BERT_BASE, BERT_LARGE, ROBERTA_BASE, ROBERTA_LARGE, Released
from study.tables import number, operating_points, point_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from study.records.record import Record

TASKS = {"squad1": "SQuAD 1.1", "squad2": "SQuAD 2.0", "nq": "NQ, short answers"}
"""Columns of Table 1 by the name of the questions in records."""

SOURCE = "source"
"""Heading of the column that tells published rows from ours."""

_BASES: dict[str, Released] = {
    "BERT-large": BERT_LARGE,
    "BERT-base": BERT_BASE,
    "RoBERTa-large": ROBERTA_LARGE,
    "RoBERTa-base": ROBERTA_BASE,
}


def published_cells(table: Table[Any]) -> pd.DataFrame:
    """A table of the paper with its own headings, as printed; one string a cell."""
    frame = table.frame()
    fields = [field for field in frame.columns if field in COLUMNS]
    cells = frame[["model", *fields]].astype(object)
    for field in fields:
        cells[field] = [f"{value:g}" if value == value else "–" for value in frame[field]]
    cells.insert(0, SOURCE, PROVENANCE)
    return cells.rename(columns={field: COLUMNS[field][0] for field in fields})


def tasks_published() -> pd.DataFrame:
    """Table 1 in long form: model, parameters in millions, task, F1 and whose number it is."""
    import pandas as pd

    fields = {"squad1": "squad1_f1_", "squad2": "squad2_f1", "nq": "nq_short_f1"}
    rows = [
        {"model": row.model, "parameters": row.parameters, "task": task, "f1": value}
        for row in TABLE_1.rows
        for task, start in fields.items()
        for field, value in row.model_dump().items()
        if field.startswith(start) and value is not None
    ]
    return pd.DataFrame(rows)


def tasks_ours(models: pd.DataFrame) -> pd.DataFrame:
    """Fine-tuned models of `scored_models` by task: one row for each, with runs averaged."""
    tuned = models[models["then"] == "fine-tuned"].copy()
    tuned["f1"] = tuned["short_f1"].fillna(tuned["f1"])
    keys = ["profile", "provenance", "model", "data"]
    frame: pd.DataFrame = tuned.groupby(keys, sort=False).agg(
        parameters=("parameters", "first"),
        f1=("f1", "mean"),
        runs=("run", "nunique"),
        n=("n", "first"),
    )
    frame = frame.reset_index().rename(columns={"data": "task"})
    return frame.assign(parameters=frame["parameters"] / 1e6)


def table1(models: pd.DataFrame) -> pd.DataFrame:
    """Table 1: F1 of small and large models by task; published rows, then ours."""
    import pandas as pd

    rows = []
    for _, ours in measured_first(tasks_ours(models)).groupby(
        ["provenance", "profile", "model"], sort=False
    ):
        first = next(rows_of(ours))
        cells = {SOURCE: origin_of(first._asdict()), "model": model_of(first._asdict())}
        cells["params"] = number(first.parameters, 1)
        for row in rows_of(ours):
            cells[TASKS.get(str(row.task), str(row.task))] = number(row.f1, 1)
        rows.append(cells)
    published = []
    for name, tasks in tasks_published().groupby("model", sort=False):
        cells = {SOURCE: PROVENANCE, "model": str(name)}
        cells["params"] = f"{tasks['parameters'].iloc[0]:g}"
        for task, heading in TASKS.items():
            values = tasks[tasks["task"] == task]["f1"]
            cells[heading] = " / ".join(f"{value:g}" for value in values) or "–"
        published.append(cells)
    return pd.DataFrame([*published, *rows]).fillna("–")


def table2(models: pd.DataFrame) -> pd.DataFrame:
    """Table 2: decoding time, F1 and size at the operating points; published rows, then ours.

    The speed-ups of published rows are computed from its times.
    """
    import pandas as pd

    unpruned = TABLE_2.rows[0].seconds
    published = [
        {
            SOURCE: PROVENANCE,
            "model": row.model,
            "time (s)": f"{row.seconds:g}",
            "speed-up": f"{unpruned / row.seconds:.2f}",
            "F1": f"{row.f1:g}",
            "% attn removed": f"{row.attn_removed:g}",
            "% ff removed": f"{row.ff_removed:g}",
            "size (MiB)": f"{row.mebibytes:g}",
            "F1 no retrain": number(row.f1_no_retrain, 1),
        }
        for row in TABLE_2.rows
    ]
    ours = [
        {
            SOURCE: origin_of(row._asdict()),
            "model": f"{_named(row)}: {point_name(row)}, {row.then}",
            "time (s)": number(row.seconds, 2),
            "speed-up": number(row.speedup, 2),
            "F1": number(row.f1, 1),
            "% attn removed": number(row.attn_removed, 1),
            "% ff removed": number(row.ff_removed, 1),
            "size (MiB)": number(row.size_mib, 0),
            "F1 no retrain": number(row.f1_not_retrained, 1),
        }
        for row in rows_of(measured_first(operating_points(models)))
    ]
    return pd.DataFrame([*published, *ours])


def _named(row: Any) -> str:
    """The model, and the questions where they are not those of the paper's Table 2."""
    name, data = model_of(row._asdict()), data_of(row._asdict())
    return name if row.data == "squad2" else f"{name} on {data}"


def natural_questions_table(
    table: Table[Any], models: pd.DataFrame, then: str, *, carried: bool = False
) -> pd.DataFrame:
    """Tables 3 to 5: published rows, then our models on NQ-format questions.

    Args:
        table: of the paper.
        models: from `scored_models`.
        then: the continued training of the table, "cross-entropy" or "distillation".
        carried: whether the table's gates come from other questions.
    """
    import pandas as pd

    points = operating_points(models[models["data"] == "nq"])
    of_table = (points["then"] == then) & ((points["gates_from"] != "nq") == carried)
    whole = (points["then"] == "fine-tuned") | (points["kinds"] == "none") & (
        points["then"] == then
    )
    points = points[whole | of_table]
    headings = {field: COLUMNS[field][0] for field in COLUMNS}
    ours = [
        {
            SOURCE: origin_of(row._asdict()),
            "model": f"{model_of(row._asdict())}: {point_name(row)}, {row.then}",
            headings["attn_removed"]: number(row.attn_removed, 0),
            headings["ff_removed"]: number(row.ff_removed, 0),
            headings["long_f1"]: number(row.long_f1, 1),
            headings["short_f1"]: number(row.short_f1, 1),
            headings["seconds"]: number(row.seconds, 2),
        }
        for row in rows_of(measured_first(points))
    ]
    published = published_cells(table)
    frame = pd.DataFrame(ours, columns=[*published.columns]) if ours else published.iloc[:0]
    return pd.concat([published, frame], ignore_index=True).fillna("–")


def dev_set_table(models: pd.DataFrame) -> pd.DataFrame:
    """Every operating point of our models on NQ-format questions of one dev set.

    Args:
        models: from `scored_models`, of one dev set.
    """
    import pandas as pd

    points = operating_points(models[models["data"] == "nq"])
    return pd.DataFrame(
        [
            {
                "model": point_name(row),
                "then": row.then,
                "% attn removed": number(row.attn_removed, 0),
                "% ff removed": number(row.ff_removed, 0),
                "parameters (M)": number(row.parameters / 1e6, 1),
                "LA (F1)": number(row.long_f1, 1),
                "SA (F1)": number(row.short_f1, 1),
                "speed-up": number(row.speedup, 2),
            }
            for row in rows_of(points)
        ]
    )


def word_overlap_table(records: Iterable[Record]) -> pd.DataFrame:
    """What mere word overlap scores on each dev set: the paragraph most like the question."""
    import pandas as pd

    rows = []
    for record in records:
        found: Any = record.metrics.get("word_overlap", {})
        for name, scores in found.items():
            row = {
                SOURCE: origin_of(vars(record)),
                "dev set": name,
                "questions": str(scores["n_examples"]),
                "with a long answer": str(scores["long"]["n_gold"]),
                "LA (F1)": number(scores["long"]["f1"], 1),
                "SA (F1)": number(scores["short"]["f1"], 1),
            }
            rows += [row] if row not in rows else []
    return pd.DataFrame(rows)


def published_sizes(table: Table[Any]) -> pd.DataFrame:
    """Short-answer F1 of Tables 4 and 5 with parameters in millions (Figure 4).

    F1 is printed. The numbers of parameters are not: they are computed from the printed shares and
    the released models' dimensions.
    """
    import pandas as pd

    first = table.rows[0].model
    rows = []
    for row in table.rows:
        removed = (row.attn_removed or 0.0, row.ff_removed or 0.0)
        released = _BASES.get(row.model, _BASES[first]).pruned(*(share / 100 for share in removed))
        size = {"parameters": released.parameters / 1e6}
        rows.append({"model": row.model, "short_f1": row.short_f1, "long_f1": row.long_f1, **size})
    return pd.DataFrame(rows)
