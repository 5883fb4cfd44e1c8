"""What a claim is, and the verdict that becomes of its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from qaprune_lib.errors import RecordError
from study.claims.estimate import Finding, Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "undecided", "holds")


class Lacking(RecordError):
    """A claim cannot be judged; the message goes on from "It" and says which runs it needs."""


@dataclass(frozen=True)
class Judgement:
    """A claim judged on one profile's records.

    Attributes:
        findings: all have to hold; the most telling one first. None where records lack.
        why: one sentence in plain words, with the numbers, or with the runs that are needed.
        missing: what could not be measured of the claim; then it cannot hold, but it can fail.
        profile, provenance, data: what it was judged on; None where there is no such record.
        models: which models stood for the paper's base and large; None likewise.
        budget: which conditions of the paper its runs do not meet, in words; empty if they do.
    """

    findings: Sequence[Finding]
    why: str
    missing: str = ""
    number: int = 0
    profile: str | None = None
    provenance: str | None = None
    data: str | None = None
    models: str | None = None
    budget: str = ""

    @property
    def effect(self) -> Finding | None:
        """The finding that decides: the first of the weakest; None if none was made."""
        order = WORST_FIRST.index
        return min(self.findings, key=lambda finding: order(finding.verdict), default=None)

    @property
    def outcome(self) -> Verdict:
        """Of the weakest finding, whatever the budget."""
        verdict = "not tested" if self.effect is None else self.effect.verdict
        return "undecided" if self.missing and verdict == "holds" else verdict

    @property
    def verdict(self) -> Verdict:
        """The outcome, but a failure counts only where the paper's conditions are met."""
        failed = self.outcome == "does not hold"
        return "not at our budget" if failed and self.budget else self.outcome

    @property
    def runs(self) -> list[str]:
        """Ids of the records that its findings rest on."""
        return sorted(set().union(*(finding.basis.get("runs", ()) for finding in self.findings)))

    def least(self, name: str) -> Any:
        """The least of something in `Estimate.basis` that a finding rests on; None of none."""
        given = [finding.basis.get(name) for finding in self.findings]
        return min((value for value in given if value is not None), default=None)

    @property
    def questions(self) -> int | None:
        """The fewest questions that one of its findings rests on."""
        return self.least("questions")

    @property
    def seeds(self) -> int | None:
        """The fewest seeds of gates, or of random's draws, that one of its findings rests on."""
        return self.least("seeds")
