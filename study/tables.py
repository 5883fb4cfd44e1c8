"""Tables of runs: what records say, averaged over seeds, as frames and as Markdown text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.frames import SERIES, rows_of
from study.names import DATA

if TYPE_CHECKING:
    import pandas as pd


KINDS_PRUNED = {"none": "unpruned", "attn": "attn", "ff": "ff", "both": "ff + attn"}
"""What was pruned, by `kinds` of `scored_models`, in the words of the paper's Table 2."""

THEN = ("fine-tuned", "not retrained", "cross-entropy", "distillation")
"""What follows pruning, in the order of the tables."""

_POINT = [
    *(*SERIES, "kinds", "multiple", "penalty_attn", "penalty_ff"),
    *("gates_from", "weights_from"),
]


def operating_points(models: pd.DataFrame) -> pd.DataFrame:
    """Unpruned models, and models pruned by L0 at its own threshold (Table 2).

    Args:
        models: from `scored_models`.

    Returns:
        One row for each profile, data set, model, kinds pruned, λ, origin of gates and weights, and
        `then`. F1, shares and sizes
        are medians over `runs` (seeds), `f1_low` and `f1_high` their extremes; speed is that of the
        one model that was timed; `f1_not_retrained` is of the same gates before more training.
    """
    own = models[
        (models["variant"] == "")
        & models["fraction"].isna()
        & models["choice"].isin(["", "scores"])
        & models["scorer"].isin(["", "l0"])
    ]
    grouped = own.groupby([*_POINT, "then"], dropna=False, sort=False)
    frame = grouped.agg(
        runs=("run", "nunique"),
        f1=("f1", "median"),
        f1_low=("f1", "min"),
        f1_high=("f1", "max"),
        **{name: (name, "median") for name in _MEDIANS},
        speedup_low=("speedup_low", "min"),
        speedup_high=("speedup_high", "max"),
    ).reset_index()
    before = frame[frame["then"] == "not retrained"][[*_POINT, "f1"]]
    frame = frame.merge(before.rename(columns={"f1": "f1_not_retrained"}), "left", on=_POINT)
    frame = frame.assign(
        _kinds=frame["kinds"].map(list(KINDS_PRUNED).index), _then=frame["then"].map(THEN.index)
    )
    order = [*SERIES, "multiple", "penalty_attn", "penalty_ff", "_kinds", "_then"]
    frame = frame.sort_values(order, kind="stable", na_position="first")
    return frame.drop(columns=["_kinds", "_then"]).reset_index(drop=True)


_MEDIANS = (
    *("n", "has_answer_f1", "no_answer_f1", "long_f1", "short_f1", "attn_removed", "ff_removed"),
    *("parameters", "encoder_parameters", "size_mib", "seconds", "speedup", "macs_ratio"),
)


def point_name(row: Any) -> str:
    """An operating point as the paper's Table 2 names it, for a row of `operating_points`."""
    kinds = KINDS_PRUNED[row.kinds]
    if row.kinds == "none":
        return kinds
    origin = f", {gates_origin(row)}" if gates_origin(row) else ""
    if row.multiple == row.multiple:
        return f"{kinds} (×{row.multiple:g}){origin}"
    penalties = {"attn": row.penalty_attn, "ff": row.penalty_ff}
    given = [f"{kind} λ={value:g}" for kind, value in penalties.items() if value == value]
    return " + ".join(given) + origin


def gates_origin(row: Any) -> str:
    """Where gates, or gates and weights, come from, if not from the questions of the row."""
    if row.gates_from in ("", row.data):
        return ""
    carried = "gates" if row.weights_from == row.data else "gates and weights"
    return f"{carried} of {DATA.get(str(row.gates_from), str(row.gates_from))}"


