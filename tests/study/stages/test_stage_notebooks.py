"""The five stages' notebooks, each on what the one before left, with tiny parameters."""

from __future__ import annotations

import json
import math
import re
import statistics
import string
from collections import Counter
from collections.abc import Container
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from datasets import Dataset

from qaprune_lib import load_model
from study.plan.parameters import (
    Compress,
    DecodeTime,
    Finetune,
    Prune,
    Retrain,
    ScoreGates,
    StageParameters,
)
from study.records.record import FINISHED, Record, read_record
from study.stages.questions import Questions
from study.stages.run import run_notebook
from tests.models.tiny import tiny_model

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
TINY: dict[str, Any] = {
    "profile": "tiny",
    "train_questions": 48,
    "heldout_questions": 12,
    "dev_questions": 40,
    "max_length": 96,
    "doc_stride": 48,
}
DEV = {
    *("f1", "at_zero", "fitted", "threshold", "best_f1", "best_f1_threshold", "best_exact"),
    *("best_exact_threshold", "attainable_f1", "attainable_f1_threshold", "answered", "articles"),
}
SCORED = {"dev", "heldout", "parameters", "encoder_parameters", "weights"}
TRAINING = {"steps", "seconds", "seconds_per_step", "final_loss", "losses"}
N_LAYERS, N_HEADS, HEAD_SIZE, D_INTERMEDIATE, D_EMBEDDING = 3, 12, 4, 24, 48


def saved_model(folder: Path) -> str:
    """A small model of random weights that reads words; its name for a stage."""
    model = tiny_model(
        "bert",
        tokenizer=load_model("embedded-small", device="cpu").tokenizer,
        max_position_embeddings=512,
        num_attention_heads=N_HEADS,
        hidden_size=D_EMBEDDING,
        intermediate_size=D_INTERMEDIATE,
    )
    model.save_pretrained(folder)
    return str(folder)


class Chain:
    """Runs of notebooks in one folder, in this process or in kernels of their own."""

    def __init__(self, folder: Path, *, kernels: Container[str] = ()) -> None:
        self.folder, self.kernels = folder, kernels
        self.place = {**TINY, "results": str(folder / "results"), "runs": str(folder / "runs")}

    def run(self, stage: type[StageParameters], **values: Any) -> tuple[str, Record]:
        """Execute a stage's notebook; returns how others name the run, and its only new record."""
        given = {**self.place, "name": f"tiny/{stage.stage}", **values}
        parameters = stage.checked({**given, "origin": "embedded"})
        before = set((self.folder / "results").rglob("*"))
        notebook = NOTEBOOKS / f"{stage.notebook}.ipynb"
        if stage.stage in self.kernels:
            run_notebook(notebook, self.folder / f"{stage.stage}.ipynb", given)
        else:
            figures = execute_all(notebook, {**parameters.identity(), **parameters.place()})
            assert figures > 0, f"{stage.stage}: no figure"
        [path] = {p for p in (self.folder / "results").rglob("*") if p.is_file()} - before
        assert path == self.folder / "results" / "embedded" / "tiny" / f"{parameters.id}.json"
        record = read_record(path)
        assert record.parameters == parameters.identity()
        assert record.data_digest == Questions.load(parameters).digest
        left = self.artifacts(parameters.reference)
        assert not list(left.glob(".*"))
        assert not (left / "checkpoints").exists()
        assert (left / FINISHED).is_file()
        return parameters.reference, record

    def artifacts(self, run: str) -> Path:
        return self.folder / "runs" / "embedded" / "tiny" / run.removeprefix("run:")


def execute_all(notebook: Path, parameters: dict[str, Any]) -> int:
    """Run the code cells of a notebook here; returns how many figures they show."""
    with mpl.rc_context({"backend": "agg"}), patch.object(plt, "show") as show:
        names: dict[str, Any] = {"__name__": "__main__"}
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), str(notebook), "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names |= parameters
        plt.close("all")
    return show.call_count


def f1_by_hand(dev: Dataset, predictions: Path, threshold: float) -> float:
    """F1 in percent, as SQuAD 2.0 defines it."""
    by_id = {line["id"]: line for line in map(json.loads, predictions.read_text().splitlines())}
    assert list(by_id) == dev["id"]
    total = 0.0
    for row in dev:
        found = by_id[row["id"]]
        assert found["text"] == row["context"][found["start"] : found["end"]]
        text = "" if found["null_score"] - found["score"] > threshold else found["text"]
        total += max((overlap(text, gold) for gold in row["answers"]["text"] or [""]), default=0)
    return 100 * total / len(dev)


def overlap(text: str, gold: str) -> float:
    said, true = (words(t) for t in (text, gold))
    common = (said & true).total()
    if not said or not true:
        return float(said == true)
    return 2 * common / (said.total() + true.total())


