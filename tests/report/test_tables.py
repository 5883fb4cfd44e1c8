"""Tables: cells by hand from a small sweep whose numbers follow from formulas."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.report.synthetic import Sweep, sweep

from study.frames import curve_points, other_dev_sets, rows_of, scored_models
from study.paper.published import TABLE_1, TABLE_2, TABLE_5
from study.paper_tables import (
    dev_set_table,
    natural_questions_table,
    published_cells,
    table1,
    table2,
)
from study.records.record import Record
from study.tables import (
    curve_cells,
    curve_means,
    markdown,
    number,
    operating_point_cells,
    operating_points,
    removable,
    removable_text,
)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return sweep(profile="p").records


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_operating_points_stand_with_their_own_numbers(records: list[Record]) -> None:
    header, rule, *body = cells(
        markdown(operating_point_cells(operating_points(scored_models(records))))
    )
    assert set(rule) == {"---"}
    rows = [dict(zip(header, row, strict=True)) for row in body]
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
    assert (row["runs"], row["% attn removed"]) == ("2", "36")
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
    header, _, *body = cells(markdown(curve_cells(points[points["kind"] == "attn"])))
    assert header == ["scorer", "20%", "40%", "60%", "own threshold"]
    rows = {row[0]: row[1:] for row in body}
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
    found = {row.scorer: (row.removed, row.loss) for row in rows_of(removable(rows))}
    assert found["L0"] == pytest.approx((35.5, (8 * 0.7**2 + 8 * 0.72**2 + 0.1) / 2))
    assert found["gain"] == pytest.approx((20.0, 11 * 0.4**2))
    assert found["random"] == (0.0, 0.0)
    assert removable_text(rows).startswith("L0 36% (4.1 F1 lost); ")
    assert removable_text(rows).endswith("random none")
    assert removable(rows.iloc[:0]).empty


def test_published_tables_as_printed() -> None:
    table = published_cells(TABLE_2)
    assert table["source"].unique().tolist() == ["published"]
    row = table[table["model"] == "ff(×2) + attn(×2) + retrain"].iloc[0]
    assert row[["time (sec)", "f1", "size (MiB)", "f1 no retrain"]].tolist() == [
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
    wanted = ["model", "LA (F1)", "SA (F1)"]
    first = dev_set_table(scored_models(made.records))
    assert first[wanted].to_numpy().tolist() == [["unpruned", "60.5", "50.2"]] * 2
    models = scored_models(made.records, "dev-real-questions")
    assert models[["model", "n"]].to_numpy().tolist() == [["minilm", 503]]
    second = dev_set_table(models)
    assert second[wanted].to_numpy().tolist() == [["unpruned", "40.0", "30.0"]]
    assert dev_set_table(scored_models(sweep(profile="p").records)).empty


def test_numbers_as_text() -> None:
    assert [number(value, 1) for value in (1.25, -1.26, -0.04, None, float("nan"))] == [
        *("1.2", "−1.3", "0.0", "–", "–")
    ]


def test_markdown() -> None:
    frame = pd.DataFrame({"a": ["1", "2"], "b": ["x", "–"]})
    assert markdown(frame) == "| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | – |"
