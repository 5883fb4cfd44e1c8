"""L0 runs side by side: what each was given, what it removed, which differ in one setting alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from study.frames import points_of
from study.linked import SETTINGS, Runs
from study.records.record import Record

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("profile", "provenance", "data", "model", "finetune", "kind", "penalty", "seed")
RESULTS = ("variant", "steps", "reach", "removed", "f1", "loss", "floor", "run")


def l0_runs(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each L0 run and kind of gates, at its own threshold.

    Columns: `PLACE`, the settings of `SETTINGS`, and `RESULTS`. `variant` names the settings
    that most runs of the sweep do not share; `steps` were done; `reach` is
    learning rate · steps / 2, about how far Adam carries log_alpha where all gradients agree;
    `removed` and `f1` are in percent, `loss` in points of F1 below the unpruned model. A joint run
    has a row for each of its kinds.
    """
    import pandas as pd

    runs = Runs(records)
    rows = []
    for record in runs.of("score"):
        training: Any = record.metrics.get("training", {})
        for point in points_of(runs, record):
            if point["own_threshold"]:
                reach = point["learning_rate"] * training["steps"] / 2
                rows.append({**point, "steps": training["steps"], "reach": reach})
    return pd.DataFrame(rows, columns=[*PLACE, *SETTINGS, *RESULTS])


def readings(runs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The rows of `l0_runs` that have a partner equal in all but one setting, partners together.

    Raises:
        KeyError: there is no such setting.
    """
    others = [name for name in (*PLACE, *SETTINGS) if name != setting]
    if setting not in runs:
        raise KeyError(f"{setting!r} is no setting of L0; there are {', '.join(SETTINGS)}")
    values = runs.groupby(others, dropna=False)[setting].transform("nunique", dropna=False)
    return runs[values > 1].sort_values([*PLACE, setting]).reset_index(drop=True)