def words(text: str) -> Counter[str]:
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return Counter(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def check_scores(record: Record, questions: Questions, folder: Path) -> None:
    metrics: Any = record.metrics
    for part, split in (("dev", questions.dev), ("heldout", questions.heldout)):
        scores = metrics[part]
        assert set(scores) == DEV
        assert scores["fitted"]["total"] == len(split)
        assert scores["f1"] == scores["fitted"]["f1"] <= scores["attainable_f1"] + 1e-9
        counts, sums = zip(*scores["articles"], strict=True)
        assert sum(counts) == len(split)
        assert sum(sums) / len(split) == pytest.approx(scores["f1"], abs=1e-3)
        assert list(counts) == list(Counter(split["title"]).values())
    # the threshold comes from the held-out questions alone, where it is the best there is
    assert metrics["dev"]["threshold"] == metrics["heldout"]["threshold"]
    assert metrics["heldout"]["f1"] == pytest.approx(metrics["heldout"]["attainable_f1"])
    thresholds = {"fitted": metrics["dev"]["threshold"], "at_zero": 0.0, "answered": math.inf}
    for name, threshold in thresholds.items():
        by_hand = f1_by_hand(questions.dev, folder / "dev_predictions.jsonl", threshold)
        assert metrics["dev"][name]["f1"] == pytest.approx(by_hand)


def check_training(training: dict[str, Any], steps: int) -> None:
    assert set(training) == TRAINING
    assert training["steps"] == training["losses"][-1][0] == steps == len(training["losses"])
    assert training["final_loss"] == training["losses"][-1][1]
    assert training["seconds_per_step"] == pytest.approx(training["seconds"] / steps, rel=0.5)


@pytest.mark.slow
def test_the_stages_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    in_kernels = ("finetune", "time")
    chain = Chain(tmp_path, kernels=in_kernels)
    metrics: Any
    questions = Questions.load(Finetune.checked(chain.place))

    model = saved_model(tmp_path / "model")
    tuned, record = chain.run(Finetune, model=model, max_steps=3, batch_size=4)
    metrics = record.metrics
    assert set(metrics) == {*SCORED, "training", "shape"}
    check_training(metrics["training"], 3)
    check_scores(record, questions, chain.artifacts(tuned))
    shape = metrics["shape"]
    assert (shape["n_layers"], shape["n_heads"], shape["d_intermediate"]) == (
        N_LAYERS,
        N_HEADS,
        D_INTERMEDIATE,
    )
    whole = metrics["encoder_parameters"]

    l0 = {"questions": 12, "max_steps": 12, "batch_size": 2, "learning_rate": 1.0}
    scored, record = chain.run(
        ScoreGates, model=tuned, penalty_attn=2e-3, fractions=[0.5], curve_questions=8, **l0
    )
    metrics = record.metrics
    assert set(metrics) == {
        *("label", "unpruned", "curves", "scoring", "training"),
        *("open", "kept", "removed", "scores"),
    }
    check_training(metrics["training"], 12)
    [curve] = metrics["curves"]
    cut, own = curve["points"]
    assert (curve["kind"], cut["own_threshold"], own["own_threshold"]) == ("attn", False, True)
    assert cut["removed"] == 50
    saved = json.loads((chain.artifacts(scored) / "scores.json").read_text())
    alpha = metrics["scores"]["attn"]
    assert alpha == saved["scores"]["attn"]
    kept = [sum(value > 0 for value in layer) for layer in alpha]
    assert metrics["kept"] == {"attn": kept}
    share = 100 * (1 - sum(kept) / (N_LAYERS * N_HEADS))
    assert own["removed"] == metrics["removed"]["attn"] == pytest.approx(share)
    assert 0 < share < 100
    assert metrics["scoring"]["questions"] == 12
    for point in (metrics["unpruned"], cut, own):
        assert sum(count for count, _ in point["articles"]) == 8

    pruned, record = chain.run(Prune, model=tuned, attn=scored)
    metrics = record.metrics
    assert set(metrics) == {*SCORED, "removed", "kept"}
    check_scores(record, questions, chain.artifacts(pruned))
    assert metrics["kept"] == {"attn": kept, "ff": [D_INTERMEDIATE] * N_LAYERS}
    assert metrics["removed"] == {"attn": pytest.approx(share), "ff": 0}
    # of a head three matrices with bias, and its columns of the output matrix
    heads_gone = N_LAYERS * N_HEADS - sum(kept)
    each = HEAD_SIZE * (3 * (D_EMBEDDING + 1) + D_EMBEDDING)
    assert whole - metrics["encoder_parameters"] == heads_gone * each
    smaller = metrics["parameters"]

    retrained, record = chain.run(
        Retrain,
        model=pruned,
        objective="distillation",
        teacher=tuned,
        questions=12,
        max_steps=2,
        batch_size=4,
    )
    metrics = record.metrics
    assert set(metrics) == {*SCORED, "training"}
    check_training(metrics["training"], 2)
    check_scores(record, questions, chain.artifacts(retrained))
    assert metrics["parameters"] == smaller

    compressed, record = chain.run(Compress, model=tuned, macs=0.6, budget="1s")
    metrics = record.metrics
    assert set(metrics) == {*SCORED, "compression"}
    check_scores(record, questions, chain.artifacts(compressed))
    made = metrics["compression"]
    assert [step["what"] for step in made["steps"]] == ["unpruned", "pruned to 60%"]
    assert metrics["encoder_parameters"] < whole
    assert [step["attn"] for step in made["steps"]] == sorted(
        step["attn"] for step in made["steps"]
    )

    _, record = chain.run(DecodeTime, models=[tuned, retrained], repeats=3, max_questions=2)
    metrics = record.metrics
    assert list(metrics) == [tuned, retrained]
    reference, timed = metrics.values()
    assert reference["rounds"] != timed["rounds"]
    for timing in (reference, timed):
        ratios = [a / b for a, b in zip(reference["rounds"], timing["rounds"], strict=True)]
        assert len(ratios) == 3
        assert timing["speedup"] == pytest.approx(statistics.median(ratios))
        assert timing["seconds"] == pytest.approx(statistics.median(timing["rounds"]))
    assert reference["speedup"] == reference["speedup_low"] == reference["macs_ratio"] == 1
    assert timed["parameters"] == smaller
    assert timed["macs_ratio"] > 1

    for stage in in_kernels:
        cells = json.loads((tmp_path / f"{stage}.ipynb").read_text())["cells"]
        outputs = [out for cell in cells for out in cell.get("outputs", [])]
        assert any("image/png" in out.get("data", {}) for out in outputs), f"{stage}: no figure"
