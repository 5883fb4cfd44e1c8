"""Operating points, gates and questions to leaf through: the explorer's parts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets as widgets
import numpy as np
import pytest

from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import DataError
from qaprune_lib.evaluation.predict import Answer
from study.explorer import Reply, SavedModel, compare, question_box, replies_html, saved_pairs
from study.frames import SERIES
from study.operating_points import (
    draw_gates,
    draw_layers,
    leaf_through_gates,
    leaf_through_points,
    named_points,
)
from study.records.record import Record, read_records
from tests.study.synthetic import D_INTERMEDIATE, N_HEADS, N_LAYERS, sweep

SHAPE = {"n_layers": N_LAYERS, "n_heads": N_HEADS, "d_intermediate": D_INTERMEDIATE}
CONTEXT = "Ada wrote <b>it</b> in 1843."
ANSWER = Answer(text="1843", score=5.0, null_score=1.0, start=23, end=27)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """The synthetic sweep, whose L0 runs of heads also say each head's score."""
    made = sweep().records
    for record in made:
        if record.stage == "score" and record.parameters.get("penalty_attn") is not None:
            n = N_LAYERS * N_HEADS
            gone = round(n * float(record.metrics.get("removed", {}).get("attn", 0)) / 100)  # type: ignore[union-attr, arg-type]
            scores = np.where(np.arange(n) < gone, -1.0, 2.0).reshape(N_LAYERS, N_HEADS)
            record.metrics["scores"] = {"attn": scores.tolist()}
    return made


def slider_and_stack(widget: Any) -> tuple[widgets.SelectionSlider, widgets.Stack]:
    slider, stack = widget.children
    return slider, stack


def test_operating_points_have_one_topology_each(records: list[Record]) -> None:
    points = named_points(records)
    assert list(points["name"].unique()) == [
        *("unpruned", "attn (×1)", "ff (×1)", "ff + attn (×1)", "ff + attn (×2)")
    ]
    assert points.groupby("name")["point"].nunique().max() == 1
    assert set(points["gate_seed"].dropna()) == {0.0}
    both = points[points["name"] == "ff + attn (×1)"]
    assert list(both["then"]) == ["not retrained", "cross-entropy", "distillation"]
    whole = points[points["name"] == "unpruned"]
    assert list(whole["then"]) == ["fine-tuned", "cross-entropy", "distillation"]
    assert not points["choice"].eq("random").any()


def test_carried_gates_and_weights_are_named_beside_the_model_of_the_same_questions() -> None:
    """On the committed records: nothing of Natural Questions stands on a page of SQuAD."""
    records = read_records(Path(__file__).parents[2] / "results" / "measured")
    points = named_points(records)
    assert not points.duplicated([*SERIES, "name", "then"]).any()
    on_nq = points[points["data"] == "nq"]
    names = {f"ff + attn (×{multiple})" for multiple in (1, 2)}
    names |= {f"{name}, gates of SQuAD 2.0" for name in names}
    names |= {"unpruned", "ff + attn (×1), gates and weights of SQuAD 2.0"}
    assert set(on_nq["name"]) == names
    sliders = leaf_through_points(records)
    (place,) = [place for place in sliders if "NQ-format" in place]
    assert set(slider_and_stack(sliders[place])[0].options) == names
    for place, widget in sliders.items():
        if "NQ-format" not in place:
            assert not any("gates of" in name for name in slider_and_stack(widget)[0].options)


def test_page_says_what_its_rows_say(records: list[Record]) -> None:
    points = named_points(records)
    (place, widget), *others = leaf_through_points(records).items()
    assert place == "MiniLM on generated SQuAD 2.0, embedded, profile tiny"
    assert not others
    slider, stack = slider_and_stack(widget)
    assert list(slider.options) == list(points["name"].unique())
    for name, child in zip(slider.options, stack.children, strict=True):
        rows = points[points["name"] == name]
        for column in ("f1", "has_answer_f1", "no_answer_f1"):
            for value in rows[column]:
                assert f"<td>{value:.1f}</td>" in child.value
        assert re.search(
            r'<img src="data:image/png;base64,[^"]+" alt="Slices kept by layer', child.value
        )
        if name == "unpruned":
            assert "Nothing removed" in child.value
        else:
            assert f"{rows['attn_removed'].iloc[0]:.0f}% of the heads" in child.value
            assert f"{rows['speedup'].iloc[0]:.2f} times as fast" in child.value
            counts = ", ".join(map(str, rows["kept_attn"].iloc[0]))
            assert f"attention heads {counts}" in child.value
    assert sum(len(child.value) for child in stack.children) < 300_000


def test_slider_is_linked_in_the_browser(records: list[Record]) -> None:
    widget = leaf_through_points(records).popitem()[1]
    slider, stack = slider_and_stack(widget)
    links = [w for w in widgets.Widget.widgets.values() if isinstance(w, widgets.widget_link.Link)]
    assert any(
        w.source == (slider, "index") and w.target == (stack, "selected_index") for w in links
    )


def test_layers_are_drawn_as_percentages() -> None:
    kept = {"attn": [12, 6, 0, 3, 12, 12], "ff": None}
    left, right = draw_layers(kept, SHAPE).axes
    assert [bar.get_height() for bar in left.patches] == [100, 50, 0, 25, 100, 100]  # type: ignore[attr-defined]
    assert [bar.get_height() for bar in right.patches] == [100] * N_LAYERS  # type: ignore[attr-defined]


