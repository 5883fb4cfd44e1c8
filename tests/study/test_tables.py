"""Tables: cells by hand from a small sweep whose numbers follow from formulas."""

from __future__ import annotations

import pandas as pd
import pytest

from study.claims.evidence import Evidence
from study.curve_tables import (
    curve_cells,
    curve_means,
    gain_cells,
    layer_cells,
    middle_text,
    reading_cells,
    removable_text,
    run_cells,
    study_cells,
)
from study.figures.controls import control_rows
from study.frames import (
    SCORERS,
    curve_points,
    l0_runs,
    layer_shares,
    other_dev_sets,
    readings,
    scored_models,
)
from study.paper.published import TABLE_1, TABLE_2, TABLE_5
from study.paper_tables import (
    natural_questions_table,
    published_cells,
    table1,
    table2,
    table2_in_five_rows,
)
from study.records.record import Record
from study.tables import (
    CELLS,
    choice_text,
    control_cells,
    losses_text,
    number,
    operating_points,
    point_cells,
)
from tests.study.synthetic import Sweep, sweep

NUMBERS = ["% removed", "F1", "F1 lost", "answering nothing"]


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return sweep(profile="p").records


def test_operating_points_stand_with_their_own_numbers(records: list[Record]) -> None:
    rows = point_cells(operating_points(scored_models(records)), *CELLS).to_dict("records")
    assert [(row["model"], row["then"]) for row in rows] == [
        ("unpruned", "fine-tuned"),
        ("unpruned", "cross-entropy"),
        ("unpruned", "distillation"),
        ("ff (×1)", "not retrained"),
        ("attn (×1)", "not retrained"),
        *(
            (f"ff + attn (×{multiple})", then)
            for multiple in (1, 2)
            for then in ("not retrained", "cross-entropy", "distillation")
        ),
    ]
    # ×1: seeds remove 35 and 36% of the heads, 50 and 51% of the activations
    lost = [8 * (attn / 50) ** 2 + 4 * (ff / 50) ** 2 for attn, ff in ((35, 50), (36, 51))]
    low, high = 80 - 0.4 * lost[1], 80 - 0.4 * lost[0]
    row = rows[6]
    assert row["F1"] == f"{(low + high) / 2:.1f} ({low:.1f}–{high:.1f})"
    assert row["F1 not retrained"] == f"{80 - sum(lost) / 2:.1f}"
    assert (row["runs"], row["% attn removed"]) == ("2", "35.5")
    seconds = 1 + 9 * (1 - (35 + 2 * 50) / 300)  # of the first seed alone
    assert row["time (s)"] == f"{seconds:.2f}"
    assert row["speed-up"].startswith(f"{10 / seconds:.2f} (")
    assert rows[0]["speed-up"] == "1.00"


def test_controls_and_studies_are_no_operating_points(records: list[Record]) -> None:
    models = scored_models(records)
    points = operating_points(models)
    both = points[(points["kinds"] == "both") & (points["multiple"] == 1)]
    assert both["runs"].tolist() == [2, 2, 2]
    random = models[models["choice"] == "random"]["f1"]
    assert both["f1_low"].min() > random[models["then"] == "not retrained"].max()
    assert operating_points(models.iloc[:0]).empty


def test_curves_gather_seeds_and_keep_runs_of_l0_apart(records: list[Record]) -> None:
    points = curve_points(records)
    table = curve_cells(points[points["kind"] == "attn"])
    assert list(table) == ["scorer", "20%", "40%", "60%", "own threshold", "answering nothing"]
    assert set(table["answering nothing"]) == {"50.0"}
    rows = {row[0]: row[1:-1] for row in table.to_numpy().tolist()}
    # draws lose 45·(r / 50)² + 0.1 for each seed from 0 to 4
    assert rows["random"] == ["72.6 ± 0.2", "51.0 ± 0.2", "15.0 ± 0.2", "–"]
    assert rows["gain"][-1] == "–"
    assert rows["gain"][0] == f"{80 - 11 * 0.4**2:.1f}"
    own = [80 - 8 * 0.7**2, 80 - 8 * 0.72**2 - 0.1]
    assert rows["L0 λ=0.04"][-1] == f"{sum(own) / 2:.1f} ± {pd.Series(own).std():.1f} at 36%"
    means = curve_means(curve_points(records))
    assert len(means) == sum(
        len(part) for _, part in means.groupby(["kind", "label"])
    )  # no row lost to missing values
    assert means["own_threshold"].sum() == 4 + 4 + 2 + 3


