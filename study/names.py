"""Profiles, models and questions in words, the same in figures, tables and captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.linked import TAUGHT_BY

Row = Mapping[Any, Any] | pd.Series

DATA = {"squad1": "SQuAD 1.1", "squad2": "SQuAD 2.0", "nq": "NQ-format questions"}
"""Questions by their names in records."""

PROVENANCES = ("measured", "embedded")
"""From the strongest evidence to the weakest, the order in which pages show them."""

MODELS = {
    "minilm": "MiniLM",
    "mpnet-base": "MPNet",
    "embedded": "four-layer MiniLM",
    "embedded-small": "three-layer MiniLM",
    "embedded-roberta": "four-layer MiniLM as a RoBERTa",
}
"""Models by the names that `load_model` knows; all others keep theirs."""


def origin_of(row: Row) -> str:
    """Whose numbers: the provenance, and the profile where its name is another."""
    profile, provenance = row["profile"], row["provenance"]
    return f"{provenance} profile" if profile == provenance else f"{provenance}, profile {profile}"


def model_of(row: Row) -> str:
    """The name of a row's model, and of the one that taught it, if one did."""
    parts = str(row["model"]).split(TAUGHT_BY)
    return TAUGHT_BY.join(MODELS.get(part, part) for part in parts)


def data_of(row: Row) -> str:
    """The name of a row's questions; those of the generated corpus only have a data set's form."""
    name = DATA.get(str(row["data"]), str(row["data"]))
    return f"generated {name}" if row["provenance"] == "embedded" else name


def f1_of_dev(data: str) -> str:
    """What an axis shows: on Natural Questions `f1` is that of short answers."""
    return f"{'short-answer ' if data == 'nq' else ''}F1 on dev questions (%)"


def split_of_curves(data: str) -> str:
    """The questions that score sparsity curves: there are held-out ones of SQuAD alone."""
    return "dev" if data == "nq" else "held-out"


def f1_of_curves(data: str) -> str:
    """As `f1_of_dev`, of sparsity curves."""
    return f1_of_dev(data).replace("dev", split_of_curves(data))


def place_of(row: Row) -> str:
    """Model, questions and whose numbers: what stands above every figure of ours."""
    return f"{model_of(row)} on {data_of(row)}, {origin_of(row)}"


def measured_first(rows: pd.DataFrame) -> pd.DataFrame:
    """The order in which all pages show provenances, "measured" before "embedded"."""
    return rows.sort_values("provenance", key=lambda p: p.map(PROVENANCES.index), kind="stable")


def counted(number: float, thing: str) -> str:
    """A number of things: "1 seed", "3,000 seeds"."""
    return f"{number:,.0f} {thing}{'' if number == 1 else 's'}"


def number(value: float | None, decimals: int = 1) -> str:
    """A number with so many decimals; a dash where there is none."""
    if value is None or value != value:
        return "–"
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−" if float(text) else "")  # no hyphen, and no minus before 0
