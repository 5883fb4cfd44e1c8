"""What the audit of the paper's own numbers is made of: a statement and the checks of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

RELATIONS = Literal["equals", "less than", "at least"]


class Check(BaseModel):
    """One comparison: `computed` equals, is less than or is at least `published`.

    Attributes:
        label: what is compared.
        relation: what the statement says of `computed`; "less than" is strict.
        published: the paper's number, or the limit that its words set.
        computed: from other numbers of the paper or from the models' dimensions.
        tolerance: by how much `computed` may miss, in the unit of `deviation`.
        relative: the deviation is in percent of `published`, otherwise in the unit.
        unit: of the two numbers, where it is not the item's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    relation: RELATIONS = "equals"
    published: float
    computed: float
    tolerance: float = 0.0
    relative: bool = False
    unit: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def deviation(self) -> float:
        """Computed minus published, with its sign."""
        difference = self.computed - self.published
        # adding 0 turns -0.0 into 0.0
        return round(100 * difference / self.published if self.relative else difference, 9) + 0.0

    @property
    def excess(self) -> float:
        """How far beyond the tolerance; negative within it."""
        missed = {
            "equals": abs(self.deviation),
            "less than": self.deviation,
            "at least": -self.deviation,
        }[self.relation]
        return round(missed - self.tolerance, 9)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether the numbers agree with the statement."""
        return self.excess < 0 if self.relation == "less than" else self.excess <= 0


class AuditItem(BaseModel):
    """A statement about the paper's numbers and whether they bear it out.

    Attributes:
        name: of the function that computes it.
        statement: in words.
        whose: "paper" where the paper says so, "audit" where its numbers should agree but need not.
        sources: where in the paper the numbers stand.
        unit: of the numbers compared.
        checks: the comparisons; the statement holds if all of them do.
        note: what the numbers do not say by themselves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    statement: str
    whose: Literal["paper", "audit"]
    sources: tuple[str, ...]
    unit: str
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def worst(self) -> Check:
        """The check that comes nearest to failing, or fails by most."""
        return max(self.checks, key=lambda check: check.excess)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def deviation(self) -> float:
        """Of the worst check."""
        return self.worst.deviation

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)
