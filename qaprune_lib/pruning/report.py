"""What a compression did, step by step, and what came of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from qaprune_lib.evaluation.squad import Scores
from qaprune_lib.evaluation.timing import Timing
from qaprune_lib.pruning.serving import Served


class Step(BaseModel):
    """A model on the way.

    Attributes:
        what: was done.
        f1: on the held-out questions, at the best threshold there.
        threshold: this one: "no answer" where the null score exceeds the best span's by more.
        attn, ff: percentages removed so far.
        seconds: that it took.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: str
    f1: float
    threshold: float
    attn: float
    ff: float
    seconds: float


class Compression(BaseModel):
    """What came of it, and under which conditions.

    Attributes:
        target, budget: what was asked for.
        steps: in their order, the unpruned model first; what did not help is listed, not kept.
        chosen: the step whose model came out.
        scored_on: "dev", or "heldout" where there is no dev set.
        before, after: scores there, at the thresholds of the steps.
        times: of both models, decoding held-out questions in turns.
        served: ways to serve the result, the unpruned model in torch first; none if it was not
            exported.
        questions: digest of each split.
        windows, seed: what they say.
        scored: training questions that slices were scored on.
        seconds: of this call.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    budget: str
    steps: tuple[Step, ...]
    chosen: int
    scored_on: str
    before: Scores
    after: Scores
    times: tuple[Timing, Timing]
    served: tuple[Served, ...] = ()
    questions: dict[str, str]
    windows: str
    seed: int
    scored: int
    seconds: float

    def table(self) -> list[tuple[str, str, str]]:
        """What is said of both models: a name, and the value before and after."""
        named = (("F1", "f1"), ("exact match", "exact"), ("F1, answerable", "HasAns_f1"),
                 ("F1, unanswerable", "NoAns_f1"))  # fmt: skip
        rows = []
        for name, field in named:
            one, two = getattr(self.before, field), getattr(self.after, field)
            if one is not None:
                rows.append((name, f"{one:.1f}", f"{two:.1f}"))
        one, two = (1000 * each.seconds / each.windows for each in self.times)
        rows.append(("ms a window", f"{one:.1f}", f"{two:.1f}"))
        one, two = (each.size_mib for each in self.times)
        rows.append(("MiB of weights", f"{one:.1f}", f"{two:.1f}"))
        one, two = (each.parameters for each in self.times)
        rows.append(("parameters", f"{one:,}", f"{two:,}"))
        return rows

    def __str__(self) -> str:
        """The table, and how much faster, as text."""
        rows = [("", "before", "after"), *self.table()]
        lines = [f"{name:16} {one:>12} {two:>12}" for name, one, two in rows]
        fast = self.times[1]
        spread = f"{fast.speedup_low:.2f} to {fast.speedup_high:.2f}"
        lines.append(f"{fast.speedup:.2f} times as fast ({spread} in {len(fast.rounds)} rounds)")
        lines.append(f"{self.after.total} questions of {self.scored_on!r}")
        return "\n".join(lines)
