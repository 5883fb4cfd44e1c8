"""The paper's 32 empirical claims, judged over records. Imports neither torch nor transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from study.claims.claim import CLAIMS, Claim
from study.claims.estimate import MARGIN, Finding, Verdict
from study.claims.evidence import Evidence
from study.claims.judgement import VERDICTS, Judgement, Lacking
from study.names import DATA, PROVENANCES
from study.records.record import Record

QUESTIONS = {**DATA, "nq": "questions in the format of Natural Questions"}
OF_BASE = {*range(5, 15), 32}
"""Claims that the paper makes of BERT-base; the others are of BERT-large or RoBERTa-large."""

ENOUGH = 0.95
"""Share of the paper's training that counts as all of it: windows are counted roughly."""


def gather_evidence(records: Iterable[Record]) -> dict[str, Evidence]:
    """The records of one profile, by the name of their questions."""
    given = list(records)
    names = sorted({str(record.parameters["data"]) for record in given})
    return {data: Evidence(given, data) for data in names}


def judge(claim: Claim, profile: Mapping[str, Evidence]) -> Judgement:
    """Judge a claim on one profile's evidence, on the first of its data that has the runs."""
    needs = " or ".join(f"{QUESTIONS[data]} (data {data})" for data in claim.data)
    lacks = Judgement((), f"It needs runs on {needs}.", number=claim.number)
    for evidence in profile.values():
        lacks = replace(lacks, profile=evidence.profile, provenance=evidence.provenance)
    for evidence in (profile[data] for data in claim.data if data in profile):
        base, large = evidence.base, evidence.large
        both = f"{base} as base" + (" and large" if base == large else f", {large} as large")
        place: dict[str, Any] = {"data": evidence.data, "models": both}
        try:
            judged = claim.judged(evidence)
        except Lacking as reason:
            if lacks.data is None:  # what lacks on the paper's own data is told first
                lacks = replace(lacks, why=f"It {reason}.", **place)
        else:
            place |= {"profile": evidence.profile, "provenance": evidence.provenance}
            return _with_conditions(replace(judged, **place), large)
    return lacks


def judge_each_profile(records: Iterable[Record]) -> dict[int, list[Judgement]]:
    """Every claim on every profile, by the claim's number; the best profile first.

    Measured profiles come before embedded ones, whatever they have; then those that have the runs;
    of several, the one with more questions, then the one with more seeds.
    """
    ordered = sorted((r for r in records if r.provenance in PROVENANCES), key=_profile_of)
    profiles = [gather_evidence(group) for _, group in groupby(ordered, key=_profile_of)]
    return {
        number: sorted((judge(claim, profile) for profile in profiles or [{}]), key=_rank)
        for number, claim in sorted(CLAIMS.items())
    }


def _with_conditions(judged: Judgement, large: str) -> Judgement:
    """Say which conditions of the paper the runs do not meet, and whether a model is too weak."""
    gated, retrained = (judged.least(name) for name in ("gates", "retraining"))
    is_large = judged.number in OF_BASE or re.search("bert.*large", large.lower())
    unmet = {
        f"gates had {100 * (gated or 0):.0f}% of the paper's training": gated,
        f"retraining was {100 * (retrained or 0):.0f}% of an epoch": retrained,
        f"{large} stood for BERT-large or RoBERTa-large": 1 if is_large else 0,
    }
    budget = [words for words, done in unmet.items() if done is not None and done < ENOUGH]
    floor = f" It rests on a model within {MARGIN:.0f} F1 points of answering nothing."
    why = judged.why + floor * any(finding.at_floor for finding in judged.findings)
    return replace(judged, why=why, budget="; ".join(budget))


def _profile_of(record: Record) -> tuple[str, str]:
    return record.provenance, record.profile


def _rank(judgement: Judgement) -> tuple[int, bool, int, int]:
    worth = (*PROVENANCES, None).index(judgement.provenance)
    few = -(judgement.questions or 0), -(judgement.seeds or 0)
    return worth, judgement.verdict == "not tested", *few


__all__ = ["CLAIMS", "VERDICTS", "Claim", "Evidence", "Finding", "Judgement", "Verdict"]
__all__ += ["gather_evidence", "judge", "judge_each_profile"]
