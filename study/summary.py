"""Print the tables of a profile, `python -m study summary embedded`, or what was `--findings`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from qaprune_lib.errors import RecordError
from study.claims.curve import MAX_LOSS
from study.claims.estimate import MARGIN
from study.command import command, parser, say
from study.compressed import calls_text, compressions, with_most_time
from study.curve_tables import curve_cells, removable_shares
from study.figures.front import PICTURE, write_front
from study.frames import KINDS, SERIES, curve_points, scored_models
from study.markup import HOST, escape
from study.names import f1_of_curves, f1_of_dev, place_of
from study.records.record import Record, read_records
from study.tables import CELLS, THEN, losses_text, operating_points, point_cells


def summary(records: Sequence[Record]) -> str:
    """Curves and operating points of the records of one profile, model by model."""
    parts = []
    for _, points in curve_points(records).groupby([*SERIES, "kind"]):
        one = points.iloc[0]
        share = f"by share of {KINDS[one['kind']]} removed: {place_of(one)}"
        parts += [f"Best {f1_of_curves(one['data'])}, {share}", _plain(curve_cells(points))]
    for _, rows in operating_points(scored_models(records)).groupby(list(SERIES)):
        one, cells = rows.iloc[0], point_cells(rows, *CELLS)
        parts.append(f"Operating points, {f1_of_dev(one['data'])}: {place_of(one)}")
        parts.append(_plain(cells.loc[:, (cells != "–").any()]))
    return "\n\n".join(parts)


def findings(records: Sequence[Record]) -> list[str]:
    """What measured records say of heads, activations and speed on SQuAD 2.0, and of `compress`.

    Each is of the model with most runs of L0, or most pruned models, that stands above answering
    nothing, and leads to its records and their commits; where there is none, it says so.
    """
    models = scored_models(record for record in records if record.provenance == "measured")
    models = models[models["f1"] - models["floor"] >= MARGIN]
    lines = []
    for name, rows in _curves(records).items():
        said = "no measured runs of L0 yet"
        if len(rows):
            said = f"at under {MAX_LOSS:g} F1 lost can go: {'; '.join(removable_shares(rows))}"
        lines.append(f"- {name.capitalize()}: {escape(said)}{_source(rows)}.")
    both = models["kinds"].eq("both") & models["then"].isin(THEN[2:]) & models["speedup"].notna()
    rows = _most(models, both)
    said = losses_text(operating_points(rows))[:-1] if len(rows) else "no timed models yet"
    lines.append(f"- Speed: {escape(said[:1].lower() + said[1:])}{_source(rows)}.")
    calls = compressions(record for record in records if record.provenance == "measured")
    each = [rows for _, rows in with_most_time(calls).groupby(list(SERIES))]
    for rows in each or [calls]:
        said = escape(calls_text(rows)) if len(rows) else "no measured runs yet"
        lines.append(f"- One call of `compress`, not in the paper: {said}{_source(rows)}.")
    return lines


def answer(records: Sequence[Record]) -> str:
    """What can go, in one sentence for the book's first page; "" where nothing was measured."""
    curves = {name: rows for name, rows in _curves(records).items() if len(rows)}
    if not curves:
        return ""
    place = place_of(next(iter(curves.values())).iloc[0])
    shares = "; of the ".join(
        f"{name} {', '.join(removable_shares(rows))}" for name, rows in curves.items()
    )
    return escape(f"At under {MAX_LOSS:g} F1 lost can go of the {shares} ({place}).")


def _curves(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Measured curves of heads and of activations, each of the model with most runs of L0."""
    points = curve_points(record for record in records if record.provenance == "measured")
    points = points[points["unpruned_f1"] - points["floor"] >= MARGIN]
    found = {}
    for kind, name in list(KINDS.items())[:2]:
        of_kind = points[points["kind"].eq(kind) & points["variant"].eq("")]
        found[name] = _most(of_kind, of_kind["own_threshold"].astype(bool))
    return found


def _most(rows: pd.DataFrame, mask: pd.Series[bool]) -> pd.DataFrame:
    """The rows on SQuAD 2.0 of the model with most rows in the mask; none if none has any."""
    rows = rows[rows["data"] == "squad2"]
    key = rows[list(SERIES)].agg("/".join, axis=1) if len(rows) else rows["model"]
    counts = key[mask.reindex(rows.index)].value_counts()
    return rows[key == counts.index[0]] if len(counts) else rows[:0]


def _source(rows: pd.DataFrame) -> str:
    """Model, questions, floor, and links to records and commits."""
    if rows.empty:
        return ""
    one, commits = rows.iloc[0], sorted(set(rows["commit"].dropna()))
    floor = f", answering nothing {one['floor']:.1f}" if "floor" in rows else ""
    folder = f"results/{one['provenance']}/{one['profile']}"
    links = [f"[{commit[:7]}]({HOST}/commit/{commit})" for commit in commits]
    return (
        f" ({escape(place_of(one))}, n = {rows['n'].max():,.0f}{floor}; "
        f"[records]({folder}) at {', '.join(links)})"
    )


def _plain(frame: pd.DataFrame) -> str:
    return str(frame.to_markdown(index=False, tablefmt="github", disable_numparse=True))


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line; exit status 2 where there are no records, or damaged ones."""
    line = parser("summary", __doc__, "results")
    line.add_argument("profile", nargs="?", help="name of a profile")
    line.add_argument("--findings", action="store_true", help="a line each, of measured records")
    line.add_argument("--picture", action="store_true", help=f"draw {PICTURE} anew")
    options = line.parse_args(arguments)
    if not (options.profile or options.findings or options.picture):
        line.error("name a profile, or ask for --findings or the --picture")
    records = read_records(Path(options.results))
    if options.picture:
        write_front(records, PICTURE)
        return
    own = [record for record in records if record.profile == options.profile]
    if not (own or options.findings):
        raise RecordError(f"{options.results}: no records of profile {options.profile}")
    say("\n".join(findings(records)) if options.findings else summary(own))
