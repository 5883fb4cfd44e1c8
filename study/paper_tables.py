"""Tables 1 to 5 of the paper as printed, and ours in the same columns.

Each row says where it comes from; a published row and one of ours are never averaged or joined.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from study.frames import rows_of
from study.names import data_of, measured_first, model_of, number, origin_of
from study.paper.published import COLUMNS, PROVENANCE, TABLE_1, TABLE_2, Table
from study.paper.released import BERT_BASE, BERT_LARGE, ROBERTA_BASE, ROBERTA_LARGE
from study.records.record import Record
from study.tables import NOTHING, cells, operating_points, point_name

TASKS = {"squad1": "SQuAD 1.1", "squad2": "SQuAD 2.0", "nq": "NQ, short answers"}
"""Columns of Table 1 by the name of the questions in records."""

SOURCE = "source"
"""Heading of the column that tells published rows from ours."""

OURS = {"time (sec)": "time (s)", "f1": "F1", "f1 no retrain": "F1 not retrained"}
"""Our words for some of the paper's headings."""

_BASES = {"BERT-large": BERT_LARGE, "BERT-base": BERT_BASE}
_BASES |= {"RoBERTa-large": ROBERTA_LARGE, "RoBERTa-base": ROBERTA_BASE}


def published_cells(table: Table) -> pd.DataFrame:
    """A table of the paper as printed, with the headings of ours; one string a cell."""
    frame = table.frame()
    printed = frame[[field for field in frame if field in COLUMNS]].map("{:g}".format)
    printed = printed.replace("nan", "–").rename(columns={f: COLUMNS[f][0] for f in COLUMNS})
    printed.insert(0, SOURCE, PROVENANCE)
    printed.insert(1, "model", frame["model"])
    printed[NOTHING] = "–"
    return printed.rename(columns=OURS)


def tasks_published() -> pd.DataFrame:
    """Table 1 in long form: model, parameters in millions, task and F1."""
    fields = {"squad1": "squad1_f1_", "squad2": "squad2_f1", "nq": "nq_short_f1"}
    rows = [
        {"model": row.model, "parameters": row.parameters, "task": task, "f1": value}
        for row in TABLE_1.rows
        for task, start in fields.items()
        for field in TABLE_1.columns
        if field.startswith(start) and (value := getattr(row, field)) is not None
    ]
    return pd.DataFrame(rows)


def tasks_ours(models: pd.DataFrame) -> pd.DataFrame:
    """Fine-tuned models of `scored_models` by task: one row for each, with runs averaged."""
    tuned = models[models["then"] == "fine-tuned"]
    tuned = tuned.assign(f1=tuned["short_f1"].fillna(tuned["f1"]), task=tuned["data"])
    how = {"parameters": "first", "f1": "mean", "run": "nunique", "n": "first", "floor": "first"}
    grouped = tuned.groupby(["profile", "provenance", "model", "task"], sort=False)
    frame = grouped.agg(how).rename(columns={"run": "runs"}).reset_index()
    return frame.assign(parameters=frame["parameters"] / 1e6)


def table1(models: pd.DataFrame) -> pd.DataFrame:
    """Table 1: F1 of small and large models by task; published rows, then ours."""
    rows = []
    for name, tasks in tasks_published().groupby("model", sort=False):
        row = {SOURCE: PROVENANCE, "model": name, "params": f"{tasks['parameters'].iloc[0]:g}"}
        for task, values in tasks.groupby("task", sort=False)["f1"]:
            row[TASKS[str(task)]] = " / ".join(f"{value:g}" for value in values)
        rows.append(row)
    ours = measured_first(tasks_ours(models))
    for _, tasks in ours.groupby(["provenance", "profile", "model"], sort=False):
        one = tasks.iloc[0]
        size = number(one["parameters"], 1)
        row = {SOURCE: origin_of(one), "model": model_of(one), "params": size}
        row |= {TASKS.get(r.task, r.task): number(r.f1, 1) for r in rows_of(tasks)}
        floors = [f"{number(r.floor, 1)} ({TASKS.get(r.task, r.task)})" for r in rows_of(tasks)]
        rows.append(row | {NOTHING: "; ".join(floors)})
    return pd.DataFrame(rows).fillna("–")


