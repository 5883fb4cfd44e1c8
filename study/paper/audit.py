"""An audit of the paper's own tables: audit.toml, evaluated."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from qaprune_lib.errors import RecordError
from study.expressions import evaluate
from study.paper import released
from study.paper.fits import TimeFit, fit_decoding_time, least_squares_time
from study.paper.published import TABLES, TEXT
from study.paper.released import Released

AUDIT = Path(__file__).with_name("audit.toml")


class Check(BaseModel, frozen=True, extra="forbid"):
    """One comparison of a computed number with a published one; audit.toml says what is what."""

    label: str
    computed: float
    relation: Literal["==", "<", ">="]
    published: float
    unit: str
    tolerance: float = 0.0
    relative: bool = False

    @property
    def deviation(self) -> float:
        """Computed minus published, with its sign."""
        difference = self.computed - self.published
        # adding 0 turns -0.0 into 0.0
        return round(100 * difference / self.published if self.relative else difference, 9) + 0.0

    @property
    def excess(self) -> float:
        """How far beyond the tolerance; negative within it."""
        by = self.deviation
        missed = {"==": abs(by), "<": by, ">=": -by}[self.relation]
        return round(missed - self.tolerance, 9)

    @property
    def holds(self) -> bool:
        """Whether the numbers agree with the statement."""
        return self.excess < 0 if self.relation == "<" else self.excess <= 0


class AuditItem(BaseModel, frozen=True, extra="forbid"):
    """A statement about the paper's numbers, with its sources in the paper."""

    name: str
    statement: str
    whose: Literal["paper", "audit"]
    sources: tuple[str, ...]
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def nearest_to_failing(item: AuditItem) -> str:
    """The check of an item that comes nearest to failing, or fails by most, in words."""
    worst = max(item.checks, key=lambda check: check.excess)
    bound = {"==": "", "<": "less than ", ">=": "at least "}[worst.relation]
    gap = f"{worst.deviation:+.3g}{'%' * worst.relative}".replace("-", "−")
    numbers = f"expected {bound}{worst.published:.4g}, found {worst.computed:.4g}"
    return f"{worst.label}: {numbers} {worst.unit} ({gap})"


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's ρ of numbers without ties."""
    ranks = np.argsort(np.argsort([first, second])).astype(float)
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


_NUMBERS = (abs, max, min, round, np.interp, spearman)
_OBJECTS = (Released.pruned, Released.macs, TimeFit.seconds)
_FUNCTIONS: dict[str, Any] = {function.__name__: function for function in _NUMBERS + _OBJECTS}


def audit(path: Path = AUDIT) -> tuple[AuditItem, ...]:
    """Every item of audit.toml, in the order of the paper's tables."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = _FUNCTIONS | {
        f"table{t.number}": SimpleNamespace(**t.named) for t in TABLES
    }
    names |= {key.lower(): m for key, m in vars(released).items() if isinstance(m, Released)}
    names |= {"text": SimpleNamespace(**TEXT)}
    names |= {"three_rows": fit_decoding_time(), "all_rows": least_squares_time()}
    for name, expression in data["names"].items():
        names[name] = evaluate(expression, names)
    items = []
    for name, item in data["item"].items():
        try:
            items.append(_item(name, item, names))
        except (ArithmeticError, LookupError, SyntaxError, TypeError, ValueError) as error:
            raise RecordError(f"{path}, item {name}: {error}") from error
    return tuple(items)


def _item(name: str, item: dict[str, Any], names: dict[str, Any]) -> AuditItem:
    """An item with its checks evaluated, in turn for each value of the names in its `each`."""
    shared = {key: item.pop(key) for key in ("unit", "tolerance", "relative") if key in item}
    each: dict[str, list[str]] = item.pop("each", {})
    checks = []
    for turn in zip(*each.values(), strict=True) if each else [()]:
        here = names | {key: evaluate(value, names) for key, value in zip(each, turn, strict=True)}
        for label, line in item["checks"].items():
            given = shared | (line if isinstance(line, dict) else {"check": line})
            checks.append(_check(label, given, here))
    return AuditItem.model_validate(item | {"name": name, "checks": checks})


def _check(label: str, given: dict[str, Any], names: dict[str, Any]) -> Check:
    sides = re.split(r"\s(==|<|>=)\s", given.pop("check", ""))
    if len(sides) != 3:
        raise RecordError(f"{label!r} is no comparison by ==, < or >=")
    parts = {"computed": sides[0], "published": sides[2], "tolerance": given.get("tolerance", 0)}
    numbers = {key: evaluate(str(expression), names) for key, expression in parts.items()}
    label = re.sub("{(.*?)}", lambda name: evaluate(name[1], names), label)
    return Check.model_validate(given | numbers | {"label": label, "relation": sides[1]})
