"""Run every experiment of a profile: `python -m qaprune_lib.reproduce profiles/embedded.yml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qaprune_lib import scorers
from qaprune_lib.errors import QapruneError
from qaprune_lib.models.pruned import QuestionAnsweringModel
from qaprune_lib.profiles import Profile, read_profile
from qaprune_lib.pruning.topology import Topology
from qaprune_lib.report import Record
from qaprune_lib.report.tables import curve_table, operating_point_table
from qaprune_lib.runs import Workspace
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.stages import UNPRUNED, Experiment, Questions, Scorer, draw


def run_profile(experiment: Experiment) -> list[Record]:
    """Every stage of a profile, in order; returns the records."""
    base_record, base = experiment.base()
    records = [base_record]
    gate_scores: dict[tuple[str, float], GateScores] = {}
    for kind, penalties in experiment.profile.penalties.items():
        for penalty in penalties:
            scorer = l0_scorer(experiment.profile, kind, penalty)
            record, scores = experiment.score(scorer, base)
            gate_scores[kind, penalty] = scores
            records.append(record)
            if experiment.profile.curves is not None:
                records.append(experiment.curve(scorer, scores, kind, base))
    if experiment.profile.curves is not None:
        records.extend(other_curves(experiment, base))
    records.extend(operating_points(experiment, base, gate_scores))
    return records


def other_curves(experiment: Experiment, base: QuestionAnsweringModel) -> list[Record]:
    """Sparsity curves of all scorers but L0."""
    records = []
    for scorer, kinds in heuristic_scorers(experiment.profile):
        record, scores = experiment.score(scorer, base)
        records.append(record)
        records.extend(experiment.curve(scorer, scores, kind, base) for kind in kinds)
    return records


def operating_points(
    experiment: Experiment,
    base: QuestionAnsweringModel,
    gate_scores: Mapping[tuple[str, float], GateScores],
) -> list[Record]:
    """Prune at each operating point, retrain both ways beside the unpruned model, and time."""
    records = []
    models: dict[str, QuestionAnsweringModel] = {UNPRUNED: base}
    for point in experiment.profile.operating_points:
        scores = [gate_scores[kind, penalty] for kind, penalty in point.items()]
        combined = scores[0].combine(scores[1]) if len(scores) == 2 else scores[0]
        topology = Topology.from_scores(combined, threshold=0.0)
        name = " ".join(f"{kind} λ={penalty:g}" for kind, penalty in point.items())
        record, models[name] = experiment.pruned(name, topology, base)
        records.append(record)
    for name, model in models.items():
        records.append(experiment.retrained(name, model, None))
        records.append(experiment.retrained(name, model, base))
    records.append(experiment.timed(models))
    return records


def l0_scorer(profile: Profile, kind: str, penalty: float) -> Scorer:
    """L0 of one kind at one λ, with the gates' settings of the profile."""

    def compute(
        model: QuestionAnsweringModel,
        questions: Questions,
        folder: Path,
        windows: Mapping[str, Any],
    ) -> GateScores:
        return scorers.l0(
            model,
            draw(questions.train, profile.gate_questions, seed=2),
            penalty={kind: penalty},
            folder=folder / "checkpoints",
            **profile.gates,
            **windows,
        )

    parameters = {
        "penalty": {kind: penalty},
        "questions": profile.gate_questions,
        **profile.gates,
    }
    return Scorer("l0", parameters, compute)


def heuristic_scorers(profile: Profile) -> list[tuple[Scorer, list[str]]]:
    """Random, gain, Fisher and leave-one-out, each with the kinds it is drawn for."""
    curves = profile.curves
    assert curves is not None
    both, heads = ["attn", "ff"], ["attn"]

    def by_gradient(function: Any, n_questions: int, **settings: Any) -> Scorer:
        def compute(
            model: QuestionAnsweringModel, questions: Questions, _: Path, windows: Mapping[str, Any]
        ) -> GateScores:
            drawn = draw(questions.train, n_questions, seed=3)
            return function(model, drawn, **settings, **windows)

        return Scorer(function.__name__, {"questions": n_questions, **settings}, compute)

    def random(seed: int) -> Scorer:
        return Scorer("random", {"seed": seed}, lambda model, *_: scorers.random(model, seed=seed))

    def leave_one_out(
        model: QuestionAnsweringModel, questions: Questions, _: Path, windows: Mapping[str, Any]
    ) -> GateScores:
        # it selects on what scores it: other questions than those of the curves
        drawn = draw(questions.dev, curves.leave_one_out_questions, seed=3)
        return scorers.leave_one_out(model, drawn, **windows)

    found = [(random(seed), both) for seed in range(curves.random_seeds)]
    found.append((by_gradient(scorers.gain, curves.score_questions, kinds=both), both))
    found.append((by_gradient(scorers.fisher, curves.score_questions, kinds=both), both))
    if curves.gain_at_zero_questions:
        at_zero = by_gradient(scorers.gain, curves.gain_at_zero_questions, kinds=heads, at=0)
        found.append((at_zero, heads))
    if curves.leave_one_out_questions:
        settings = {"questions": curves.leave_one_out_questions}
        found.append((Scorer("leave_one_out", settings, leave_one_out), heads))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit status 0 once all is done, 2 on an error that the message explains."""
    parser = argparse.ArgumentParser(prog="python -m qaprune_lib.reproduce", description=__doc__)
    parser.add_argument("profile", type=Path, help="a file such as profiles/embedded.yml")
    parser.add_argument("--data", help="where the questions are, if the profile does not say")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of records")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of models")
    parser.add_argument(
        "--accept-stale", action="store_true", help="keep records that older code has made"
    )
    options = parser.parse_args(arguments)
    try:
        profile = read_profile(options.profile, source=options.data)
        workspace = Workspace(
            profile=profile.name,
            provenance=profile.provenance,
            results=options.results,
            artifacts=options.runs,
            accept_stale=options.accept_stale,
        )
        experiment = Experiment(profile, Questions.load(profile), workspace)
        records = run_profile(experiment)
    except QapruneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for kind, name in (("attn", "attention heads"), ("ff", "feed-forward activations")):
        if any(record.stage == "curve" for record in records):
            print(f"\nBest F1 on held-out questions, by share of {name} removed\n")
            print(curve_table(records, kind))
    print(f"\nOperating points, profile {profile.name} (provenance: {profile.provenance})")
    print(f"{len(experiment.questions.dev)} dev questions; records are in {options.results}\n")
    print(operating_point_table(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
