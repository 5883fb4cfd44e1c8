"""Latency tables: their arithmetic, their file, and that they make models faster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn
from transformers import BertConfig

from qaprune_lib.errors import ModelError, SettingsError, TopologyError
from qaprune_lib.models.architecture import ARCHITECTURES
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.pruned import ComputeDtype, QuestionAnsweringModel, full_class
from qaprune_lib.models.shape import ModelShape
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning import latency
from qaprune_lib.pruning.budget import Speedup
from qaprune_lib.pruning.latency import LatencyTable, _rising_from_zero, measure_latency
from qaprune_lib.pruning.slicing import prune
from qaprune_lib.scorers.scores import GateScores

SHAPE = ModelShape(n_layers=2, n_heads=2, head_size=4, d_intermediate=10, d_embedding=8)
FIELDS: dict[str, Any] = {
    "shape": SHAPE,
    "model_type": "bert",
    "embedding": 8,
    "batch_size": 1,
    "length": 16,
    "device": "none",
    "threads": 1,
    "attn": (0.0, 1.0, 1.5),
    "ff_widths": (0, 2, 10),
    "ff": (0.0, 1.0, 3.0),
    "fixed": 0.25,
}
TABLE = LatencyTable(**FIELDS)


def test_costs_are_linear_between_the_widths() -> None:
    costs = TABLE.costs(Topology.full(SHAPE))
    np.testing.assert_array_equal(costs.attn, [0, 1, 1.5])
    expected = [0, 0.5, 1, 1.25, 1.5, 1.75, 2, 2.25, 2.5, 2.75, 3]
    np.testing.assert_allclose(costs.ff, expected, rtol=1e-15)
    assert costs.fixed == 0.25


def test_predict_adds_up_the_blocks() -> None:
    keep = {"attn": np.zeros((2, 2), bool), "ff": np.zeros((2, 10), bool)}
    assert TABLE.predict(Topology.from_masks(SHAPE, keep)) == 0.25
    keep["attn"][0, 1] = keep["ff"][0, 3] = keep["ff"][1, 5:] = True
    assert TABLE.predict(Topology.from_masks(SHAPE, keep)) == 0.25 + 1 + 0.5 + 1.75
    assert TABLE.predict(Topology.full(SHAPE)) == 0.25 + 2 * (1.5 + 3)


def test_predict_refuses_what_it_did_not_measure() -> None:
    other = SHAPE.model_copy(update={"n_layers": 3})
    with pytest.raises(TopologyError, match="3 layers"):
        TABLE.predict(Topology.full(other))
    emb = np.ones(8, bool)
    emb[:2] = False
    with pytest.raises(TopologyError, match=r"8 of which it kept; .* keeps 6"):
        TABLE.predict(Topology.from_masks(SHAPE, {"emb": emb}))


def test_saves_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "table.json"
    TABLE.save(path)
    assert LatencyTable.load(path) == TABLE
    assert list(path.parent.iterdir()) == [path]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(TopologyError, match="no such file"):
        LatencyTable.load(path)
    for text in ("", "{", "[]", TABLE.model_dump_json().replace("1.5", "0.5")):
        path.write_text(text)
        with pytest.raises(TopologyError, match=r"table\.json: not a table of latencies"):
            LatencyTable.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("attn", (0.0, 1.0)),
        ("attn", (0.0, 2.0, 1.0)),
        ("attn", (-1.0, 2.0, 3.0)),
        ("attn", (0.0, float("nan"), 1.0)),
        ("ff", (0.0, 1.0)),
        ("ff", (0.0, 1.0, float("inf"))),
        ("ff_widths", (0, 2, 9)),
        ("ff_widths", (0, 10, 10)),
        ("ff_widths", (1, 2, 10)),
        ("fixed", -1.0),
        ("surplus", 1),
    ],
)
def test_contradictory_tables_are_refused(field: str, value: object) -> None:
    with pytest.raises(TopologyError, match=field):
        LatencyTable(**{**FIELDS, field: value})


@given(arrays(float, st.integers(1, 20), elements=st.floats(-5, 5)))
def test_measurements_are_made_to_rise(times: np.ndarray) -> None:
    rising = _rising_from_zero(times)
    clipped = [0.0, *(max(0.0, time) for time in times)]
    expected = [(max(clipped[: i + 1]) + min(clipped[i:])) / 2 for i in range(len(clipped))]
    np.testing.assert_array_equal(rising, expected)
    assert rising[0] == 0
    assert (np.diff(rising) >= 0).all()
    already = np.sort(np.abs(times))
    np.testing.assert_array_equal(_rising_from_zero(already)[1:], already)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_measures_every_architecture(model_type: str) -> None:
    before = torch.get_rng_state()
    table = measure_latency(
        SHAPE, model_type=model_type, length=16, device="cpu", repeats=2, progress=False
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert (table.shape, table.model_type, table.length) == (SHAPE, model_type, 16)
    assert (table.device.split()[0], table.threads) == ("cpu", torch.get_num_threads())
    assert table.ff_widths[:2] == (0, 1)
    assert table.fixed > 0
    assert len(table.attn) == 3
    narrow = measure_latency(
        SHAPE,
        model_type=model_type,
        embedding=5,
        length=16,
        device="cpu",
        repeats=1,
        progress=False,
    )
    assert (table.embedding, narrow.embedding) == (8, 5)
    keep = Topology.from_masks(SHAPE, {"emb": np.arange(8) < 5})
    assert narrow.predict(keep) > 0


@pytest.mark.parametrize("compute_dtype", get_args(ComputeDtype))
def test_measures_in_the_precision_that_is_asked_for(
    compute_dtype: ComputeDtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each product, of the whole model and of every layer, as a model's forward pass has it."""
    computed = set()
    plain = nn.Linear.forward

    def forward(self: nn.Linear, values: torch.Tensor) -> torch.Tensor:
        found = plain(self, values)
        computed.add(str(found.dtype).removeprefix("torch."))
        return found

    monkeypatch.setattr(nn.Linear, "forward", forward)
    table = measure_latency(
        SHAPE, length=16, device="cpu", compute_dtype=compute_dtype, repeats=1, progress=False
    )
    assert computed == {compute_dtype}
    assert table.compute_dtype == compute_dtype


