"""A smaller model in one call: pruned to what is asked for, mended, and trained again.

The recipe, beyond the paper: each step removes what costs least once the rest makes up for it
(`surgeon`), and fits the output projections to the unpruned model's (`reconstruct`). What time is
left goes to distillation, which stays unless held-out questions say that it did harm: unless F1
falls by more than the standard error, as few questions tell a small gain from none.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset

from qaprune_lib.cache import output_path, write_atomically
from qaprune_lib.data.tasks import task_of
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError, SettingsError, TopologyError, counts, warn
from qaprune_lib.evaluation.logits import features_for
from qaprune_lib.evaluation.predict import predict
from qaprune_lib.evaluation.squad import fit_threshold, per_question_f1, score_predictions
from qaprune_lib.evaluation.timing import Timing, time_decoding
from qaprune_lib.models import QuestionAnsweringModel, Topology, load_model, weights_digest
from qaprune_lib.models.adopt import check_own
from qaprune_lib.progress import one_bar
from qaprune_lib.pruning.budget import MACs, Parameters, Speedup
from qaprune_lib.pruning.card import model_card
from qaprune_lib.pruning.export import export_onnx, require_onnx
from qaprune_lib.pruning.latency import measure_latency
from qaprune_lib.pruning.reconstruction import RECONSTRUCTED, reconstruct
from qaprune_lib.pruning.report import Compression, Step
from qaprune_lib.pruning.serving import Served, ways_to_serve
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.scorers import GateScores, surgeon
from qaprune_lib.scorers.targets import check_target
from qaprune_lib.training.checkpoints import claim
from qaprune_lib.training.train import retrain

Target = Speedup | MACs | Parameters
LARGEST_STEP = 0.5
"""What one step of pruning leaves, at least, of the cost that the model has."""
JUDGED, TIMED = 1000, 100
"""Held-out questions that steps are judged on, and timed ones."""
FEWEST_JUDGES = 100
"""Below which a step's F1 says little."""
SCORED = 300
"""Training questions that slices are scored on."""
AIMS, AIMED, TOLERANCE = 4, 40, 0.03
"""How often a speed-up is aimed at, from what was measured on so many questions, until it is no
further from what was asked for than by this share."""
FEWEST_STEPS, BATCH_SIZE, TRIED = 50, 16, 4
"""Of distillation; so many steps are timed before."""
MANY_STEPS, LEARNING_RATE, LEARNING_RATE_OF_FEW, WIDTH = 500, 3e-4, 1e-4, 384
"""Of distillation, measured at this d_embedding: the higher rate won in 889 steps and did harm in
114, in between it was not measured. Wider models take less, by the inverse of their width, as do
the best rates of Adam in Yang et al. 2022 (Tensor Programs V)."""


class Compressed(NamedTuple):
    """The small model, and the report."""

    model: QuestionAnsweringModel
    report: Compression