def test_what_can_go_at_under_five_points(records: list[Record]) -> None:
    points = curve_points(records)
    rows = points[(points["kind"] == "attn") & (points["variant"] == "")]
    said = removable_text(rows)
    assert said.startswith("The share of attention heads that can go at under 5 F1 lost, ")
    # between the cuts at 20 and 40%, which lose 45·(r / 50)² + 0.2 on average
    low, high = (45 * (share / 50) ** 2 + 0.2 for share in (20, 40))
    assert f"random {20 * (5 / low if low > 5 else 1 + (5 - low) / (high - low)):.0f}%" in said
    evidence = Evidence(records, "squad2")
    for scorer, name in SCORERS.items():
        assert f" {name} {evidence.curve(scorer, 'attn').removable().value:.0f}%" in said
    short = rows[rows["removed"] <= 20]
    assert "leave-one-out at least 20%" in removable_text(short[short["scorer"] != "random"])
    emb = removable_text(points[points["kind"] == "emb"])
    assert "L0 " in emb
    assert "L0, plain LayerNorm " in emb


def test_published_tables_as_printed() -> None:
    table = published_cells(TABLE_2)
    assert table["source"].unique().tolist() == ["published"]
    row = table[table["model"] == "ff(×2) + attn(×2) + retrain"].iloc[0]
    assert row[["time (s)", "F1", "size (MiB)", "F1 not retrained"]].tolist() == [
        *("1391", "83.2", "576", "80.9")
    ]
    assert published_cells(TABLE_1).iloc[1]["SQuAD 1.1 (a)"] == "88.4"


def test_ours_beside_the_papers(records: list[Record]) -> None:
    models = scored_models(records)
    first, second = table1(models), table2(models)
    assert first["source"].tolist() == ["published"] * 4 + ["embedded, profile p"]
    assert first.iloc[1]["SQuAD 1.1"] == "88.4 / 88.5"
    assert first.iloc[4]["SQuAD 2.0"] == "80.0"
    assert second["source"].tolist() == ["published"] * 8 + ["embedded, profile p"] * 11
    assert second.iloc[5]["speed-up"] == f"{2712 / 1391:.2f}"
    assert not second.isna().any(axis=None)
    assert len(table1(models.iloc[:0])) == 4


def test_table_2_in_five_rows(records: list[Record]) -> None:
    points = operating_points(scored_models(records))
    table = table2_in_five_rows(points).set_index("ff + attn")
    assert table.index.tolist() == ["unpruned", "×1", "×2", "×3", "×4"]
    assert table["F1 lost, published"].tolist() == ["0.0", "0.9", "1.4", "2.2", "3.1"]
    assert table["speed-up, published"].tolist() == ["1.00", "1.63", "1.95", "2.24", "2.40"]
    ours = points[points["then"].eq("cross-entropy") & points["multiple"].eq(2)].iloc[0]
    assert table.loc["×2", "F1 lost, ours"] == f"{80 - ours['f1']:.1f}"
    assert table.loc["×2", "speed-up, ours"] == f"{ours['speedup']:.2f}"
    assert table.loc["×3", "F1 lost, ours"] == table.loc["×3", "speed-up, ours"] == "–"
    assert set(table["lost by answering nothing"]) == {"30.0"}


def test_natural_questions_beside_the_papers() -> None:
    made = Sweep(data="nq", provenance="measured", profile="m")
    made.finetune("minilm")
    scores = {"long": {"f1": 60.5}, "short": {"f1": 50.25}}
    made.records[0].metrics["dev"] = scores  # type: ignore[assignment]
    models = scored_models(made.records)
    table = natural_questions_table(TABLE_5, models, "distillation")
    assert len(table) == len(TABLE_5.rows) + 1
    assert table.iloc[-1].tolist()[:2] == ["measured, profile m", "MiniLM: unpruned, fine-tuned"]
    assert table.iloc[-1][["LA (F1)", "SA (F1)"]].tolist() == ["60.5", "50.2"]
    assert len(natural_questions_table(TABLE_5, models.iloc[:0], "distillation")) == 5


