"""Joins over records: each row carries its own run's numbers and those of the runs above it."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from study.frames import (
    CURVE_COLUMNS,
    MODEL_COLUMNS,
    curve_points,
    layer_shares,
    rows_of,
    scored_models,
)
from study.linked import Runs
from study.records.record import Record
from tests.study.claims.planted import Planted, both_kinds
from tests.study.synthetic import N_HEADS, N_LAYERS, Sweep, kept, sweep


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return sweep(large="mpnet", profile="p").records


def test_every_point_of_every_curve_is_a_row(records: list[Record]) -> None:
    points = curve_points(records)
    counted = sum(
        len(curve["points"])
        for record in records
        if record.stage == "score"
        for curve in record.metrics["curves"]  # type: ignore[union-attr, call-overload, misc, index]
    )
    assert tuple(points.columns) == CURVE_COLUMNS
    assert len(points) == counted
    assert points["own_threshold"].sum() == sum(
        record.parameters.get("scorer") == "l0" for record in records
    )
    assert (points["loss"] == points["unpruned_f1"] - points["f1"]).all()
    assert (points["n"] == 240).all()
    assert set(points["provenance"]) == {"embedded"}


def test_a_model_that_another_one_taught_is_a_model_of_its_own() -> None:
    made = sweep(large="mpnet", profile="p", gate_seeds=1)
    before = scored_models(made.records)
    large = made.records[1]
    small = made.taught("minilm", large.id)
    gates = {kind: made.l0(small, kind, penalty) for kind, penalty in (("attn", 0.1), ("ff", 0.1))}
    pruned = made.prune(small, **gates)
    later = made.retrain(pruned, "distillation", large.id)
    models = scored_models(made.records).set_index("run")
    name = "minilm taught by mpnet"
    assert models.loc[[small, pruned, later], "model"].tolist() == [name] * 3
    assert models.loc[[small, pruned, later], "kinds"].tolist() == ["none", "both", "both"]
    pd.testing.assert_frame_equal(models.drop([small, pruned, later]), before.set_index("run"))
    points = curve_points(made.records).set_index("run")
    assert set(points.loc[list(gates.values()), "model"]) == {name}
    # the unpruned model that is its own teacher stays what it was
    control = before[(before["kinds"] == "none") & (before["then"] == "distillation")]
    assert set(control["model"]) == {"mpnet"}


def test_speed_of_a_taught_model_is_over_itself_unpruned() -> None:
    made = Sweep()
    large = made.finetune("mpnet")
    small = made.taught("minilm", large)
    pruned = made.prune(small, attn=made.l0(small, "attn", 0.04))
    later = made.retrain(pruned, "distillation", large)
    made.time([large, small, pruned])
    models = scored_models(made.records).set_index("run")
    # 10 seconds of the teacher, of which 9 grow with the encoder: 4 of 10 million, then less
    share = made.metrics(pruned)["encoder_parameters"] / 10_000_000
    assert models["seconds"].to_dict() == pytest.approx(
        {large: 10, small: 4.6, pruned: 1 + 9 * share, later: 1 + 9 * share}
    )
    speed = {large: 1, small: 1, pruned: 4.6 / (1 + 9 * share), later: 4.6 / (1 + 9 * share)}
    assert models["speedup"].to_dict() == pytest.approx(speed)
    assert models["macs_ratio"].to_dict() == pytest.approx(
        {large: 1, small: 1, pruned: 0.4 / share, later: 0.4 / share}
    )
    low, high = models.loc[later, ["speedup_low", "speedup_high"]]
    rounds = [(4.6 + off) / (1 + 9 * share + off) for off in (-0.1, 0, 0.1)]
    assert (low, high) == pytest.approx((min(rounds), max(rounds)))


def test_a_point_by_hand(records: list[Record]) -> None:
    points = curve_points(records)
    # λ = 0.04, seed 1: 20 + 15·log2(0.04 / 0.02) + 1 = 36% removed, 8·(36 / 50)² + 0.1 F1 lost
    [row] = rows_of(
        points[
            (points["label"] == "L0 λ=0.04")
            & points["own_threshold"]
            & (points["seed"] == 1)
            & (points["model"] == "minilm")
        ]
    )
    assert row.removed == pytest.approx(36.0)
    assert row.loss == pytest.approx(8 * 0.72**2 + 0.1)
    assert row.has_answer_f1 == pytest.approx(row.f1 + 2)
    assert sum(total for _, total in row.articles) / row.n == pytest.approx(row.f1)
    assert (row.kind, row.scorer, row.penalty, row.learning_rate) == ("attn", "l0", 0.04, 0.1)
    assert row.objective == "cross_entropy"


def test_labels_tell_curves_apart_and_studies_from_the_sweep(records: list[Record]) -> None:
    points = curve_points(records)
    base = points[points["model"] == "minilm"]
    labels = set(base[base["kind"] == "attn"]["label"])
    assert labels == {
        *("random", "gain", "gain at 0", "leave-one-out", "Fisher"),
        *("L0 λ=0.02", "L0 λ=0.04", "L0 λ=0.08", "L0 λ=0.16"),
        *("L0 λ=0.04, learning rate 0.01", "L0 λ=0.04, learning rate 0.001"),
        "L0 λ=0.04, distillation",
    }
    studied = base[base["variant"] != ""]
    assert set(studied["variant"]) == {
        *("learning rate 0.01", "learning rate 0.001", "distillation", "plain LayerNorm")
    }
    assert base[base["scorer"] != "l0"][["penalty", "learning_rate"]].isna().all(axis=None)
    assert set(base[base["label"] == "random"]["seed"]) == {0, 1, 2, 3, 4}


def test_models_know_the_runs_above_them(records: list[Record]) -> None:
    models = scored_models(records)
    assert tuple(models.columns) == MODEL_COLUMNS
    assert len(models) == sum(r.stage in ("finetune", "prune", "retrain") for r in records)
    # selected: λ = 0.04 loses 4.1, λ = 0.08 loses 8.2; activations lose half of that
    [row] = rows_of(
        models[
            (models["then"] == "cross-entropy")
            & (models["kinds"] == "both")
            & (models["choice"] == "scores")
            & (models["multiple"] == 2)
            & (models["gate_seed"] == 0)
        ]
    )
    assert (row.model, row.data, row.stage) == ("mpnet", "squad2", "retrain")
    assert (row.penalty_attn, row.penalty_ff) == (0.08, 0.0008)
    assert (row.attn_removed, row.ff_removed) == (50.0, 65.0)
    lost = 8 * (50 / 50) ** 2 + 4 * (65 / 50) ** 2
    assert row.f1 == pytest.approx(80 - 0.4 * lost)
    assert (row.exact, row.has_answer_f1) == pytest.approx((row.f1 - 3, row.f1 + 1))
    encoder = 10_000_000 * (1 - (50 + 2 * 65) / 300)
    assert row.encoder_parameters == round(encoder)
    assert row.seconds == pytest.approx(1 + 9 * encoder / 10_000_000)
    assert row.speedup == pytest.approx(10 / row.seconds)
    assert row.kept_attn == kept("attn", 50.0)
    point = next(r for r in records if r.id == row.point)
    assert point.stage == "prune"
    assert models[models["run"] == row.point]["f1"].tolist() == pytest.approx([80 - lost])


def test_models_by_what_was_pruned(records: list[Record]) -> None:
    models = scored_models(records)
    assert set(models["kinds"]) == {"none", "attn", "ff", "both"}
    unpruned = models[models["kinds"] == "none"]
    assert set(unpruned["then"]) == {"fine-tuned", "cross-entropy", "distillation"}
    assert (unpruned["point"] == "").all()
    assert (unpruned[["attn_removed", "ff_removed"]] == 0).all(axis=None)
    alone = models[models["kinds"] == "attn"]
    assert alone["penalty_ff"].isna().all()
    assert (alone["multiple"] == 1).all()
    random = models[(models["choice"] == "random") & (models["then"] == "not retrained")]
    chosen = models[(models["choice"] == "scores") & (models["then"] == "not retrained")]
    assert set(random["attn_removed"]) <= set(chosen["attn_removed"])
    assert random["speedup"].isna().all()  # only models with the scores' choice are timed
    taught = models[models["then"] == "distillation"]["teacher"]
    assert set(taught) <= set(models.loc[models["stage"] == "finetune", "run"])


def test_missing_references_do_not_stop_the_join(records: list[Record]) -> None:
    broken = [record for record in records if record.stage not in ("select", "finetune", "time")]
    models = scored_models(broken)
    assert models["speedup"].isna().all()
    assert models["multiple"].isna().all()
    assert set(models["stage"]) == {"prune", "retrain"}
    assert layer_shares(broken).empty  # the shape stands in the fine-tuning record


def test_equal_ids_of_two_profiles_are_not_mixed() -> None:
    one, two = sweep(profile="one"), sweep(profile="two", provenance="measured")
    assert {r.id for r in one.records} == {r.id for r in two.records}
    changed = [
        record.model_copy(update={"metrics": {**record.metrics, "attn": 0.02, "ff": 2e-4}})
        if record.stage == "select"
        else record
        for record in two.records
    ]
    models = scored_models([*one.records, *changed])
    pruned = models[(models["kinds"] == "both") & (models["penalty_attn"] == 0.04)]
    by_profile = pruned.groupby("profile")["multiple"].unique().to_dict()
    assert by_profile["one"].tolist() == [1.0]
    assert by_profile["two"].tolist() == [2.0]


def test_layers_by_hand(records: list[Record]) -> None:
    layers = layer_shares(records)
    first = layers[
        (layers["multiple"] == 1) & (layers["gate_seed"] == 0) & (layers["kind"] == "attn")
    ]
    assert first["layer"].tolist() == list(range(1, N_LAYERS + 1))
    # 35% of 12 heads leave 7.8; the outer layers keep one less, the middle ones one more
    assert first["remaining"].tolist() == pytest.approx(
        [100 * n / N_HEADS for n in (7, 8, 9, 9, 8, 7)]
    )
    assert len(layers) == 2 * 2 * 2 * N_LAYERS  # kinds, multiples, seeds


def test_the_smallest_batch_is_timed() -> None:
    made = Sweep()
    base = made.finetune("minilm")
    for batch in (64, 1, 16):
        made.time([base], batch_size=batch)
        made.records[-1].metrics[f"run:{base}"]["seconds"] = float(batch)  # type: ignore[index, call-overload]
    [row] = rows_of(scored_models(made.records))
    assert row.seconds == 1.0


def test_times_on_other_questions_do_not_count() -> None:
    made = Sweep()
    base = made.finetune("minilm")
    made.time([base], data="squad1")
    assert scored_models(made.records)["speedup"].isna().all()
    made.time([base])
    assert scored_models(made.records)["speedup"].tolist() == [1.0]


def test_the_floor_is_what_answering_nothing_scores(records: list[Record]) -> None:
    models, points = scored_models(records), curve_points(records)
    assert set(models["floor"]) == set(points["floor"]) == {50.0}  # half of the questions
    no_totals = Sweep()
    no_totals.finetune("minilm")
    no_totals.records[0].metrics["dev"]["fitted"].pop("NoAns_total")  # type: ignore[index, union-attr, call-overload]
    assert scored_models(no_totals.records)["floor"].tolist() == [0.0]


def test_epochs_are_of_all_training_questions(records: list[Record]) -> None:
    """300 questions; 100 steps of 8 windows train gates, 50 of 16 retrain."""
    models = scored_models(records)
    pruned, later = models["kinds"] != "none", models["stage"] == "retrain"
    assert models.loc[pruned, "gate_epochs"].tolist() == pytest.approx([800 / 300] * sum(pruned))
    assert models.loc[~pruned, "gate_epochs"].isna().all()
    assert models.loc[later, "retrain_epochs"].tolist() == pytest.approx([800 / 300] * sum(later))
    assert models.loc[~later, "retrain_epochs"].isna().all()
    points = curve_points(records)
    assert points["gate_epochs"].notna().tolist() == points["scorer"].eq("l0").tolist()


def test_a_fine_tuning_that_was_not_stopped_counts_the_windows() -> None:
    made = Sweep()
    base = made.finetune("minilm", epochs=2, max_steps=None)  # 100 steps of 16: 800 windows twice
    made.l0(base, "attn", 0.04)
    assert curve_points(made.records)["gate_epochs"].unique().tolist() == [1.0]


def test_rows_lead_to_their_records(records: list[Record]) -> None:
    by_id = {record.id: record for record in records}
    for frame in (curve_points(records), scored_models(records), layer_shares(records)):
        assert {by_id[run].commit for run in frame["run"]} == set(frame["commit"])
    runs, tuned = Runs(records), records[0]
    assert runs.find(tuned.id, tuned) is runs.find(f"run:{tuned.id}", tuned) is tuned
    assert runs.find("minilm", tuned) is None


def test_no_records() -> None:
    for frame in (curve_points([]), scored_models([]), layer_shares([])):
        assert frame.empty
        assert {"profile", "provenance", "data"} <= set(frame.columns)
    assert Runs([]).records == []
    assert math.isnan(scored_models(Sweep().records)["f1"].mean())


def test_layers_of_carried_gates_stay_out_of_a_models_own() -> None:
    """A model of Natural Questions has gates of its own, and others that were found on SQuAD."""
    squad, nq = Planted(), Planted(data="nq")
    base = squad.tuned()
    model = nq.tuned(model=base)
    nq.records += squad.records
    carried = nq.pruned(model, 70.0, **both_kinds(squad, base))
    own = nq.pruned(model, 70.0, **both_kinds(nq, model))
    nq.records += squad.records
    layers = layer_shares(nq.records)
    assert set(layers["run"]) == {own}
    assert carried in set(scored_models(nq.records)["run"])
