"""Figures show what the frames hold: the data of the drawn artists is read back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from qaprune_lib.errors import RecordError
from study.figures.controls import controls, studies
from study.figures.curves import curve_facts, sparsity_curves
from study.figures.layers import figure3
from study.figures.natural_questions import arms, figure4, figure4_published
from study.figures.speed import score_facts, table2_figure
from study.figures.style import LOOKS, SEQUENCE, save
from study.figures.tasks import gaps, gaps_frame
from study.frames import curve_points, layer_shares, scored_models
from study.paper.published import TABLE_2, TABLE_5
from study.paper_tables import tasks_ours, tasks_published
from study.records.record import Record
from tests.conftest import REPOSITORY
from tests.study.synthetic import sweep


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return sweep(large="mpnet", profile="p").records


@pytest.fixture(scope="module")
def points(records: list[Record]) -> pd.DataFrame:
    frame = curve_points(records)
    return frame[frame["model"] == "minilm"]


@pytest.fixture(scope="module")
def models(records: list[Record]) -> pd.DataFrame:
    frame = scored_models(records)
    return frame[frame["model"] == "mpnet"]


def drawn(axes: Axes) -> dict[str, np.ndarray]:
    """x and y of each named line, error bars included."""
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.lines}
    for bars in axes.containers:
        lines[str(bars.get_label())] = np.asarray(bars[0].get_xydata())
    return lines


@pytest.mark.parametrize(("kind", "published"), [("attn", 48), ("ff", 70)])
def test_sparsity_curves(points: pd.DataFrame, kind: str, published: float) -> None:
    [axes] = sparsity_curves(points, kind).figure.axes
    lines = drawn(axes)
    rows = points[(points["kind"] == kind) & (points["variant"] == "")]
    for label in ("gain", "Fisher", "random", *(["leave-one-out"] if kind == "attn" else [])):
        mean = rows[rows["label"] == label].groupby("removed")["loss"].mean()
        np.testing.assert_allclose(lines[label], [(0, 0), *mean.reset_index().to_numpy()])
    own = rows[rows["own_threshold"]].groupby("penalty")[["removed", "loss"]].mean()
    np.testing.assert_allclose(lines["L0"], [(0, 0), *own.to_numpy()])
    name = f"published: {published}% at < 5 F1 lost (Section 4.2.2)"
    np.testing.assert_allclose(lines[name], [[published, 5.0]])
    np.testing.assert_allclose(lines["5 F1 lost"][:, 1], 5.0)
    # half of the made-up questions have no answer
    np.testing.assert_allclose(lines["answering nothing"][:, 1], 80.0 - 50.0)
    assert not any("learning rate" in label or "distillation" in label for label in lines)
    assert axes.get_xlabel().endswith("removed (%)")
    assert axes.get_ylim()[0] == axes.get_xlim()[0] == 0
    assert "embedded, profile p" in axes.figure.get_suptitle()


@pytest.mark.parametrize(("label", "place"), [("random", 20.0), ("L0", 35.5)])
def test_bands_are_the_sd_over_seeds(points: pd.DataFrame, label: str, place: float) -> None:
    [axes] = sparsity_curves(points, "attn").figure.axes
    rows = points[(points["kind"] == "attn") & (points["variant"] == "")]
    chosen = rows[rows["label"].eq(label) & rows["removed"].eq(place)]
    if label == "L0":  # λ = 0.04 removes 35 and 36%
        chosen = rows[rows["penalty"].eq(0.04) & rows["own_threshold"]]
    colour = LOOKS[label].color
    [band] = [
        each for each in axes.collections if to_hex(each.get_facecolor()[0]) == colour.lower()
    ]
    corners = band.get_paths()[0].vertices
    heights = corners[np.isclose(corners[:, 0], place)][:, 1]
    mean, spread = chosen["loss"].mean(), chosen["loss"].std()
    assert (heights.min(), heights.max()) == pytest.approx((mean - spread, mean + spread))


def test_embeddings_draw_every_setting(points: pd.DataFrame) -> None:
    left, right = sparsity_curves(points, "emb").figure.axes
    assert {"L0", "L0, plain LayerNorm", "gain", "answering nothing"} <= set(drawn(left))
    gain = points[(points["kind"] == "emb") & (points["label"] == "gain")]
    np.testing.assert_allclose(
        drawn(right)["gain, embedding dimensions"], gain[["removed", "loss"]].to_numpy()
    )


def test_the_floor_is_a_line_in_every_figure_of_f1(
    points: pd.DataFrame, models: pd.DataFrame
) -> None:
    drawings = [sparsity_curves(points, kind) for kind in ("attn", "ff", "emb")]
    drawings += [table2_figure(models), controls(models), figure4(models), arms(models)]
    drawings += [studies(points), gaps(tasks_ours(models)), figure4_published()]
    for drawing in drawings:
        for axes in drawing.figure.axes:
            if not axes.get_title().startswith("gain, on each"):
                assert "answering nothing" in drawn(axes)


def test_a_floor_far_off_is_written_and_does_not_press_the_curves_flat(
    points: pd.DataFrame,
) -> None:
    lost = (points["unpruned_f1"] - points["floor"]).mean()
    for shift, is_far in ((0.0, False), (1000.0, True)):
        drawing = sparsity_curves(points.assign(floor=points["floor"] - shift), "attn")
        [axes] = drawing.figure.axes
        written = [text.get_text() for text in axes.texts]
        assert (written == [f"answering nothing loses {lost + shift:.1f} ↑"]) == is_far
        assert (axes.get_ylim()[1] < lost + shift) == is_far


def test_layers(records: list[Record]) -> None:
    layers = layer_shares(records)
    for axes, kind in zip(figure3(layers).figure.axes, ("attn", "ff"), strict=True):
        for multiple, rows in layers[layers["kind"] == kind].groupby("multiple"):
            mean = rows.groupby("layer")["remaining"].mean().reset_index()
            np.testing.assert_allclose(drawn(axes)[f"λ × {multiple:g}"], mean.to_numpy())
    assert "λ × 1: from 58.3 at 1 to 58.3 at 6" in figure3(layers).alt


def test_table_2_has_the_papers_points_and_ours_on_the_same_axes(models: pd.DataFrame) -> None:
    [axes] = table2_figure(models).figure.axes
    lines = drawn(axes)
    theirs = np.vstack([lines[name] for name in lines if name.startswith("published")])
    expected = [(2712 / row.seconds, 84.6 - row.f1) for row in TABLE_2.rows]
    np.testing.assert_allclose(sorted(map(tuple, theirs)), sorted(expected))
    timed = models[models["gate_seed"].eq(0) & models["kinds"].eq("both")]
    chosen = timed[(timed["then"] == "distillation") & (timed["choice"] == "scores")]
    line = lines["distillation"]
    assert line[1:, 0].tolist() == pytest.approx(chosen["speedup"].tolist())
    both = models[(models["then"] == "distillation") & models["choice"].isin(["", "scores"])]
    medians = 80.0 - both.groupby("multiple", dropna=False)["f1"].median()
    assert sorted(line[:, 1]) == pytest.approx(sorted(medians))


def test_a_disturbed_round_does_not_stretch_the_axis(models: pd.DataFrame) -> None:
    high = models["speedup_high"].where(models["multiple"].ne(2), 9)
    [axes] = table2_figure(models.assign(speedup_high=high)).figure.axes
    assert 2712 / 1128 < axes.get_xlim()[1] < 3


def test_controls_and_studies(models: pd.DataFrame, points: pd.DataFrame) -> None:
    [axes] = controls(models).figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "unpruned"
    random = names.index("ff + attn (×1), random choice")
    assert names[random - 1] == "ff + attn (×1)"
    rows = models[(models["choice"] == "random") & (models["then"] == "distillation")]
    line = drawn(axes)["distillation"]
    assert sorted(line[line[:, 1] == random][:, 0]) == pytest.approx(sorted(rows["f1"]))
    panels = studies(points).figure.axes
    assert [panel.get_xlabel().split()[0] for panel in panels] == [
        "attention",
        *("feed-forward", "embedding"),
    ]
    looks = {
        line.get_label(): (line.get_color(), line.get_marker())
        for panel in panels
        for line in panel.lines
    }
    assert len(set(looks.values())) == len(looks)
    own = points[points["own_threshold"] & (points["variant"] == "learning rate 0.01")]
    np.testing.assert_allclose(
        drawn(panels[0])["learning rate 0.01"], own[["removed", "f1"]].to_numpy()
    )


def test_published_pictures() -> None:
    [axes] = figure4_published().figure.axes
    lines = drawn(axes)
    rows = [row for row in TABLE_5.rows if row.model != "RoBERTa-base"]
    line = lines["Table 5: large pr(x-ent), distillation"]
    assert line[:, 1].tolist() == [row.short_f1 for row in rows]
    # RoBERTa-large has 355 million weights; 24·4096·2049 of them are its activations'
    assert line[0, 0] == pytest.approx(355, abs=2)
    removed = 0.42 * 24 * (4 * 1024**2 + 3 * 1024) + 0.40 * 24 * 4096 * 2049
    assert line[0, 0] - line[1, 0] == pytest.approx(removed / 1e6, rel=1e-6)
    [axes] = gaps(tasks_published()).figure.axes
    # BERT-large less TinyBERT on SQuAD 1.1, SQuAD 2.0 and NQ, from Table 1
    assert drawn(axes)["TinyBert"][:, 1].tolist() == pytest.approx([3.4, 10.12, 11.5])
    assert drawn(axes)["BERT-base"][0, 1] == pytest.approx(90.9 - (88.4 + 88.5) / 2)


def test_figure4_has_the_series_of_the_paper() -> None:
    made = sweep(large="mpnet", profile="p", gate_seeds=1, multiples=(1.0, 2.0))
    large = made.records[1].id
    small = made.taught("minilm", large, f1=70.0)
    gates = {kind: made.l0(small, kind, 0.04) for kind in ("attn", "ff")}
    point = made.retrain(made.prune(small, **gates), "distillation", large)
    by_distillation = {
        kind: made.l0(large, kind, penalty, objective="distillation")
        for kind, penalty in (("attn", 0.04), ("ff", 0.04))
    }
    taught = made.retrain(made.prune(large, **by_distillation), "distillation", large)
    models = scored_models(made.records)
    drawing = figure4(models)
    [axes] = drawing.figure.axes
    lines = drawn(axes)
    assert set(lines) == {
        "answering nothing",
        "mpnet",
        "MiniLM",
        "mpnet, pr(x-ent) + dist",
        "mpnet, pr(dist) + dist",
        "MiniLM taught by mpnet",
        "MiniLM taught by mpnet, pr(x-ent) + dist",
    }
    f1 = models.set_index("run")["f1"]
    sizes = models.set_index("run")["parameters"] / 1e6
    assert lines["MiniLM taught by mpnet"].tolist() == [[8.0, 70.0]]
    for name, run in (
        ("MiniLM taught by mpnet, pr(x-ent) + dist", point),
        ("mpnet, pr(dist) + dist", taught),
    ):
        np.testing.assert_allclose(lines[name], [[sizes[run], f1[run]]])
    both = models[(models["kinds"] == "both") & (models["choice"] == "scores")]
    both = both[(both["model"] == "mpnet") & (both["then"] == "distillation")]
    both = both[both["gate_objective"] == "cross_entropy"].sort_values("parameters")
    expected = both[["parameters", "f1"]].to_numpy() / [1e6, 1]
    np.testing.assert_allclose(lines["mpnet, pr(x-ent) + dist"], expected)
    assert len(expected) == 2
    assert "MiniLM taught by mpnet: 70 at 8;" in drawing.alt


def test_on_natural_questions_the_origin_of_gates_is_seen(models: pd.DataFrame) -> None:
    rows = models[models["then"].isin(["fine-tuned", "not retrained"])].copy()
    pruned = rows["kinds"] != "none"
    rows = rows.assign(data="nq", short_f1=rows["f1"], weights_from="nq")
    rows["gates_from"] = np.where(pruned, "nq", "")
    carried = rows[pruned].assign(gates_from="squad2", short_f1=rows["short_f1"] - 1)
    trained_on = carried.assign(weights_from="squad2", short_f1=carried["short_f1"] - 1)
    [axes] = arms(pd.concat([rows, carried, trained_on])).figure.axes
    fills = {str(line.get_label()): line.get_fillstyle() for line in axes.lines}
    assert fills == {
        "answering nothing": "full",
        "fine-tuned": "full",
        "not retrained": "full",
        "not retrained, gates of SQuAD 2.0": "none",
        "not retrained, gates and weights of SQuAD 2.0": "left",
    }
    lines = drawn(axes)
    own, carried_points = lines["not retrained"], lines["not retrained, gates of SQuAD 2.0"]
    np.testing.assert_allclose(own - carried_points, np.tile([0, 1], (len(own), 1)))
    assert axes.get_ylabel() == "short-answer F1 on dev questions (%)"


def test_curves_on_natural_questions_bear_no_share_of_squad(points: pd.DataFrame) -> None:
    [axes] = sparsity_curves(points.assign(data="nq"), "attn").figure.axes
    assert not [label for label in drawn(axes) if label.startswith("published")]
    assert axes.get_ylabel() == "short-answer F1 points lost on dev questions"


def test_one_figure_is_of_one_source(points: pd.DataFrame, records: list[Record]) -> None:
    other = sweep(profile="q", provenance="measured").records
    mixed = curve_points([*records, *other])
    with pytest.raises(RecordError, match=r"one profile, here are: p, q"):
        sparsity_curves(mixed, "attn")
    with pytest.raises(RecordError, match="none"):
        sparsity_curves(points.iloc[:0], "attn")
    with pytest.raises(RecordError, match="one model, here are: minilm, mpnet"):
        sparsity_curves(curve_points(records), "attn")


def test_captions_say_n_seeds_profile_and_provenance(
    points: pd.DataFrame, models: pd.DataFrame, records: list[Record]
) -> None:
    curves, speed = sparsity_curves(points, "attn"), table2_figure(models)
    texts = [
        curves.caption,
        curve_facts(points, "attn"),
        speed.caption,
        score_facts(models),
        figure3(layer_shares(records)).caption,
        controls(models).caption,
        studies(points).caption,
    ]
    for text in texts:
        assert "embedded, profile p" in text
        assert "2 seeds" in text
    assert "(a device, 1 thread, float32, 25 windows, batch size 1, 3 rounds)" in speed.caption
    assert "n = 240 held-out questions" in curves.caption
    assert "mean of 5 draws ± sd" in curves.caption


def test_alt_text_is_what_is_drawn(points: pd.DataFrame, models: pd.DataFrame) -> None:
    alt = sparsity_curves(points, "attn").alt
    assert alt.startswith("F1 points lost on held-out questions against attention heads removed ")
    assert "answering nothing: 30 throughout" in alt
    random = points[points["label"].eq("random") & points["kind"].eq("attn")]
    *_, last = random.groupby("removed")["loss"].mean()
    assert f"random: from 0 at 0 to {last:.3g} at 60; " in alt
    named = controls(models).alt
    both = models[models["kinds"].eq("both") & models["then"].eq("not retrained")]
    for row in both[both["choice"].eq("scores")].itertuples():
        assert f"ff + attn (×{row.multiple:g}) at {row.f1:.3g}" in named


def test_a_new_scorer_has_a_look_and_a_name_that_is_no_formula(points: pd.DataFrame) -> None:
    gain = points[points["label"] == "gain"]
    added = gain.assign(scorer="mine", label="m$_1$ine", loss=gain["loss"] + 1)
    drawing = sparsity_curves(pd.concat([points, added]), "attn")
    assert drawn(drawing.figure.axes[0])["m$_1$ine"][1, 1] == pytest.approx(11 * 0.4**2 + 1)
    assert "m$_1$ine: from" in drawing.alt
    assert not any(text.get_parse_math() for text in drawing.figure.legends[0].get_texts())


def test_series_differ_without_colour() -> None:
    for looks in (list(LOOKS.values())[:6], list(LOOKS.values())[6:], SEQUENCE):
        assert len({look.color for look in looks}) == len(looks)
        assert len({(look.marker, str(look.linestyle)) for look in looks}) == len(looks)
        assert len({look.marker for look in looks}) == len(looks)
        for look in looks:
            assert to_hex(look.color) == look.color.lower()


def test_saved_twice_is_the_same_svg(points: pd.DataFrame, tmp_path: Path) -> None:
    def draw(folder: str) -> Path:
        save(sparsity_curves(points, "attn").figure, tmp_path / folder / "one.svg")
        return tmp_path / folder / "one.svg"

    svg, again = draw("a"), draw("b")
    assert svg.read_bytes() == again.read_bytes()
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert svg.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in svg.parent.iterdir()) == ["one.png", "one.svg"]


def test_gaps_are_to_one_model_whatever_its_head_weighs() -> None:
    rows = [("big", 10, "squad2", 80.0), ("big", 11, "nq", 60.0)]
    rows += [("small", 5, "squad2", 70.0), ("small", 6, "nq", 55.0)]
    tasks = pd.DataFrame(rows, columns=["model", "parameters", "task", "f1"])
    behind = gaps_frame(tasks).set_index(["model", "task"])["gap"].to_dict()
    assert behind == {
        ("big", "squad2"): 0, ("big", "nq"): 0, ("small", "squad2"): 10, ("small", "nq"): 5
    }  # fmt: skip


def test_titles_and_captions_read_no_questions() -> None:
    """Labels come from records: Natural Questions are never parsed for them."""
    code = (
        "import sys\n"
        "sys.modules.update({'datasets': None, 'qaprune_lib.data.natural_questions': None})\n"
        "from study.figures.curves import sparsity_curves\n"
        "from study.frames import curve_points\n"
        "from tests.study.synthetic import sweep\n"
        "print(sparsity_curves(curve_points(sweep(data='nq').records), 'attn').caption)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert "generated NQ-format questions" in done.stdout
