"""compress: the target is met, the numbers are those of evaluate, a killed call goes on."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from huggingface_hub import ModelCard

import qaprune_lib as qp
from qaprune_lib.errors import (
    DataError,
    QapruneError,
    QapruneWarning,
    SettingsError,
    TopologyError,
)
from qaprune_lib.evaluation.squad import score_predictions
from qaprune_lib.models import QuestionAnsweringModel, Topology, shape_of, weights_digest
from qaprune_lib.pruning import LatencyTable, measure_latency
from qaprune_lib.pruning import compress as module
from qaprune_lib.pruning.report import Compression
from qaprune_lib.training.trainer import SpanTrainer
from tests.models.tiny import tiny_model
from tests.training.toy import WINDOWS as TOY_WINDOWS
from tests.training.toy import answered_by, toy_questions

WINDOWS = qp.Windows(40, 12)
QUESTIONS: dict[str, Dataset] = {
    "train": toy_questions(40),
    "heldout": toy_questions(20, seed=1),
    "dev": toy_questions(20, seed=2),
}


@pytest.fixture
def model() -> QuestionAnsweringModel:
    return tiny_model("bert", trained=True)


def compressed(model: QuestionAnsweringModel, **settings: Any) -> module.Compressed:
    given: dict[str, Any] = {"budget": "0s", "windows": WINDOWS, "target": qp.MACs(0.4, length=40)}
    return qp.compress(model, settings.pop("questions", QUESTIONS), **{**given, **settings})


@pytest.mark.slow
@pytest.mark.parametrize("target", [qp.MACs(0.4, length=40), qp.Parameters(0.6)])
def test_the_target_is_met_and_the_scores_are_those_of_evaluate(
    model: QuestionAnsweringModel, target: Any
) -> None:
    small, report = compressed(model, target=target)
    full = Topology.full(shape_of(model.config))
    cost = (lambda t: t.macs(40)) if isinstance(target, qp.MACs) else Topology.encoder_parameters
    assert 0.2 < cost(Topology.of(small)) / cost(full) <= target.share

    assert report.steps[0].what == "unpruned"
    assert report.chosen == len(report.steps) - 1 == (2 if target.share < 0.5 else 1)
    settings: Any = {"threshold_from": QUESTIONS["heldout"], "windows": WINDOWS}
    for side, each in ((report.before, model), (report.after, small)):
        assert side == qp.evaluate(each, QUESTIONS["dev"], **settings).fitted


@pytest.fixture
def table(model: QuestionAnsweringModel) -> LatencyTable:
    """A head takes as long as five and a half activations, all else no time."""
    shape = shape_of(model.config)
    measured = measure_latency(shape, length=32, repeats=1, device="cpu", progress=False)
    heads = tuple(float(n) for n in range(shape.n_heads + 1))
    times = {"attn": heads, "ff_widths": (0, 22), "ff": (0.0, 4.0), "fixed": 0}
    return measured.model_copy(update=times)


@pytest.mark.slow
def test_a_speedup_is_aimed_at_until_it_is_measured(
    model: QuestionAnsweringModel, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = table.predict(Topology.full(table.shape))
    real, asked = module._time, []

    def a_fifth_slower(*arguments: Any) -> Any:
        before, after = real(*arguments)
        asked.append(full / table.predict(Topology.of(arguments[1])))
        return before, after.model_copy(update={"speedup": asked[-1] / 1.2})

    monkeypatch.setattr(module, "_time", a_fifth_slower)
    monkeypatch.setattr(module, "TOLERANCE", 0.1)  # one of few heads takes much of the time
    small, report = compressed(model, target=qp.Speedup(1.5, table=table))
    *aims, last, reported = asked
    assert aims
    assert all(abs(each / 1.2 / 1.5 - 1) > module.TOLERANCE for each in aims)
    assert last / 1.2 == pytest.approx(1.5, rel=module.TOLERANCE)
    assert full / table.predict(Topology.of(small)) == last == reported
    assert report.times[1].speedup == last / 1.2


@pytest.mark.slow
def test_a_speedup_out_of_reach_as_measured_costs_no_more_than_it_gives(
    model: QuestionAnsweringModel, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = module._time, []

    def never(*arguments: Any) -> Any:
        before, after = real(*arguments)
        asked.append(Topology.of(arguments[1]))
        return before, after.model_copy(update={"speedup": 1.0})

    monkeypatch.setattr(module, "_time", never)
    with pytest.warns(QapruneWarning, match="1.3 times the speed was asked for; 1.00 times is"):
        small, report = compressed(model, target=qp.Speedup(1.3, table=table))
    assert 2 < len(asked) <= module.AIMS + 1
    assert asked[1].macs(40) < asked[0].macs(40)  # more went, in vain
    assert Topology.of(small) == asked[0] == asked[-1]
    assert report.times[1].speedup == 1.0


def test_a_target_out_of_reach_is_said_before_anything_is_scored(
    model: QuestionAnsweringModel, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "predict", lambda *_, **__: 1 / 0)
    slow = table.model_copy(update={"fixed": table.predict(Topology.full(table.shape))})
    for target in (qp.Speedup(2.5, table=slow), qp.Parameters(0.001)):
        with pytest.raises(TopologyError, match=r"cannot be met: without all slices") as caught:
            compressed(model, target=target)
        assert len(str(caught.value)) < 300  # no table of latencies


@pytest.mark.slow
def test_latencies_are_those_of_the_models_precision(
    model: QuestionAnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def measured(*shape: Any, **sizes: Any) -> Any:
        asked.append(sizes["compute_dtype"])
        return measure_latency(*shape, **sizes, repeats=1, progress=False)

    monkeypatch.setattr(module, "measure_latency", measured)
    model.compute_dtype = "bfloat16"
    compressed(model, target=qp.Speedup(1.2))
    assert asked == ["bfloat16"]


@pytest.mark.slow
def test_too_little_time_and_too_few_questions_are_warned_of(
    model: QuestionAnsweringModel,
) -> None:
    with pytest.warns(QapruneWarning) as warned:
        _, report = compressed(model)
    said = " ".join(str(each.message) for each in warned)
    assert "budget='0s' is short: on this device pruning takes about 1 min" in said
    # of 20 answers, each right or wrong: two standard errors of the mean are at most 22 points
    assert "F1 on 20 held-out questions is uncertain by up to 22 points" in said
    assert report.scored == len(QUESTIONS["train"])


@pytest.mark.parametrize("n_questions", [1, 100, 10**6])
@pytest.mark.parametrize("seconds", [-5.0, 0.0, 300.0, 12345.6])
def test_as_many_steps_as_there_is_time_for(seconds: float, n_questions: int) -> None:
    a_step, a_pass = 12.0, 0.5

    def took(n_steps: int) -> float:
        return min(n_steps * module.BATCH_SIZE, n_questions) * a_pass + n_steps * a_step

    n_steps = module._training_steps(seconds, a_step, a_pass, n_questions)
    if n_steps > 0:
        assert took(n_steps) <= seconds < took(n_steps + 1)
    else:
        assert seconds < took(1)


@pytest.mark.slow
def test_a_step_is_timed_before_the_steps_are_counted(
    model: QuestionAnsweringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = module.retrain

    def trained(small: QuestionAnsweringModel, rows: Dataset, **settings: Any) -> Any:
        asked.append(settings["max_steps"])
        made = real(small, rows, **{**settings, "max_steps": 2})
        made.training_report = dataclasses.replace(made.training_report, seconds_per_step=30.0)
        return made

    monkeypatch.setattr(module, "retrain", trained)
    compressed(model, budget="1h", **TOY_WINDOWS)
    first, counted = asked
    assert first == module.TRIED
    assert 100 <= counted <= 120  # of 30 seconds each, in an hour


@pytest.mark.parametrize(
    ("n_steps", "d_embedding", "expected"),
    [(500, 384, 3e-4), (499, 384, 1e-4), (500, 1024, 1.125e-4), (499, 768, 5e-5), (500, 96, 3e-4)],
)
def test_many_steps_take_a_higher_rate_and_wide_models_a_lower_one(
    n_steps: int, d_embedding: int, expected: float
) -> None:
    assert module._learning_rate(n_steps, d_embedding) == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("became", ["better", "no other", "worse"])
def test_distillation_stays_unless_it_does_harm(
    model: QuestionAnsweringModel, became: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helps = became == "better"
    monkeypatch.setattr(module, "FEWEST_STEPS", 1)
    monkeypatch.setattr(module, "_seconds_a_step", lambda *_: 0.01)
    made: list[QuestionAnsweringModel] = []

    def trained(small: QuestionAnsweringModel, rows: Dataset, **settings: Any) -> Any:
        assert settings["teacher"] is model
        # no question that the time is too short for: the teacher would read them all
        assert len(rows) == min(len(questions["train"]), settings["max_steps"] * module.BATCH_SIZE)
        assert settings["max_steps"] >= 1
        made.append(copy.deepcopy(model if helps else small))
        if became == "worse":
            with torch.no_grad():
                made[-1].qa_outputs.weight.neg_()  # type: ignore[operator, union-attr]
        return made[-1]

    monkeypatch.setattr(module, "retrain", trained)
    # the unpruned model answers all of these rightly, a copy of the pruned one as many as that
    questions = {name: answered_by(model, rows) for name, rows in QUESTIONS.items()}
    questions["train"] = toy_questions(40 if helps else 3000)
    settings: dict[str, Any] = {"budget": "60s" if helps else "20s", "questions": questions}
    settings |= {**TOY_WINDOWS, "folder": tmp_path / "small"}
    # killed after distillation, the call has to judge it again by what it left
    with monkeypatch.context() as patch:
        patch.setattr(module, "_time", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            compressed(model, **settings)
    small, report = compressed(model, **settings)
    *_, pruned, distilled = report.steps
    assert distilled.what.startswith("distilled in")
    change = distilled.f1 - pruned.f1
    assert change > 0 if helps else change == 0 if became == "no other" else change < -10
    stays = became != "worse"
    assert (weights_digest(small) == weights_digest(made[-1])) == stays
    assert report.chosen == len(report.steps) - (1 if stays else 2)


@pytest.mark.slow
def test_a_killed_call_goes_on(
    model: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, whole = compressed(model)
    calls: list[int] = []
    real = module.reconstruct

    def dies(*arguments: Any, **settings: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **settings)

    monkeypatch.setattr(module, "reconstruct", dies)
    with pytest.raises(KeyboardInterrupt):
        compressed(model, folder=tmp_path / "small")
    assert not (tmp_path / "small" / "config.json").exists()
    with pytest.raises(SettingsError, match="another run"):
        compressed(model, folder=tmp_path / "small", seed=5)
    small, report = compressed(model, folder=tmp_path / "small")
    assert len(calls) == len(report.steps)  # one was made before, and one was begun twice
    assert weights_digest(small) == weights_digest(expected)
    assert [step.f1 for step in report.steps] == [step.f1 for step in whole.steps]

    folder = tmp_path / "small"
    assert weights_digest(qp.load_model(folder, device="cpu")) == weights_digest(expected)
    assert Compression.model_validate_json((folder / "compression.json").read_text()) == report
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "question-answering"
    assert f"| F1 | {report.before.f1:.1f} | {report.after.f1:.1f} |" in card.text
    assert card.text.count("\n| pruned to") == len(report.steps) - 1
    printed = str(report).splitlines()
    assert printed[1].split() == ["F1", f"{report.before.f1:.1f}", f"{report.after.f1:.1f}"]
    assert printed[-2].startswith(f"{report.times[1].speedup:.2f} times as fast")
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors"}
    assert not (folder / "unfinished").exists()
    with pytest.raises(SettingsError, match="holds a model already"):
        compressed(model, folder=folder)


@pytest.mark.slow
def test_a_call_that_was_killed_while_it_distilled_goes_on_there(
    model: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as many steps as it began with, though another call has another time left."""
    real, log, seen = module.retrain, SpanTrainer.log, []

    def trained(small: QuestionAnsweringModel, rows: Dataset, **settings: Any) -> Any:
        folder, n_steps = settings.pop("folder"), settings.pop("max_steps")
        seen.append((n_steps, sorted(path.name for path in folder.iterdir())))
        settings["max_steps"] = 12  # of many thousand
        made = real(small, rows, **settings, checkpoint_steps=5, folder=folder)
        alone = real(small, rows, **settings)
        assert weights_digest(made) == weights_digest(alone)
        return made

    def dies(trainer: SpanTrainer, *arguments: Any) -> None:
        log(trainer, *arguments)
        if trainer.state.global_step == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "retrain", trained)
    monkeypatch.setattr(module, "_seconds_a_step", lambda *_: 0.01)
    settings: dict[str, Any] = {**TOY_WINDOWS, "folder": tmp_path / "small"}
    with monkeypatch.context() as patch:
        patch.setattr(SpanTrainer, "log", dies)
        with pytest.raises(KeyboardInterrupt):
            compressed(model, budget="1h", **settings)
    _, report = compressed(model, budget="0s", **settings)
    (before, nothing), (n_steps, kept) = seen
    assert before == n_steps
    assert (nothing, kept) == ([], ["checkpoint-5", "run.json"])
    assert report.steps[-1].what == f"distilled in {n_steps} steps"