def compress(
    model: QuestionAnsweringModel,
    questions: Mapping[str, Dataset],
    *,
    target: Target | None = None,
    budget: str = "10min",
    folder: str | Path | None = None,
    export: bool = False,
    windows: Windows | None = None,
    seed: int = 0,
) -> Compressed:
    """A smaller, faster model that answers nearly as well.

    Args:
        model: fine-tuned on such questions; stays as it is.
        questions: splits as `load_squad` gives them: "train" and "heldout", and "dev" if the
            result is to be scored on it.
        target: by default twice as fast on this device: `Speedup(2.0)`.
        budget: about how long it may take, such as "90s", "10min" or "2h". Pruning comes first, and
            goes on beyond it rather than stop half-way; distillation gets what is left.
        folder: the result is written there, with a model card; until then it holds what is done,
            so that a call that was killed goes on from there, in distillation too: for as many
            steps as it had begun with.
        export: write `onnx` in it too (`export_onnx`, also in 8 bits), and score and time on the
            CPU what ONNX Runtime and, if it is installed, OpenVINO make of it.
        windows: sizes.
        seed: of all that is drawn.

    Returns:
        The small model, and a report: steps, scores (percent), times (seconds), sizes (MiB).

    Raises:
        DataError: no questions to train on, none held out, or questions of another task.
        SettingsError: a budget that is no time, a target that is none, a folder in use, or none to
            export to.
        TopologyError: a target that cannot be met, even without all heads and activations.
        ModelError: packages for exporting are not installed.

    Warns:
        QapruneWarning: the budget is too short even for pruning: how long that may take. Or few
            questions are held out, or the result is slower than was asked for.

    >>> from qaprune_lib import load_model, load_squad
    >>> model, squad = load_model("embedded-small", device="cpu"), load_squad("embedded")
    >>> few = {name: squad[name].select(range(16)) for name in ("train", "heldout")}
    >>> small, report = compress(model, few, target=MACs(0.5), budget="1s", windows=Windows(64))
    >>> Topology.of(small).macs(384) <= 0.5 * Topology.of(model).macs(384)
    True
    """
    started = time.monotonic()
    check_own(model)
    target = Speedup(2.0) if target is None else target
    if not isinstance(target, Target) or not 0 < target.share <= 1:
        raise SettingsError(f"target={target!r} must be such as Speedup(2.0) or MACs(0.5)")
    deadline = started + _seconds(budget)
    if export:
        require_onnx()
        if folder is None:
            raise SettingsError("export=True writes files: say where, with folder=")
    (seed,) = counts(least=0, most=2**32 - 1, seed=seed)
    if not isinstance(questions, Mapping) or not {"train", "heldout"} <= set(questions):
        given = list(questions) if isinstance(questions, Mapping) else type(questions).__name__
        raise DataError(
            f'compress needs the splits "train" and "heldout" of load_squad; here is {given}'
        )
    for name, rows in questions.items():
        if not isinstance(rows, Dataset):
            kind = type(rows).__name__
            raise DataError(f"compress reads questions of load_squad; {name!r} is a {kind}")
    digests = {name: task_of(rows).digest(rows) for name, rows in questions.items()}
    asked = {"target": str(target), "windows": str(windows), "seed": seed, "questions": digests}
    work = _Work(folder, {**asked, "model": weights_digest(model)})
    heldout = _some(questions["heldout"], JUDGED)
    split = "dev" if "dev" in questions else "heldout"
    rows = questions["dev"] if split == "dev" else heldout
    n_steps = max(1, math.ceil(math.log(target.share) / math.log(LARGEST_STEP)))
    f1_by_question: dict[str, np.ndarray] = {}

    def judge(what: str, made: QuestionAnsweringModel, began: float) -> Step:
        found = predict(made, heldout, windows=windows)
        threshold = fit_threshold(heldout, found)
        f1_by_question[what] = per_question_f1(heldout, found, threshold)
        f1 = score_predictions(heldout, found, threshold=threshold).f1
        removed = {kind: Topology.of(made).removed(kind) for kind in ("attn", "ff")}
        spent = time.monotonic() - began
        return Step(what=what, f1=f1, threshold=threshold, **removed, seconds=spent)

    def f1_of_each(step: Step, made: QuestionAnsweringModel) -> np.ndarray:
        if step.what not in f1_by_question:  # judged in an earlier call
            found = predict(made, heldout, windows=windows)
            f1_by_question[step.what] = per_question_f1(heldout, found, step.threshold)
        return f1_by_question[step.what]

    def cut(small: QuestionAnsweringModel, to: Target, last: bool) -> QuestionAnsweringModel:
        scores = surgeon(small, scored, windows=windows, seed=seed)
        kept = Topology.from_scores(scores, budget=to)
        if last and isinstance(to, Speedup):
            kept = _aimed(kept, scores, to, model, small, _some(heldout, AIMED), windows)
        plain = prune(small, kept)
        return reconstruct(plain, model, questions["train"], windows=windows, seed=seed)[0]

    with one_bar(n_steps + 3, "compress") as bar:
        to = _with_latencies(target, model, heldout, windows)
        check_target(to, model)
        small, first = work.step("unpruned", lambda: model, judge)
        if len(heldout) < FEWEST_JUDGES:
            warn(
                f"F1 on {len(heldout)} held-out questions is uncertain by up to "
                f"{100 / math.sqrt(len(heldout)):.0f} points, and says little of whether "
                f"distillation helped: hold out {FEWEST_JUDGES} or more"
            )
        steps, a_pass = [first], first.seconds / len(heldout)
        # both models' scores and, of an export, six ways to serve it
        to_come = a_pass * (2 * len(rows) + 6 * export * len(heldout))
        left = deadline - time.monotonic() - to_come
        scored = _some(questions["train"], SCORED)
        fitted = min(RECONSTRUCTED, len(questions["train"]))
        # three passes of a question, and about three that reconstruction makes of its windows
        pruning = n_steps * a_pass * (3 * len(scored) + 3 * fitted + len(heldout))
        if pruning > left:
            warn(
                f"budget={budget!r} is short: on this device pruning takes about "
                f"{max(1, round(pruning / 60))} min, and nothing is left for distillation"
            )
        bar.update()
        for number in range(1, n_steps + 1):
            at = _with_share(to, to.share ** (number / n_steps))
            what = f"pruned to {100 * at.share:.0f}%"
            small, step = work.step(
                what,
                lambda s=small, a=at, n=number: cut(s, a, last=n == n_steps),  # type: ignore[misc]
                judge,
            )
            steps.append(step)
            bar.update()
        chosen = len(steps) - 1
        left = deadline - time.monotonic() - to_come
        n_questions = len(questions["train"])
        # as fast as three passes of the student's size, at best
        a_step = 3 * BATCH_SIZE * target.share * a_pass
        n_training = _training_steps(left, a_step, a_pass, n_questions)
        if n_training >= FEWEST_STEPS:
            a_step = _seconds_a_step(small, model, questions["train"], windows)
            left = deadline - time.monotonic() - to_come
            n_training = _training_steps(left, a_step, a_pass, n_questions)
        n_training, checkpoints = work.training(n_training)
        if n_training >= FEWEST_STEPS:
            what = f"distilled in {n_training} steps"
            # the teacher reads all that is handed over before the first step
            taught = _some(questions["train"], n_training * BATCH_SIZE)
            tried, step = work.step(
                what,
                lambda: retrain(
                    small, taught, teacher=model, windows=windows, dropout=False,
                    epochs=1000, max_steps=n_training, batch_size=BATCH_SIZE,
                    learning_rate=_learning_rate(n_training, Topology.of(model).shape.d_embedding),
                    seed=seed, folder=checkpoints,
                ),
                judge,
            )  # fmt: skip
            change = f1_of_each(step, tried) - f1_of_each(steps[chosen], small)
            steps.append(step)
            if change.mean() >= -change.std() / math.sqrt(len(change)):
                small, chosen = tried, len(steps) - 1
        bar.update()
        times = _time(model, small, heldout, getattr(target, "batch_size", 1), windows)
        reached = times[1].speedup
        if isinstance(target, Speedup) and reached < (1 - TOLERANCE) * target.ratio:
            warn(f"{target.ratio:g} times the speed was asked for; {reached:.2f} times is measured")
        before, after = (
            score_predictions(
                rows, predict(each_model, rows, windows=windows), threshold=steps[at].threshold
            ).fitted
            for each_model, at in ((model, 0), (small, chosen))
        )
        assert before is not None
        assert after is not None
        served: tuple[Served, ...] = ()
        if work.folder is not None and export:
            file = export_onnx(small, work.folder / "onnx", int8=True)
            served = ways_to_serve(
                model,
                small,
                file.parent,
                heldout,
                thresholds=(first.threshold, steps[chosen].threshold),
                timed=TIMED,
                batch_size=times[1].batch_size,
                windows=windows,
            )
        bar.update()
    report = Compression(
        **asked, budget=budget, steps=tuple(steps), chosen=chosen, scored_on=split, before=before,
        after=after, times=times, served=served, scored=len(scored),
        seconds=time.monotonic() - started,
    )  # fmt: skip
    work.finish(small, report)
    return Compressed(small, report)