def operating_point_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of `operating_points` as it is printed: one string a cell.

    The speed-up is the median over rounds of the unpruned model's time divided by this one's, with
    the extremes of the rounds; the ratio of multiply-accumulates is its limit.
    """
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "model": point_name(row),
                "then": row.then,
                "runs": str(row.runs),
                "F1": _with_range(row.f1, row.f1_low, row.f1_high, 1),
                "HasAns": number(row.has_answer_f1, 1),
                "NoAns": number(row.no_answer_f1, 1),
                "F1 not retrained": number(row.f1_not_retrained, 1),
                "% attn removed": number(row.attn_removed, 0),
                "% ff removed": number(row.ff_removed, 0),
                "parameters (M)": number(row.parameters / 1e6, 1),
                "size (MiB)": number(row.size_mib, 0),
                "time (s)": number(row.seconds, 2),
                "speed-up": _with_range(row.speedup, row.speedup_low, row.speedup_high, 2),
                "MACs ratio": number(row.macs_ratio, 2),
            }
            for row in rows_of(frame)
        ]
    )


def curve_means(points: pd.DataFrame) -> pd.DataFrame:
    """Mean F1 and its sd over seeds, for each curve and share removed, from `curve_points`.

    L0 at its own threshold is one row for each λ, with the mean share that its seeds removed.
    """

    key = [*SERIES, "finetune", "kind", "scorer", "label", "own_threshold"]
    values = points.assign(cut=points["removed"].where(~points["own_threshold"].astype(bool)))
    grouped = values.groupby([*key, "cut"], dropna=False, sort=True)
    means: pd.DataFrame = grouped.agg(
        removed=("removed", "mean"),
        f1=("f1", "mean"),
        sd=("f1", "std"),
        loss=("loss", "mean"),
        seeds=("seed", "nunique"),
        n=("n", "first"),
    )
    return means.reset_index().drop(columns="cut")


def removable(points: pd.DataFrame, max_loss: float = 5.0) -> pd.DataFrame:
    """The largest share that each scorer was seen to remove at a mean loss below `max_loss` F1.

    Only shares that were scored count, nothing is interpolated; L0 is taken at its own thresholds.
    Columns scorer, removed, loss; sorted by share, with 0 where no share costs so little.
    """
    import pandas as pd

    means = curve_means(points)
    means = means[(means["scorer"] != "l0") | means["own_threshold"]]
    means["scorer"] = means["label"].where(means["scorer"] != "l0", "L0")
    rows = []
    for scorer, curve in means.groupby("scorer", sort=False):
        good = curve[curve["loss"] < max_loss]
        shares = ((row.removed, row.loss) for row in rows_of(good))
        removed, loss = max(shares, default=(0.0, 0.0))
        rows.append({"scorer": scorer, "removed": removed, "loss": loss})
    frame = pd.DataFrame(rows, columns=["scorer", "removed", "loss"])
    return frame.sort_values("removed", ascending=False, ignore_index=True)


def removable_text(points: pd.DataFrame, max_loss: float = 5.0) -> str:
    """`removable` in words."""
    return "; ".join(
        f"{row.scorer} {row.removed:.0f}% ({abs(row.loss):.1f} F1 "
        f"{'lost' if row.loss >= 0 else 'gained'})"
        if row.removed
        else f"{row.scorer} none"
        for row in rows_of(removable(points, max_loss))
    )


def curve_cells(points: pd.DataFrame) -> pd.DataFrame:
    """F1 ± sd over seeds, a row for each scorer, a column for each share; one string a cell.

    The last column is L0 at its own threshold, as in the paper; all others are cuts of a ranking.
    """
    import pandas as pd

    means = curve_means(points)
    rows = []
    for label, curve in means.groupby("label", sort=False):
        cells = {"scorer": str(label)}
        cuts = curve[~curve["own_threshold"]].sort_values("removed")
        for row in rows_of(cuts):
            cells[f"{row.removed:.0f}%"] = _with_spread(row)
        own = [
            f"{_with_spread(r)} at {r.removed:.0f}%" for r in rows_of(curve[curve["own_threshold"]])
        ]
        rows.append({**cells, "own threshold": own[0] if own else "–"})
    shares = {name for cells in rows for name in cells if name.endswith("%")}
    columns = ["scorer", *sorted(shares, key=lambda name: float(name[:-1])), "own threshold"]
    return pd.DataFrame(rows, columns=columns).fillna("–")


def markdown(frame: pd.DataFrame) -> str:
    """A pipe table; cells are text already."""
    rows = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def number(value: float | None, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none."""
    if value is None or value != value:
        return "–"
    text = f"{value:.{decimals}f}"
    return text.replace("-", "−" if float(text) else "")  # no hyphen, and no minus before 0


def _with_range(middle: float, low: float, high: float, decimals: int) -> str:
    text = number(middle, decimals)
    if low == high or low != low:
        return text
    return f"{text} ({number(low, decimals)}–{number(high, decimals)})"


def _with_spread(row: Any) -> str:
    return f"{row.f1:.1f}" + (f" ± {row.sd:.1f}" if row.sd == row.sd else "")
