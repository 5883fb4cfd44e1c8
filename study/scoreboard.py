"""The scoreboard: every claim with the paper's words, what was measured, and the verdict.

A verdict is told by symbol, word and colour, so that it survives grey print and colour blindness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from study.claims import CLAIMS, VERDICTS, Finding, Judgement, Verdict
from study.markup import render, run_link
from study.names import counted, data_of, number, origin_of


class Badge(NamedTuple):
    """How a verdict is shown: a symbol, its background and its text colour."""

    symbol: str
    background: str
    text: str


# Okabe and Ito's palette, the reddish one darkened until white text is legible on it
BADGES: dict[Verdict, Badge] = {
    "holds": Badge("✓", "#0072B2", "#FFFFFF"),
    "does not hold": Badge("✗", "#B34700", "#FFFFFF"),
    "not at our budget": Badge("~", "#56B4E9", "#000000"),
    "undecided": Badge("?", "#E69F00", "#000000"),
    "not tested": Badge("–", "#FFFFFF", "#000000"),
}


BEST_MEASURED = "the best measured profile for each"


def scoreboard(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row a claim, as text: what the paper says, what was measured, and what to make of it."""
    rows = [
        {
            "claim": str(judgement.number),
            "where": CLAIMS[judgement.number].place,
            "the paper's words": CLAIMS[judgement.number].words,
            "verdict": _verdict(judgement),
            "deciding effect": f"{effect.label}: {effect_text(effect)}" if effect else "–",
            "claimed": line_text(effect) if effect else "–",
            "why": judgement.why,
            "conditions of the paper that are not met": judgement.budget or "–",
            "judged on": places(judgement),
            "judged by": CLAIMS[judgement.number].judged_by,
        }
        for judgement in judgements
        for effect in [judgement.effect]
    ]
    return pd.DataFrame(rows)


def scoreboard_html(judgements: Sequence[Judgement]) -> str:
    """The scoreboard as an HTML table; each row has the anchor `claim-7` of its number."""
    return _html("scoreboard.html.jinja", judgements)


def overview_html(judgements: Sequence[Judgement], page: str = "") -> str:
    """A badge for each claim, linked to its row on the page, and what the symbols mean."""
    return _html("overview.html.jinja", judgements, page=page)


def verdicts_by_profile(by_claim: Mapping[int, Sequence[Judgement]]) -> pd.DataFrame:
    """One row a claim of `judge_each_profile`, one column a profile that tests any."""
    rows = [
        {"claim": str(number)} | {origin_of(vars(j)): _verdict(j) for j in judged}
        for number, judged in _of_testing_profiles(by_claim).items()
    ]
    profiles = sorted({name for row in rows for name in row} - {"claim"}, reverse=True)
    return pd.DataFrame(rows, columns=["claim", *profiles])


def verdict_counts(by_claim: Mapping[int, Sequence[Judgement]]) -> pd.DataFrame:
    """How many claims got which verdict: on each profile that tests any, and on the best measured
    one.
    """
    testing = _of_testing_profiles(by_claim).values()
    judged = [(origin_of(vars(j)), j.verdict) for each in testing for j in each]
    judged += [
        (BEST_MEASURED, "not tested" if each[0].provenance == "embedded" else each[0].verdict)
        for each in by_claim.values()
    ]
    frame = pd.DataFrame(judged, columns=["place", "verdict"])
    counts = frame.groupby(["place", "verdict"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(VERDICTS), fill_value=0)
    return counts.rename_axis("judged on").rename_axis(columns=None).reset_index()


def _of_testing_profiles(
    by_claim: Mapping[int, Sequence[Judgement]],
) -> dict[int, list[Judgement]]:
    every = [j for judged in by_claim.values() for j in judged]
    testing = {j.profile for j in every if j.verdict != "not tested"}
    return {n: [j for j in judged if j.profile in testing] for n, judged in by_claim.items()}


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


def places(judgement: Judgement) -> str:
    """Where a claim was judged, or where runs for it were looked for."""
    if judgement.data is None:
        return "no profile has such runs"
    where = vars(judgement)
    found = [origin_of(where), f"{data_of(where)}: {judgement.models}"]
    if judgement.questions is not None:
        found.append(f"{judgement.questions:,} questions")
    if judgement.seeds is not None:
        found.append(counted(judgement.seeds, "seed"))
    return "; ".join(found)


def _html(template: str, judgements: Sequence[Judgement], **values: Any) -> str:
    helpers = (places, run_link, effect_text, line_text)
    values |= {"judgements": judgements, "claims": CLAIMS, "badges": BADGES}
    return render(template, **values, **{helper.__name__: helper for helper in helpers})


def _verdict(judgement: Judgement) -> str:
    generated = "generated: " if judgement.provenance == "embedded" else ""
    return f"{generated}{BADGES[judgement.verdict].symbol} {judgement.verdict}"


def _short(value: float) -> str:
    return number(value, 2 if abs(value) < 10 else 1)