def test_gates_at_or_below_zero_are_crossed_out() -> None:
    alphas = np.array([[2.0, -1.0, 0.0], [1.0, 3.0, -0.5]])
    axes = draw_gates(alphas).axes[0]
    crosses = {tuple(map(int, text.get_position())) for text in axes.texts}
    assert crosses == {(1, 0), (2, 0), (2, 1)}


def test_gates_of_each_run_in_order_of_penalty(records: list[Record]) -> None:
    (widget,) = leaf_through_gates(records).values()
    slider, stack = slider_and_stack(widget)
    names = list(slider.options)
    plain = [name for name in names if name.count(",") == 1]
    assert plain == names[: len(plain)]
    penalties = [float(name.removeprefix("λ = ").partition(",")[0]) for name in plain]
    assert penalties == sorted(penalties)
    assert any("learning rate 0.01" in name for name in names)
    first = stack.children[0].value
    runs = [r for r in records if r.stage == "score" and r.parameters.get("penalty_attn") == 0.02]
    gone = np.mean(np.array(runs[0].metrics["scores"]["attn"]) <= 0)  # type: ignore[index, call-overload]
    assert f"{gone:.0%} of the heads" in first


def test_no_records_give_no_pages() -> None:
    assert named_points([]).empty
    assert leaf_through_points([]) == {}
    assert leaf_through_gates([]) == {}


def test_pairs_are_those_whose_folders_are_there(records: list[Record], tmp_path: Path) -> None:
    assert saved_pairs(records, tmp_path) == {}
    points = named_points(records)
    row = points[points["name"].eq("ff + attn (×2)") & points["then"].eq("distillation")].iloc[0]
    for run in (row["run"], row["finetune"]):
        (tmp_path / "embedded" / "tiny" / run / "model").mkdir(parents=True)
    ((name, (full, pruned)),) = saved_pairs(records, tmp_path).items()
    place = "MiniLM on generated SQuAD 2.0, embedded, profile tiny"
    assert name == f"{place}: ff + attn (×2), distillation"
    assert Path(pruned.source) == tmp_path / "embedded" / "tiny" / row["run"] / "model"
    tuned = next(r for r in records if r.id == row["finetune"])
    assert full.threshold == tuned.metrics["dev"]["threshold"]  # type: ignore[index, call-overload]
    assert full.sizes == {"max_length": 128, "doc_stride": 64}


def test_compare_asks_all_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def ask(model: Any, question: str, context: str, *, windows: Windows) -> Answer:
        asked.append(model)
        assert (question, context, windows) == ("When?", CONTEXT, Windows(64))
        return ANSWER

    monkeypatch.setattr("qaprune_lib.evaluation.predict.ask", ask)
    models: Any = {"full": "F", "pruned": "P"}
    cuts = {"full": -4.5, "pruned": 0.0}
    replies = compare(models, "When?", CONTEXT, thresholds=cuts, repeats=2, windows=Windows(64))
    assert asked == ["F", "P"] * 3
    assert [reply.name for reply in replies] == ["full", "pruned"]
    assert [reply.answered for reply in replies] == [False, True]  # 1 − 5 = −4 > −4.5
    assert all(reply.seconds >= 0 for reply in replies)


def test_replies_mark_the_answer_and_escape_the_rest() -> None:
    replies = [Reply("full", ANSWER, 0.02, True), Reply("pruned <x>", ANSWER, 0.01, False)]
    shown = replies_html(CONTEXT, replies, {"full": 0.0, "pruned <x>": -9.0})
    assert shown.count("Ada wrote &lt;b&gt;it&lt;/b&gt; in <mark>1843</mark>.") == 2
    assert "<b>full</b>: 1843<" in shown
    assert "<b>pruned &#60;x&#62;</b>: no answer (best span: 1843)" in shown
    assert "20 ms</p>" in shown
    assert "10 ms, 2.00 times as fast" in shown


def test_box_asks_the_chosen_pair_once_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(source: str) -> Any:
        loaded.append(source)
        return SimpleNamespace(source=source)

    def ask(model: Any, question: str, context: str, **windows: int) -> Answer:
        if not question:
            raise DataError("the question is empty")
        return ANSWER

    monkeypatch.setattr("qaprune_lib.evaluation.predict.ask", ask)
    full = SavedModel("full", "F")
    pairs = {source: [full, SavedModel("pruned", source)] for source in ("P1", "P2")}
    box: Any = question_box(pairs, load, context=CONTEXT, questions=["When?"])
    chosen, _, question = box.children[:3]
    assert not loaded  # before the button is pressed
    box.manual_button.click()
    assert loaded == ["F", "P1"]
    assert box.result.value.count("<mark>1843</mark>") == 2
    chosen.value = pairs["P2"]
    box.manual_button.click()
    assert loaded == ["F", "P1", "P2"]
    question.value = ""
    box.manual_button.click()
    assert "the question is empty" in box.result.value


def test_explorer_imports_no_torch() -> None:
    code = (
        "import sys, study.explorer, study.frames;"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
