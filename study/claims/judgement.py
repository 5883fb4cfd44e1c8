"""What a claim is, and the verdict that becomes of its findings."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING, Any, get_args

from qaprune_lib.errors import RecordError
from study.claims.estimate import Finding, Verdict

if TYPE_CHECKING:
    from study.claims.evidence import Evidence

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
WORST_FIRST: tuple[Verdict, ...] = ("does not hold", "undecided", "holds")
OF_BASE = {*range(5, 15), 32}
"""Claims that the paper makes of BERT-base; the others are of BERT-large or RoBERTa-large."""

Parts = Generator[Finding, None, str | tuple[str, str]]
"""What a claim's function gives: findings, and at the end `why` and `missing` of `Judgement`."""


class Lacking(RecordError):
    """A claim cannot be judged; the message goes on from "It" and says which runs it needs."""


@dataclass(frozen=True)
class Judgement:
    """A claim judged on one profile's records.

    Attributes:
        findings: all have to hold; the most telling one first. None where records lack.
        why: one sentence in plain words, with the numbers, or with the runs that are needed.
        missing: what could not be measured of the claim; then it cannot hold, but it can fail.
        number: of the claim.
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

    @classmethod
    def of(cls, parts: Parts) -> Judgement:
        """From what a claim's function gives; raises `Lacking` as it does."""
        findings: list[Finding] = []
        try:
            while True:
                findings.append(next(parts))
        except StopIteration as end:
            why, missing = (end.value, "") if isinstance(end.value, str) else end.value
        return cls(tuple(findings), why, missing)

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


@dataclass(frozen=True)
class Claim:
    """An empirical claim of the paper.

    Attributes:
        number: of 1 to 32, in the paper's order of topics.
        where: in the paper.
        words: the paper's own, with … where words are left out.
        data: names of the questions it can be judged on, the paper's first.
        parts: from records to findings; raises `Lacking`.
    """

    number: int
    where: str
    words: str
    data: tuple[str, ...]
    parts: Callable[[Evidence], Parts]

    @property
    def judged_by(self) -> str:
        """What has to be measured for the claim to hold."""
        return cleandoc(self.parts.__doc__ or "").replace("\n", " ")


CLAIMS: dict[int, Claim] = {}
"""All claims by number; filled as the modules of this package are imported."""


def claim(
    number: int, where: str, words: str, data: tuple[str, ...] = ("squad2",)
) -> Callable[[Callable[[Evidence], Parts]], Callable[[Evidence], Parts]]:
    """Register the function of a claim, whose docstring says where the line is.

    `where` is a section's number, or anything else in words.
    """
    place = f"Section {where}" if where[0].isdigit() else where

    def register(parts: Callable[[Evidence], Parts]) -> Callable[[Evidence], Parts]:
        CLAIMS[number] = Claim(number, place, words, data, parts)
        return parts

    return register
