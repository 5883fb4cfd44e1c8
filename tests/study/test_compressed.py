"""The table of what `compress` reached, from records whose numbers are given."""

from __future__ import annotations

from typing import Any

import pytest

from study.compressed import (
    calls_text,
    compression_cells,
    compressions,
    rival_cells,
    step_cells,
    with_most_time,
)
from study.figures.speed import compress_figure
from study.plan.parameters import Compress
from study.summary import findings
from tests.study.synthetic import UNPRUNED_F1, dev, sweep


def step(what: str, f1: float, attn: float) -> dict[str, Any]:
    return {"what": what, "f1": f1, "threshold": 0.0, "attn": attn, "ff": 60.0, "seconds": 30.0}


def test_a_row_tells_the_model_that_was_kept() -> None:
    made = sweep()
    tuned = next(r.id for r in made.records if r.stage == "finetune")
    time = {"speedup": 1.9, "speedup_low": 1.8, "speedup_high": 2.0, "device": "a device"}
    told = {
        "steps": [step("unpruned", 80.0, 0.0), step("pruned to 50%", 78.0, 40.0)],
        "times": [{}, {**time, "batch_size": 1}],
        "seconds": 120.0,
    }
    told["steps"].append(step("distilled in 60 steps", 77.0, 40.0))
    metrics = {"compression": {**told, "chosen": 1}, "dev": dev(75.5)}
    made.run(Compress, metrics, model=tuned, macs=None, speedup=2.0, budget="10min")
    rows = compressions(made.records)
    [cells] = compression_cells(rows).to_dict("records")
    assert cells == {
        "asked": "2 times as fast",
        "budget": "10min",
        "kept model": "pruned to 50%",
        "F1 unpruned": f"{UNPRUNED_F1:.1f}",
        "F1": "75.5",
        "% attn removed": "40.0",
        "% ff removed": "60.0",
        "speed-up": "1.90 (1.80–2.00)",
        "minutes": "2.0",
    }
    lost = f"{UNPRUNED_F1 - 75.5:.1f} F1 lost at 1.90 times the speed, in 2 minutes"
    assert calls_text(rows) == f"against the unpruned {UNPRUNED_F1:.1f}: {lost}"
    made.run(
        Compress,
        {"compression": {**told, "chosen": 1}, "dev": dev(74.5)},
        model=tuned,
        macs=None,
        speedup=2.0,
        budget="10min",
        seed=1,
    )
    both = compressions(made.records)
    lost = f"{UNPRUNED_F1 - 75:.1f} F1 lost at 1.90 times the speed, in 2 minutes (2 seeds)"
    assert calls_text(both) == f"against the unpruned {UNPRUNED_F1:.1f}: {lost}"
    quick = {"compression": {**told, "chosen": 1, "seconds": 60.0}, "dev": dev(70.0)}
    made.run(Compress, quick, model=tuned, macs=None, speedup=2.0, budget="1s")
    assert calls_text(with_most_time(compressions(made.records))) == calls_text(both)
    measured = [record.model_copy(update={"provenance": "measured"}) for record in made.records]
    assert lost in findings(measured)[-1]
    drawing = compress_figure(rows)
    assert f"{UNPRUNED_F1 - 75.5:.3g} at 1.9" in drawing.alt
    assert "SQuAD 2.0" in drawing.caption
    [steps] = rows["steps"]
    assert step_cells(steps)["F1, held-out"].tolist() == ["80.0", "78.0", "77.0"]
    assert rows["model"].iloc[0] == "minilm"


def test_rivals_are_compared_with_the_unpruned_model() -> None:
    models = {
        "theirs": {"macs": 0.5, "f1": 51.4, "attn": 50.0, "ff": 50.03},
        "ours": {"macs": 0.49, "f1": 67.66, "attn": 29.17, "ff": 63.0},
    }
    speeds = [{"what": f"speed: {name}", "low": 1.5, "median": 1.6, "high": 1.7} for name in models]
    losses = [{"what": f"F1 lost: {name}"} for name in models]
    rows = [row for pair in zip(losses, speeds, strict=True) for row in pair]
    cells = rival_cells({"f1": 72.05, "models": models, "rows": rows})
    assert cells["pruned by"].tolist() == ["theirs", "ours"]
    assert cells["F1 lost"].tolist() == ["20.6", "4.4"]
    assert cells.iloc[1].to_dict() == {
        "pruned by": "ours",
        "% attn removed": "29.2",
        "% ff removed": "63.0",
        "F1": "67.7",
        "F1 lost": "4.4",
        "speed-up": "1.60 (1.50–1.70)",
    }


def test_without_runs_there_are_no_rows() -> None:
    assert compressions(sweep().records).empty


@pytest.mark.parametrize(
    ("macs", "words"), [(0.5, "50% of the MACs"), (0.125, "12.5% of the MACs")]
)
def test_what_was_asked_in_words(macs: float, words: str) -> None:
    made = sweep()
    tuned = next(r.id for r in made.records if r.stage == "finetune")
    time = {"speedup": 1.0, "speedup_low": 1.0, "speedup_high": 1.0, "device": "d", "batch_size": 1}
    told = {"steps": [step("unpruned", 80.0, 0.0)], "times": [{}, time], "seconds": 1.0}
    metrics = {"compression": {**told, "chosen": 0}, "dev": dev(80.0)}
    made.run(Compress, metrics, model=tuned, macs=macs)
    assert compressions(made.records)["asked"].tolist() == [words]
