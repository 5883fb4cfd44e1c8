"""The paper's 32 empirical claims, each judged by one function over records.

Importing this package fills `CLAIMS`. Imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

# each registers its claims
from study.claims import curves, gates, models, operating_points, speed  # noqa: F401
from study.claims.estimate import MARGIN, Finding, Verdict
from study.claims.evidence import Evidence
from study.claims.judgement import CLAIMS, VERDICTS, Claim, Judgement, Lacking
from study.records.record import Record

ENOUGH = 0.95
"""Share of an epoch that counts as one: the number of windows is known to a few percent."""

PROVENANCES = ("measured", "embedded")
"""From the strongest evidence to the weakest."""

QUESTIONS = {
    "squad1": "SQuAD 1.1 (data squad1)",
    "squad2": "SQuAD 2.0 (data squad2)",
    "nq": "questions in the format of Natural Questions (data nq)",
}
"""Questions in words, by their names in records."""


def gather_evidence(records: Iterable[Record]) -> dict[str, Evidence]:
    """The records of one profile, by the name of their questions."""
    given = list(records)
    names = sorted({str(record.parameters["data"]) for record in given})
    return {data: Evidence(given, data) for data in names}


def judge(claim: Claim, profile: Mapping[str, Evidence]) -> Judgement:
    """Judge a claim on one profile, on the first of the claim's data that has the runs.

    Args:
        profile: as `gather_evidence` gives it.
    """
    found = next(iter(profile.values()), None)
    needs = f"It needs runs on {' or '.join(QUESTIONS[data] for data in claim.data)}."
    lacks = Judgement((), needs, number=claim.number)
    if found is not None:
        lacks = replace(lacks, profile=found.profile, provenance=found.provenance)
    for evidence in (profile[data] for data in claim.data if data in profile):
        base, large = evidence.base, evidence.large
        place: dict[str, Any] = {
            "number": claim.number,
            "profile": evidence.profile,
            "provenance": evidence.provenance,
            "data": evidence.data,
            "models": f"{base} as base"
            + (" and large" if base == large else f", {large} as large"),
        }
        try:
            judged = replace(claim.judge(evidence), **place)
        except Lacking as lacking:
            if lacks.data is None:  # what lacks on the paper's own data is told first
                lacks = Judgement((), f"It {lacking}.", **place)
        else:
            return _with_conditions(judged, large if claim.of_large else "")
    return lacks


def judge_each_profile(records: Iterable[Record]) -> dict[int, list[Judgement]]:
    """Every claim on every profile, by the claim's number; the best profile first.

    Measured profiles come before embedded ones, whatever they have; then those that have the runs;
    of several, the one with more questions, then the one with more seeds.
    """
    ordered = sorted((r for r in records if r.provenance != "published"), key=_profile_of)
    profiles = [gather_evidence(group) for _, group in groupby(ordered, key=_profile_of)]
    return {
        number: sorted((judge(claim, profile) for profile in profiles or [{}]), key=_rank)
        for number, claim in sorted(CLAIMS.items())
    }


def _with_conditions(judged: Judgement, large: str) -> Judgement:
    """With the conditions of the paper that the judged runs do not meet, and too weak a model."""
    unmet = []
    for name, words in (
        ("gates", "gates had {:.0f}% of the paper's training"),
        ("retraining", "retraining was {:.0f}% of an epoch"),
    ):
        done = judged.least(name)
        if done is not None and done < ENOUGH:
            unmet.append(words.format(100 * done))
    if large and not re.search("bert.*large", large.lower()):
        unmet.append(f"{large} stood for BERT-large or RoBERTa-large")
    weak = f" A model within {MARGIN:.0f} F1 points of answering nothing bears no verdict."
    at_floor = any(finding.at_floor for finding in judged.findings)
    return replace(judged, why=judged.why + weak * at_floor, budget="; ".join(unmet))


def _profile_of(record: Record) -> tuple[str, str]:
    return record.provenance, record.profile


def _rank(judgement: Judgement) -> tuple[int, bool, int, int]:
    worth = (*PROVENANCES, None).index(judgement.provenance)
    few = -(judgement.questions or 0), -(judgement.seeds or 0)
    return worth, judgement.verdict == "not tested", *few


__all__ = [
    "CLAIMS",
    "VERDICTS",
    "Claim",
    "Evidence",
    "Finding",
    "Judgement",
    "Verdict",
    "gather_evidence",
    "judge",
    "judge_each_profile",
]
