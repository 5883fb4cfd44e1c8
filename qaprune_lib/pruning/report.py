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
