"""The paper's 32 empirical claims, each judged by one function over records.

Importing this package fills `CLAIMS`. Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby

from study.claims import (  # noqa: F401  (each registers its claims)
    curves,
    gates,
    models,
    natural_questions,
    operating_points,
    speed,
)
from study.claims.evidence import Evidence
from study.claims.judgement import (
    CLAIMS,
    VERDICTS,
    Claim,
    Finding,
    Judgement,
    Lacking,
    Verdict,
)
from study.records.record import Record

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
    given = [record for record in records if record.status == "complete"]
    names = sorted({str(record.parameters["data"]) for record in given})
    return {data: Evidence(given, data) for data in names}


def judge(claim: Claim, profile: Mapping[str, Evidence]) -> Judgement:
    """Judge a claim on one profile, on the first of the claim's data that has the runs.

    Args:
        profile: as `gather_evidence` gives it.
    """
    needs = f"needs runs on {' or '.join(QUESTIONS[data] for data in claim.data)}"
    place = {
        key: getattr(evidence, key)
        for evidence in profile.values()
        for key in ("profile", "provenance")
    }
    for evidence in (profile[data] for data in claim.data if data in profile):
        try:
            outcome = claim.judge(evidence)
        except Lacking as lacking:
            if "data" not in place:  # what lacks on the paper's own data is told first
                needs, place = str(lacking), _place(evidence)
        else:
            return Judgement(
                number=claim.number,
                verdict=outcome.verdict,
                why=outcome.why,
                findings=outcome.findings,
                **_place(evidence),
            )
    return Judgement(number=claim.number, verdict="not tested", why=f"It {needs}.", **place)


def judge_each_profile(records: Iterable[Record]) -> dict[int, list[Judgement]]:
    """Every claim on every profile, by the claim's number; the best profile first.

    Profiles that have the runs come first, measured ones before embedded ones; of several, the one
    with more questions, then the one with more seeds.
    """
    ordered = sorted((r for r in records if r.provenance != "published"), key=_profile_of)
    profiles = [gather_evidence(group) for _, group in groupby(ordered, key=_profile_of)]
    return {
        number: sorted((judge(claim, profile) for profile in profiles or [{}]), key=_rank)
        for number, claim in sorted(CLAIMS.items())
    }


def judge_all(records: Iterable[Record]) -> list[Judgement]:
    """Every claim on the best profile that has the records for it."""
    return [judgements[0] for judgements in judge_each_profile(records).values()]


def _profile_of(record: Record) -> tuple[str, str]:
    return record.provenance, record.profile


def _place(evidence: Evidence) -> dict[str, str]:
    base, large = evidence.base, evidence.large
    stand_for = f"{base} as base" + (" and large" if base == large else f", {large} as large")
    where = {"profile": evidence.profile, "provenance": evidence.provenance}
    return {**where, "data": evidence.data, "models": stand_for}


def _rank(judgement: Judgement) -> tuple[bool, int, int, int]:
    worth = (*PROVENANCES, None).index(judgement.provenance)
    few = -(judgement.questions or 0), -(judgement.seeds or 0)
    return judgement.verdict == "not tested", worth, *few


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
    "judge_all",
    "judge_each_profile",
]