class _Work:
    """What a call has done so far, in a folder if there is one: each step's model and line."""

    def __init__(self, folder: str | Path | None, identity: Mapping[str, Any]) -> None:
        self.folder = None if folder is None else output_path(folder)
        if self.folder is None:
            return
        if (self.folder / "config.json").exists():
            raise SettingsError(f"{folder} holds a model already: choose another folder")
        self.kept = self.folder / "unfinished"
        claim(self.kept, identity)

    def step(
        self,
        what: str,
        make: Callable[[], QuestionAnsweringModel],
        judge: Callable[[str, QuestionAnsweringModel, float], Step],
    ) -> tuple[QuestionAnsweringModel, Step]:
        """Make a model and judge it, or take it from an earlier call."""
        if self.folder is None:
            began = time.monotonic()
            made = make()
            return made, judge(what, made, began)
        place = self.kept / re.sub(r"\W+", "-", what)
        line = place.with_suffix(".json")
        if line.is_file():
            step = Step.model_validate_json(line.read_text(encoding="utf-8"))
            return (make() if what == "unpruned" else load_model(place)), step
        began = time.monotonic()
        made = make()
        step = judge(what, made, began)
        if what != "unpruned":
            made.save_pretrained(place)
        write_atomically(line, step.model_dump_json(indent=1))
        return made, step

    def training(self, n_steps: int) -> tuple[int, Path | None]:
        """How many steps of distillation, and where its checkpoints are: as an earlier call began.

        What time is left is another in each call, and a run of another length is another run.
        """
        if self.folder is None:
            return n_steps, None
        for begun in self.kept.glob("training-*"):
            return int(begun.name.rpartition("-")[2]), begun
        if n_steps < FEWEST_STEPS:
            return n_steps, None
        checkpoints = self.kept / f"training-{n_steps}"
        checkpoints.mkdir()
        return n_steps, checkpoints

    def finish(self, small: QuestionAnsweringModel, report: Compression) -> None:
        """Write the model, its card and the report."""
        if self.folder is None:
            return
        write_atomically(self.folder / "compression.json", report.model_dump_json(indent=1) + "\n")
        write_atomically(self.folder / "README.md", model_card(small, report))
        small.save_pretrained(self.folder)
        shutil.rmtree(self.kept)