def table2(models: pd.DataFrame) -> pd.DataFrame:
    """Table 2: time (and speed-up computed from it), F1 and size; published rows, then ours."""
    unpruned = TABLE_2.rows[0].seconds
    printed = published_cells(TABLE_2)
    printed.insert(3, "speed-up", [f"{unpruned / row.seconds:.2f}" for row in TABLE_2.rows])
    return _with_ours(printed, operating_points(models))


def table2_in_five_rows(points: pd.DataFrame) -> pd.DataFrame:
    """Table 2 in five rows: unpruned, then both kinds at ×1 to ×4, continued with cross-entropy."""
    whole = points[points["kinds"].eq("none")].iloc[0]
    ours = points[points["then"].eq("cross-entropy") & points["kinds"].eq("both")]
    by_multiple = {0.0: whole} | {row["multiple"]: row for _, row in ours.iterrows()}
    first, rows = TABLE_2.rows[0], []
    for printed in TABLE_2.rows:
        if printed is first or printed.retrained:
            row: Any = by_multiple.get(float(printed.attn_multiple), {})
            lost = whole["f1"] - row["f1"] if len(row) else None
            numbers = {
                "F1 lost": (first.f1 - printed.f1, lost, 1),
                "speed-up": (first.seconds / printed.seconds, row.get("speedup"), 2),
                "% attn removed": (printed.attn_removed, row.get("attn_removed"), 0),
                "% ff removed": (printed.ff_removed, row.get("ff_removed"), 0),
            }
            cells = {"ff + attn": f"×{printed.attn_multiple}" if printed.retrained else "unpruned"}
            for name, (published, own, decimals) in numbers.items():
                cells[f"{name}, {PROVENANCE}"] = number(published, decimals)
                cells[f"{name}, ours"] = number(own, decimals)
            cells["lost by answering nothing"] = number(whole["f1"] - whole["floor"], 1)
            rows.append(cells)
    return pd.DataFrame(rows)


def natural_questions_table(
    table: Table, models: pd.DataFrame, then: str, *, carried: bool = False
) -> pd.DataFrame:
    """Tables 3 to 5: published rows, then our `scored_models` on NQ-format questions.

    `then` is the table's continued training; where they are `carried`, its gates are of others.
    """
    points = operating_points(models[models["data"] == "nq"])
    of_table = (points["gates_from"] != "nq") == carried
    trained = (points["then"] == then) & (of_table | points["kinds"].eq("none"))
    return _with_ours(published_cells(table), points[points["then"].eq("fine-tuned") | trained])


def _with_ours(printed: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """A printed table, and below it rows of `operating_points` in the same columns."""
    points = measured_first(points)
    ours = cells(points, *printed.columns[2:])
    ours.insert(0, SOURCE, [origin_of(row) for _, row in points.iterrows()])
    names = [
        # the questions too where they are neither those of Table 2 nor, in Tables 3 to 5, of NQ
        f"{model_of(row)}{'' if row['data'] in ('squad2', 'nq') else f' on {data_of(row)}'}: "
        f"{point_name(row)}, {row['then']}"
        for _, row in points.iterrows()
    ]
    ours.insert(1, "model", names)
    return pd.concat([printed, ours], ignore_index=True)


def word_overlap_table(records: Iterable[Record]) -> pd.DataFrame:
    """What mere word overlap scores on each dev set: the paragraph most like the question."""
    rows = [
        {
            SOURCE: origin_of(vars(record)),
            "dev set": name,
            "questions": str(scores["n_examples"]),
            "with a long answer": str(scores["long"]["n_gold"]),
            "LA (F1)": number(scores["long"]["f1"]),
            "SA (F1)": number(scores["short"]["f1"]),
        }
        for record in records
        for name, scores in record.metrics.get("word_overlap", {}).items()
    ]
    return pd.DataFrame(rows).drop_duplicates(ignore_index=True)


def published_sizes(table: Table) -> pd.DataFrame:
    """F1 of Tables 4 and 5, with parameters in millions, computed from the printed shares."""
    rows = []
    for row in table.rows:
        whole = _BASES.get(row.model, _BASES[table.rows[0].model])
        pruned = whole.pruned((row.attn_removed or 0.0) / 100, (row.ff_removed or 0.0) / 100)
        rows.append((row.model, row.short_f1, row.long_f1, pruned.parameters / 1e6))
    return pd.DataFrame(rows, columns=["model", "short_f1", "long_f1", "parameters"])
