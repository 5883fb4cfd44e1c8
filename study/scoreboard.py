"""The scoreboard: every claim with the paper's words, what was measured, and the verdict.

A verdict is told by symbol, word and colour, so that it survives grey print and colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from study.claims import CLAIMS, VERDICTS, Finding, Judgement, Verdict
from study.claims.statistics import number
from study.names import data_of, origin_of

if TYPE_CHECKING:
    import pandas as pd


class Badge(NamedTuple):
    """How a verdict is shown: a symbol, its background and its text colour."""

    symbol: str
    background: str
    text: str


# Okabe and Ito's palette, the reddish one darkened until white text is legible on it
BADGES: dict[Verdict, Badge] = {
    "holds": Badge("✓", "#0072B2", "#FFFFFF"),
    "does not hold": Badge("✗", "#B34700", "#FFFFFF"),
    "undecided": Badge("?", "#E69F00", "#000000"),
    "not tested": Badge("–", "#FFFFFF", "#000000"),
}

STYLE = """<style>
.claims { font-size: 0.85em; border-collapse: collapse; width: 100%; }
.claims td, .claims th { vertical-align: top; text-align: left; padding: 0.4em 0.5em;
  border-bottom: 1px solid #888888; }
.claims q { font-style: italic; }
.claims details, .claims small { opacity: 0.85; }
.claims small { display: block; margin-top: 0.3em; font-size: 0.9em; }
.claims td:last-child { width: 50%; }
.verdict { display: inline-block; white-space: nowrap; border: 1px solid #555555;
  border-radius: 0.3em; padding: 0 0.4em; text-decoration: none; }
.overview { display: flex; flex-wrap: wrap; gap: 0.3em; margin-bottom: 0.8em; }
</style>
"""


def scoreboard(judgements: Iterable[Judgement]) -> pd.DataFrame:
    """One row a claim, as text: what the paper says, what was measured, and what to make of it."""
    import pandas as pd

    return pd.DataFrame([_row(judgement) for judgement in judgements]).set_index("claim")


def scoreboard_html(judgements: Iterable[Judgement]) -> str:
    """The scoreboard as an HTML table; each row has the anchor `claim-7` of its number."""
    head = "".join(f"<th>{name}</th>" for name in ("Claim", "Verdict", "Measured"))
    rows = "".join(_html_row(judgement) for judgement in judgements)
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'{STYLE}<table class="claims">{body}</table>'


def overview_html(judgements: Iterable[Judgement], page: str = "") -> str:
    """A badge for each claim, linked to its row on the page, and what the symbols mean."""
    badges = "".join(
        f'<a href="{page}#claim-{j.number}" title="{escape(_tip(j))}">'
        f"{_badge(j.verdict, f'{j.number} {BADGES[j.verdict].symbol}')}</a>"
        for j in judgements
    )
    legend = " ".join(badge_html(verdict) for verdict in VERDICTS)
    return f'{STYLE}<div class="overview">{badges}</div><p>{legend}</p>'


def scoreboard_markdown(judgements: Iterable[Judgement]) -> str:
    """The scoreboard as a Markdown table, for readers without HTML."""
    frame = scoreboard(judgements).reset_index().replace(r"\|", "/", regex=True)
    return str(frame.to_markdown(index=False))


def badge_html(verdict: Verdict) -> str:
    """A verdict as symbol and word on its colour."""
    return _badge(verdict, f"{BADGES[verdict].symbol} {verdict}")


def verdicts_by_profile(by_claim: Mapping[int, Sequence[Judgement]]) -> pd.DataFrame:
    """One row a claim, one column a profile, with symbol and word of each verdict.

    Args:
        by_claim: as `judge_each_profile` gives it.
    """
    import pandas as pd

    verdict = {
        (j.number, _profile(j)): f"{BADGES[j.verdict].symbol} {j.verdict}"
        for judgements in by_claim.values()
        for j in judgements
        if j.profile is not None
    }
    profiles = sorted({profile for _, profile in verdict}, reverse=True)
    rows = [[verdict[number, profile] for profile in profiles] for number in by_claim]
    return pd.DataFrame(rows, index=pd.Index(by_claim, name="claim"), columns=pd.Index(profiles))


def verdict_counts(by_claim: Mapping[int, Sequence[Judgement]]) -> pd.DataFrame:
    """How many claims got which verdict: on each profile apart, and on the best one.

    Args:
        by_claim: as `judge_each_profile` gives it.
    """
    import pandas as pd

    rows = [
        {"judged on": _profile(j), "verdict": j.verdict}
        for judgements in by_claim.values()
        for j in judgements
        if j.profile is not None
    ]
    rows += [
        {"judged on": "the best profile for each", "verdict": judgements[0].verdict}
        for judgements in by_claim.values()
    ]
    frame = pd.DataFrame(rows)
    counts = pd.crosstab(frame["judged on"], frame["verdict"])
    counts = counts.reindex(index=frame["judged on"].unique(), columns=list(VERDICTS))
    return counts.fillna(0).astype(int).rename_axis(index="judged on", columns=None)


def effect_text(finding: Finding) -> str:
    """A finding as text: its number with unit and interval."""
    bound = f"{finding.bound} " if finding.bound else ""
    text = f"{bound}{_short(finding.value)} {finding.unit}"
    if finding.low is None or finding.high is None:
        return f"{text} (one run, no interval)"
    if finding.low == finding.high:
        return text
    return f"{text} ({_short(finding.low)} to {_short(finding.high)})"


def line_text(finding: Finding) -> str:
    """What the claim says of a finding, for instance "above 10"."""
    if finding.upper is not None:
        return f"within {_short(finding.line)} to {_short(finding.upper)}"
    return f"{finding.relation} {_short(finding.line)}"


def _row(judgement: Judgement) -> dict[str, str | int]:
    claim, effect = CLAIMS[judgement.number], judgement.effect
    return {
        "claim": claim.number,
        "where": claim.where,
        "the paper's words": claim.words,
        "verdict": f"{BADGES[judgement.verdict].symbol} {judgement.verdict}",
        "deciding effect": f"{effect.label}: {effect_text(effect)}" if effect else "–",
        "claimed": line_text(effect) if effect else "–",
        "why": judgement.why,
        "judged on": "; ".join(_places(judgement)),
        "judged by": claim.judged_by,
    }


def _html_row(judgement: Judgement) -> str:
    claim = CLAIMS[judgement.number]
    findings = "".join(
        f"<li>{escape(f.label)}: {escape(effect_text(f))}, claimed {escape(line_text(f))}: "
        f"{BADGES[f.verdict].symbol} {f.verdict}</li>"
        for f in judgement.findings
    )
    parts = f"<details><summary>all parts</summary><ul>{findings}</ul></details>"
    place = escape("; ".join(_places(judgement)))
    cells = (
        f"<b>{claim.number}</b> {escape(claim.where)}<br><q>{escape(claim.words)}</q>"
        f"<details><summary>how it is judged</summary>{escape(claim.judged_by)}</details>",
        badge_html(judgement.verdict),
        f"{escape(judgement.why)}<small>{place}</small>{parts if findings else ''}",
    )
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr id="claim-{claim.number}">{row}</tr>'


def _profile(judgement: Judgement) -> str:
    return origin_of(vars(judgement))


def _places(judgement: Judgement) -> list[str]:
    """Where a claim was judged, or where runs for it were looked for."""
    if judgement.data is None:
        return ["no profile has such runs"]
    found = [
        _profile(judgement),
        f"{data_of(vars(judgement))}: {judgement.models}",
    ]
    if judgement.questions is not None:
        found.append(f"{judgement.questions:,} questions")
    if judgement.seeds is not None:
        found.append(f"{judgement.seeds} {'seed' if judgement.seeds == 1 else 'seeds'}")
    return found


def _tip(judgement: Judgement) -> str:
    return f"{judgement.number}: {judgement.verdict}. {judgement.why}"


def _badge(verdict: Verdict, text: str) -> str:
    look = BADGES[verdict]
    colours = f"background:{look.background};color:{look.text}"
    return f'<span class="verdict" style="{colours}">{escape(text)}</span>'


def _short(value: float) -> str:
    return number(value, 2 if abs(value) < 10 else 1)