def _seconds(budget: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", str(budget))
    if found is None:
        raise SettingsError(f'budget={budget!r} must be a time, such as "90s", "10min" or "2h"')
    return float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]]


def _learning_rate(n_steps: int, d_embedding: int) -> float:
    """Of distillation."""
    rate = LEARNING_RATE if n_steps >= MANY_STEPS else LEARNING_RATE_OF_FEW
    return rate * min(1.0, WIDTH / d_embedding)


def _seconds_a_step(
    small: QuestionAnsweringModel,
    model: QuestionAnsweringModel,
    questions: Dataset,
    windows: Windows | None,
) -> float:
    """Of distillation, without the teacher's reading: measured, on a copy that is dropped."""
    tried = retrain(
        small, _some(questions, TRIED * BATCH_SIZE), teacher=model, windows=windows, dropout=False,
        epochs=1000, max_steps=TRIED, batch_size=BATCH_SIZE,
    )  # fmt: skip
    return float(tried.training_report.seconds_per_step)


def _training_steps(seconds: float, a_step: float, a_pass: float, n_questions: int) -> int:
    """How many steps there is time for; the teacher reads each question once, in `a_pass`."""
    return int(
        max(seconds / (a_step + BATCH_SIZE * a_pass), (seconds - n_questions * a_pass) / a_step)
    )


def _aimed(
    kept: Topology,
    scores: GateScores,
    to: Speedup,
    model: QuestionAnsweringModel,
    small: QuestionAnsweringModel,
    few: Dataset,
    windows: Windows | None,
) -> Topology:
    """What stays: of all that was measured, what came closest to the speed that was asked for.

    Of equals it is what was pruned least.
    """
    at, best, missed = to, kept, math.inf
    for _ in range(AIMS):
        reached = _time(model, prune(small, kept), few, to.batch_size, windows)[1].speedup
        if (by := abs(reached / to.ratio - 1)) < missed:
            best, missed = kept, by
        if by <= TOLERANCE:
            break
        at = replace(at, ratio=max(1.0, at.ratio * to.ratio / reached))
        try:
            kept = Topology.from_scores(scores, budget=at)
        except TopologyError:  # not even without all slices
            break
    return best


def _some(rows: Dataset, count: int) -> Dataset:
    return rows if len(rows) <= count else task_of(rows).some(rows, count)


def _with_share(target: Target, share: float) -> Target:
    if isinstance(target, Speedup):
        return replace(target, ratio=1 / share)
    return replace(target, share=share)


def _with_latencies(
    target: Target, model: QuestionAnsweringModel, heldout: Dataset, windows: Windows | None
) -> Target:
    """A speed-up with measured latencies, at the typical length of the questions' windows."""
    if not isinstance(target, Speedup) or target.table is not None:
        return target
    length = int(np.median(features_for(model, _some(heldout, TIMED), windows)["length"]))
    topology = Topology.of(model)
    table = measure_latency(
        topology.shape,
        model_type=model.config.model_type,
        embedding=topology.counts("emb")[0],
        batch_size=target.batch_size,
        length=length,
        device=model.device,
        compute_dtype=model.compute_dtype,
    )
    return replace(target, length=length, table=table)


def _time(
    model: QuestionAnsweringModel,
    small: QuestionAnsweringModel,
    heldout: Dataset,
    batch_size: int,
    windows: Windows | None,
) -> tuple[Timing, Timing]:
    rows = _some(heldout, TIMED)
    before, after = time_decoding([model, small], rows, batch_size=batch_size, windows=windows)
    return before, after