@pytest.mark.slow
def test_ways_to_serve_are_scored_and_timed(
    model: QuestionAnsweringModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qaprune_lib.pruning.serving.has_bfloat16", lambda _: True)
    small, report = compressed(model, folder=tmp_path / "small", export=True)
    first, *ways = report.served
    f1 = {way.way: way.f1 for way in ways}
    assert list(f1) == [
        *("torch float32", "torch bfloat16", "ONNX Runtime float32", "ONNX Runtime int8"),
        "OpenVINO float32",
    ]
    assert (first.way, first.speedup, first.f1) == (
        "unpruned, torch float32",
        1,
        report.steps[0].f1,
    )
    threshold = report.steps[report.chosen].threshold
    eight = qp.in_runtime(small, tmp_path / "small" / "onnx" / "model.int8.onnx")
    for way, each in (("torch float32", small), ("ONNX Runtime int8", eight)):
        found = qp.predict(each, QUESTIONS["heldout"], windows=WINDOWS)
        scores = score_predictions(QUESTIONS["heldout"], found, threshold=threshold)
        assert f1[way] == scores.f1
    assert f1["ONNX Runtime float32"] == f1["OpenVINO float32"] == f1["torch float32"]
    card = (tmp_path / "small" / "README.md").read_text()
    table = card.partition("## How to serve it")[2].partition("##")[0].strip().splitlines()
    assert [line.split(" |")[0][2:] for line in table[-6:]] == [first.way, *f1]
    assert not (tmp_path / "small" / "unfinished").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"export": True}, "say where, with folder="),
        ({"budget": "ten minutes"}, "must be a time"),
        ({"target": 2.0}, "must be such as"),
        ({"target": qp.Speedup(0.5)}, "must be such as"),
        ({"questions": QUESTIONS["train"]}, "here is Dataset"),
        (
            {"questions": {**QUESTIONS, "dev": qp.load_natural_questions("embedded")["dev"]}},
            "'dev' is a NaturalQuestions",
        ),
        ({"questions": {"train": QUESTIONS["train"]}}, r"here is \['train'\]"),
    ],
)
def test_what_cannot_be_done_is_an_error(
    model: QuestionAnsweringModel, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(QapruneError, match=message) as caught:
        compressed(model, **settings)
    assert isinstance(caught.value, SettingsError | DataError)