def test_each_dev_set_of_natural_questions_by_itself() -> None:
    made = Sweep(data="nq", provenance="measured", profile="m")
    made.finetune("minilm")
    made.finetune("mpnet-base")
    dev, real = (
        {"n_examples": n, "long": {"f1": long}, "short": {"f1": short}, "f1": short}
        for n, long, short in ((519, 60.5, 50.25), (503, 40.0, 30.0))
    )
    made.records[0].metrics.update(dev=dev, other_dev={"dev-real-questions": real})  # type: ignore[arg-type]
    made.records[1].metrics.update(dev=dev)
    assert other_dev_sets(made.records) == ["dev-real-questions"]
    assert other_dev_sets(sweep(profile="p").records) == []
    wanted = ["LA (F1)", "SA (F1)"]
    first = point_cells(operating_points(scored_models(made.records)), *wanted)
    assert first.to_numpy().tolist() == [["unpruned", "fine-tuned", "60.5", "50.2"]] * 2
    models = scored_models(made.records, "dev-real-questions")
    assert models[["model", "n"]].to_numpy().tolist() == [["minilm", 503]]
    second = point_cells(operating_points(models), *wanted)
    assert second.to_numpy().tolist() == [["unpruned", "fine-tuned", "40.0", "30.0"]]


def test_numbers_as_text() -> None:
    assert [number(value, 1) for value in (1.25, -1.26, -0.04, None, float("nan"))] == [
        *("1.2", "−1.3", "0.0", "–", "–")
    ]


def test_layers_kept_and_what_the_middle_keeps(records: list[Record]) -> None:
    layers = layer_shares(records)
    table = layer_cells(layers)
    assert list(table)[:3] == ["remaining (%)", "λ", "layer 1"]
    means = layers.groupby(["kind", "multiple", "layer"])["remaining"].mean()
    assert table.iloc[0].tolist() == [
        *("attention heads", "×1"),
        *(f"{means['attn', 1.0, layer]:.0f}" for layer in range(1, 7)),
    ]
    kept = layers[layers["kind"] == "attn"]
    middle = kept[kept["layer"].isin([3, 4])]["remaining"].mean()
    outside = kept[kept["layer"].isin([1, 2, 5, 6])]["remaining"].mean()
    said = middle_text(layers)
    assert said.startswith("The middle layers (3 to 4) keep, ")
    assert f": attention heads {middle:.1f}% against {outside:.1f}%; " in said


def test_what_pruning_loses_and_what_the_choice_is_worth(records: list[Record]) -> None:
    models = scored_models(records)
    points = operating_points(models)
    best = points[points["then"].eq("distillation") & points["multiple"].eq(1)].iloc[0]
    said = f"ff + attn (×1), distillation, {80 - best['f1']:.1f} F1 lost at {best['speedup']:.2f} "
    assert said in losses_text(points)
    # the random choice loses 4 points more, of which distillation wins back 80%
    assert "not retrained 4.0" in choice_text(models)
    assert "distillation 0.8" in choice_text(models)
    assert choice_text(models[models["choice"] != "random"]) == ""
    table = control_cells(control_rows(models)).set_index("model")
    random = models[models["choice"].eq("random") & models["then"].eq("distillation")]["f1"]
    cell = table.loc["ff + attn (×1), random choice", "distillation"]
    assert cell == f"{random.mean():.1f} ± {random.std():.1f}"
    assert table.loc["attn (×1)", "distillation"] == "–"


def test_runs_of_l0_side_by_side(records: list[Record]) -> None:
    runs = l0_runs(records)
    pairs = reading_cells(readings(runs, "learning_rate"), "learning_rate")
    assert list(pairs) == ["gates", "λ", "seed", "learning rate", *NUMBERS]
    assert set(pairs["answering nothing"]) == {"50.0"}
    # 35% less the 15 that the study's runs remove less
    assert pairs["% removed"].tolist() == ["20.0", "20.0", "35.0"]
    table = run_cells(runs).set_index(["gates", "λ", "setting"])
    assert table.loc[("attention heads", "0.04", ""), ["seeds", "% removed"]].tolist() == [
        "2",
        "35.5",
    ]
    points = curve_points(records)
    studied = study_cells(points[points["own_threshold"].astype(bool)])
    row = studied[studied["setting"] == "learning rate 0.01"].iloc[0]
    assert row.tolist()[:4] == ["attention heads", "0.04", "learning rate 0.01", "20.0"]
    gain = points[points["scorer"].eq("gain") & points["kind"].eq("attn")]
    assert gain_cells(gain)["scorer"].tolist() == ["gain", "gain at 0"]
    assert gain_cells(gain)["20%"].tolist() == [f"{80 - 11 * 0.4**2:.1f}"] * 2
