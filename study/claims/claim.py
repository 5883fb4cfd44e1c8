"""The claims of claims.toml, judged by one evaluator: which keys there are, that file says."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from study.claims import curve, estimate, measures
from study.claims.estimate import F1, Estimate, Finding
from study.claims.evidence import Evidence
from study.claims.judgement import WORST_FIRST, Judgement, Lacking
from study.expressions import evaluate, sentence
from study.frames import KINDS, SCORERS
from study.paper.published import TEXT

Names = dict[str, Any]
VOCABULARY: Names = {**vars(estimate), **vars(curve), **vars(measures), "mean": np.mean}
VOCABULARY |= {"KINDS": KINDS, "SCORERS": SCORERS, "text": TEXT}
VOCABULARY |= {"min": min, "max": max, "pairwise": pairwise}


class Part(BaseModel, frozen=True, extra="forbid"):
    """One thing that a claim measures, and the line that it draws."""

    label: str
    value: str
    above: float | str | None = None
    below: float | str | None = None
    within: tuple[float, float] | None = None
    unit: str = F1
    each: str = "_ in [none]"
    condition: str = Field("true", alias="if")
    bound: str = "none"
    optional: bool = False

    def measured(self, names: Names) -> Iterator[tuple[Estimate, Finding] | str]:
        """An estimate and its finding for each turn; or, of an optional part, what lacks."""
        for turn in _turns(self.each, names):
            if not evaluate(self.condition, turn):
                continue
            found: Estimate = replace(evaluate(self.value, turn), tests=names.get("tests", 1))
            label, unit = sentence(self.label, turn), sentence(self.unit, turn)
            try:
                bound = evaluate(self.bound, turn)
            except Lacking as reason:
                if not self.optional:
                    raise
                yield str(reason)
                continue
            if self.within is not None:
                yield found, found.within(*self.within, unit, label)
                continue
            against = found.below if self.above is None else found.above
            line = evaluate(str(self.below if self.above is None else self.above), turn)
            yield found, against(float(line), unit, label, bound)


class Claim(BaseModel, frozen=True, extra="forbid"):
    """An empirical claim of the paper, of 1 to 32 in its order of topics; see claims.toml."""

    number: int
    where: str
    words: str
    judged_by: str
    data: tuple[str, ...] = ("squad2",)
    let: dict[str, str] = {}
    requires: tuple[tuple[str, str], ...] = ()
    any_of: str = ""
    parts: tuple[Part, ...] = ()
    why: str = ""
    missing: str = ""
    rests_on: tuple[int, ...] = ()

    @cached_property
    def place(self) -> str:
        """Where it stands in the paper, in words."""
        return f"Section {self.where}" if self.where[0].isdigit() else self.where

    def judged(self, evidence: Evidence) -> Judgement:
        """Its findings on these records; raises `Lacking` where they are not enough."""
        if self.rests_on:
            return self._summed_up(evidence)
        names = {**VOCABULARY, **evidence.vocabulary}
        for name, expression in self.let.items():
            names[name] = evaluate(expression, names)
        for condition, needed in self.requires:
            if not evaluate(condition, names):
                raise Lacking(f"needs {sentence(needed, names)}")
        if not self.any_of:
            return self._of(names)
        turns = list(_turns(self.any_of, names))
        return max((self._of({**turn, "tests": len(turns)}) for turn in turns), key=_success)

    def _of(self, names: Names) -> Judgement:
        measured = [list(part.measured(names)) for part in self.parts]
        lacking = [each for part in measured for each in part if isinstance(each, str)]
        pairs = [[each for each in part if not isinstance(each, str)] for part in measured]
        if not any(pairs):
            raise Lacking(lacking[-1])
        estimates = [[each for each, _ in part] for part in pairs]
        looped = [part.each != Part.model_fields["each"].default for part in self.parts]
        names["found"] = [
            each if loop or not each else each[0]
            for each, loop in zip(estimates, looped, strict=True)
        ]
        missing = "; ".join(filter(None, [sentence(self.missing, names), *lacking]))
        findings = tuple(finding for part in pairs for _, finding in part)
        return Judgement(findings, sentence(self.why, names), missing, self.number)

    def _summed_up(self, evidence: Evidence) -> Judgement:
        outcomes, lacking = {}, {}
        findings: list[Finding] = []
        for number in self.rests_on:
            try:
                judged = CLAIMS[number].judged(evidence)
            except Lacking as reason:
                lacking[number] = str(reason)
            else:
                outcomes[number] = judged.outcome
                findings += judged.findings
        if lacking and "does not hold" not in outcomes.values():
            raise Lacking(f"rests on claim {min(lacking)}, which {lacking[min(lacking)]}")
        words = [f"claim {number} {outcome}" for number, outcome in outcomes.items()]
        words += [f"claim {number} is not tested" for number in lacking]
        missing = "part of a claim" if "undecided" in outcomes.values() else ""
        why = f"It rests on five other claims: {', '.join(words)}."
        return Judgement(tuple(findings), why, missing, self.number)


def _turns(loop: str, names: Names) -> Iterator[Names]:
    """The names, with those before " in " bound to each item of the list after it."""
    given, _, expression = loop.partition(" in ")
    variables = given.split(", ")
    for item in evaluate(expression, names):
        values = [item] if len(variables) == 1 else item
        yield {**names, **dict(zip(variables, values, strict=True))}


def _success(judged: Judgement) -> tuple[bool, int, float]:
    """How near all parts are to their lines; models that bear no verdict come last."""
    missed = sum(
        max(0.0, sign * (finding.value / finding.line - 1))
        for finding in judged.findings
        for sign in [1 if finding.relation == "below" else -1]
    )
    at_floor = any(finding.at_floor for finding in judged.findings)
    return not at_floor, WORST_FIRST.index(judged.outcome), -missed


def _read() -> dict[int, Claim]:
    path = Path(__file__).with_name("claims.toml")
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    claims = {}
    for number, given in data.items():
        base = data[str(given.pop("as"))] if "as" in given else {}
        given["let"] = {**base.get("let", {}), **given.get("let", {})}
        claims[int(number)] = Claim.model_validate({**base, **given, "number": int(number)})
    return claims


CLAIMS = _read()
"""All claims by number."""
