"""What a claim is, and what becomes of it: findings against their lines, and a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from qaprune_lib.errors import RecordError
from study.claims.statistics import Estimate

if TYPE_CHECKING:
    from study.claims.evidence import Evidence

Verdict = Literal["holds", "does not hold", "undecided", "not tested"]
VERDICTS: tuple[Verdict, ...] = ("holds", "does not hold", "undecided", "not tested")

_FROM_BAD_TO_GOOD: tuple[Verdict, ...] = ("does not hold", "undecided", "holds")


class Lacking(RecordError):
    """A claim cannot be judged; the message goes on from "It" and says which runs it needs."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(_Frozen):
    """One measured effect against the line that the claim draws.

    The line lies at `line`: the claim says that the effect is above it, below it, or, with
    `upper`, between the two.

    Attributes:
        label: what was measured.
        value, unit: the effect.
        low, high: its 95% interval, for times the range over rounds; None if one run alone gives
            the number, so that its spread is not known.
        bound: a curve ended too early: the effect is "at least", or "at most", what is measured.
        questions, seeds: what it rests on; None if it rests on none.
    """

    label: str
    value: float
    unit: str
    low: float | None
    high: float | None
    relation: Literal["above", "below", "within"]
    line: float
    upper: float | None = None
    bound: Literal["at least", "at most"] | None = None
    questions: int | None = None
    seeds: int | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """Holds with the whole interval on the claimed side, not with all of it on the other."""
        if self.low is None or self.high is None:
            return "undecided"
        if self.relation == "within":
            assert self.upper is not None
            inside = self.line <= self.low and self.high <= self.upper
            outside = self.high < self.line or self.low > self.upper
        elif self.relation == "above":
            inside, outside = self.low > self.line, self.high <= self.line
            inside = inside and self.bound != "at most"
            outside = outside and self.bound != "at least"
        else:
            inside, outside = self.high < self.line, self.low >= self.line
            inside = inside and self.bound != "at least"
            outside = outside and self.bound != "at most"
        return "holds" if inside else "does not hold" if outside else "undecided"


def above(
    effect: Estimate,
    line: float,
    unit: str,
    label: str,
    *,
    bound: Literal["at least", "at most"] | None = None,
) -> Finding:
    """The claim says that the effect is above the line."""
    return _finding(effect, unit, label, relation="above", line=line, bound=bound)


def below(effect: Estimate, line: float, unit: str, label: str) -> Finding:
    """The claim says that the effect is below the line."""
    return _finding(effect, unit, label, relation="below", line=line)


def within(effect: Estimate, line: float, upper: float, unit: str, label: str) -> Finding:
    """A claim of equivalence: the effect lies between two lines.

    It holds if the whole interval does (a two one-sided test at 2.5% each), and does not hold if
    none of the interval does.
    """
    return _finding(effect, unit, label, relation="within", line=line, upper=upper)


def _finding(effect: Estimate, unit: str, label: str, **line: object) -> Finding:
    low, high = effect.interval or (None, None)
    return Finding.model_validate(
        {
            "label": label,
            "value": effect.value,
            "unit": unit,
            "low": low,
            "high": high,
            "questions": effect.questions,
            "seeds": effect.seeds,
            **line,
        }
    )


def weakest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim of several parts."""
    return min(verdicts, key=_FROM_BAD_TO_GOOD.index)


def strength(outcome: Outcome) -> int:
    """For the choice of the best of several outcomes, where one of them is enough."""
    return _FROM_BAD_TO_GOOD.index(outcome.verdict)


@dataclass(frozen=True)
class Outcome:
    """What a claim's function returns.

    Attributes:
        findings: all have to hold; the most telling one first.
        why: one sentence with the numbers.
        missing: what could not be measured of the claim; then it cannot hold, but it can fail.
    """

    findings: tuple[Finding, ...]
    why: str
    missing: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the weakest finding."""
        verdict = weakest([finding.verdict for finding in self.findings])
        return "undecided" if self.missing and verdict == "holds" else verdict


class Judgement(_Frozen):
    """A claim judged on one profile's records.

    Attributes:
        number: of the claim.
        verdict: "not tested" if records lack.
        why: one sentence in plain words, with the numbers, or with the runs that are needed.
        findings: all parts of the claim that were measured.
        profile, provenance, data: what it was judged on; None where there is no such record.
        models: which models stood for the paper's base and large; None likewise.
    """

    number: int
    verdict: Verdict
    why: str
    findings: tuple[Finding, ...] = ()
    profile: str | None = None
    provenance: str | None = None
    data: str | None = None
    models: str | None = None

    @property
    def effect(self) -> Finding | None:
        """The finding that decides: the first of the weakest; None if none was made."""
        if not self.findings:
            return None
        return min(self.findings, key=lambda finding: _FROM_BAD_TO_GOOD.index(finding.verdict))

    @property
    def questions(self) -> int | None:
        """The fewest questions that one of its findings rests on."""
        return min((f.questions for f in self.findings if f.questions is not None), default=None)

    @property
    def seeds(self) -> int | None:
        """The fewest seeds of gates, or of random's draws, that one of its findings rests on."""
        return min((f.seeds for f in self.findings if f.seeds is not None), default=None)


Judge = Callable[["Evidence"], Outcome]


@dataclass(frozen=True)
class Claim:
    """An empirical claim of the paper.

    Attributes:
        number: of 1 to 32, in the paper's order of topics.
        where: in the paper.
        words: the paper's own, with … where words are left out.
        data: names of the questions it can be judged on, the paper's first.
        judge: from records to an outcome; raises `Lacking`.
    """

    number: int
    where: str
    words: str
    data: tuple[str, ...]
    judge: Judge

    @property
    def judged_by(self) -> str:
        """What has to be measured for the claim to hold."""
        return cleandoc(self.judge.__doc__ or "").replace("\n", " ")


CLAIMS: dict[int, Claim] = {}
"""All claims by number; filled as the modules of this package are imported."""


def claim(
    number: int, where: str, words: str, *, data: Sequence[str] = ("squad2",)
) -> Callable[[Judge], Judge]:
    """Register a function as the judge of a claim; its docstring says where the line is."""

    def register(judge: Judge) -> Judge:
        CLAIMS[number] = Claim(number, where, words, tuple(data), judge)
        return judge

    return register