def test_layers_are_timed_with_all_that_their_model_gives_them() -> None:
    """MPNet's layers take a bias of each head, computed once, beside the hidden states."""
    ids = torch.randint(5, 1000, (2, 7))
    for model_type, bias in (("bert", None), ("mpnet", (2, 2, 7, 7))):
        model = latency._resized(SHAPE, model_type, {}, 7)
        (args, _), output = latency._around_layer(model, ids)
        assert (output[0] if isinstance(output, tuple) else output).shape == args[0].shape
        assert args[0].shape == (2, 7, SHAPE.d_embedding)
        shared = model.config.model_type == "mpnet" and args[2].shape
        assert (shared or None) == bias
        # without its layers the model computes the rest, and no layer
        Encoder(model).layers[0].forward = lambda *_, given=output, **__: given  # type: ignore[method-assign]
        with torch.inference_mode():
            latency._whole_model(model, ids)()


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ModelError, match="supported are bert"):
        measure_latency(SHAPE, model_type="gpt2", progress=False)
    with pytest.raises(SettingsError, match="'float16' is unknown; there are float32, bfloat16"):
        measure_latency(SHAPE, compute_dtype="float16", progress=False)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="do not add up"):
        measure_latency(SHAPE.model_copy(update={"head_size": 5}), progress=False)
    for name in ("batch_size", "length", "repeats", "embedding"):
        with pytest.raises(SettingsError, match=f"{name}=0"):
            measure_latency(SHAPE, progress=False, **{name: 0})  # type: ignore[arg-type]


@pytest.mark.slow
def test_speedup_is_real() -> None:
    """The cut by a measured table takes less time; the least of many turns is free of noise."""
    shape = ModelShape(n_layers=3, n_heads=4, head_size=32, d_intermediate=512, d_embedding=128)
    table = measure_latency(
        shape, batch_size=2, length=128, device="cpu", repeats=40, progress=False
    )
    rng = np.random.default_rng(0)
    scores = GateScores(
        topology=Topology.full(shape),
        model_type="bert",
        method="random",
        seed=0,
        data_digest="",
        attn=rng.random(shape.gates("attn")),
        ff=rng.random(shape.gates("ff")),
        additive=False,
    )
    topology = Topology.from_scores(scores, budget=Speedup(1.6, table=table))
    assert table.predict(topology) <= table.predict(Topology.full(shape)) / 1.6
    full: QuestionAnsweringModel = full_class("bert")(
        BertConfig(
            vocab_size=1000,
            hidden_size=shape.d_embedding,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            intermediate_size=shape.d_intermediate,
        )
    ).eval()
    full.tokenizer = None  # type: ignore[assignment]
    models = [full, prune(full, topology)]
    ids = torch.randint(5, 1000, (2, 128))
    least = [float("inf"), float("inf")]
    with torch.inference_mode():
        for _ in range(300):
            for place, model in enumerate(models):
                start = time.perf_counter()
                model(input_ids=ids)
                least[place] = min(least[place], time.perf_counter() - start)
    ratio = least[0] / least[1]
    assert ratio > 1.3, f"promised 1.6, measured {ratio:.2f}"
