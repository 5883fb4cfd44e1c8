"""Topologies: cutting scores, counting what stays, and the text they are kept in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from qaprune_lib.errors import QapruneError, TopologyError
from qaprune_lib.gates import Masks
from qaprune_lib.models import Encoder, ModelShape, Topology, shape_of
from qaprune_lib.models.saved import MAX_JSON_BYTES
from qaprune_lib.pruning import prune
from qaprune_lib.scorers.scores import GateScores
from tests.models.tiny import TESTED, random_topology, tiny_batch, tiny_model, topologies
from tests.quick import at_most

SHAPE = ModelShape(n_layers=3, n_heads=4, head_size=8, d_intermediate=22, d_embedding=32)
KINDS = ("attn", "ff", "emb")


def scores_of(seed: int, kinds: tuple[str, ...] = KINDS, levels: int | None = None) -> GateScores:
    """Random scores; with `levels` they are few and tie."""
    rng = np.random.default_rng(seed)

    def draw(size: tuple[int, ...]) -> np.ndarray:
        return rng.normal(size=size) if levels is None else rng.integers(levels, size=size) * 1.0

    arrays: dict[str, Any] = {kind: draw(SHAPE.gates(kind)) for kind in kinds}
    return GateScores(
        Topology.full(SHAPE), "bert", method="test", seed=seed, data_digest="", **arrays
    )


def rows_of(array: np.ndarray) -> list[list[Any]]:
    """Layers as lists; an array without layers counts as one."""
    return array.tolist() if array.ndim == 2 else [array.tolist()]


# --- JSON


@given(topology=topologies(SHAPE, KINDS))
def test_json_round_trip(topology: Topology) -> None:
    assert Topology.model_validate_json(topology.model_dump_json()) == topology
    again = Topology.from_masks(SHAPE, {kind: topology.mask(kind) for kind in KINDS})
    assert again == topology
    for kind in KINDS:
        rows = rows_of(topology.mask(kind))
        kept = [tuple(i for i, stays in enumerate(row) if stays) for row in rows]
        assert list(topology.kept(kind)) == kept
        assert list(topology.counts(kind)) == [len(row) for row in kept]
        masks = Masks.from_topology(topology, [kind])
        assert masks.kinds() == [kind]
        assert np.array_equal(masks.get(kind).numpy(), topology.mask(kind))


def test_save_and_load_small_readable_files(tmp_path: Path) -> None:
    topology = random_topology(SHAPE, 0)
    path = tmp_path / "deeper" / "kept.json"
    topology.save(path)
    topology.save(path)
    assert Topology.load(path) == topology
    assert json.loads(path.read_text())["attn"][0] == ""
    assert [file.name for file in path.parent.iterdir()] == ["kept.json"]
    big = ModelShape(n_layers=24, n_heads=16, head_size=64, d_intermediate=4096, d_embedding=1024)
    Topology.full(big).save(path)
    assert path.stat().st_size < 2000


def test_the_file_in_a_pruned_folder_is_a_topology(tmp_path: Path) -> None:
    model = tiny_model("bert")
    topology = random_topology(shape_of(model.config), 0)
    prune(model, topology).save_pretrained(tmp_path)
    assert Topology.load(tmp_path / "topology.json") == topology


def test_a_configuration_with_a_malformed_topology_is_an_error() -> None:
    config = tiny_model("bert").config
    for topology, message in {
        "all": "'all' is not a topology",
        (): "is not a topology",
    }.items():
        config.topology = topology
        with pytest.raises(TopologyError, match=message):
            Topology.of(config)
    whole = Topology.full(SHAPE).model_dump(mode="json")
    config.topology = {**whole, "attn": ["0-4", "", ""]}
    with pytest.raises(TopologyError, match="index 4"):
        Topology.of(config)
    config.topology, config.intermediate_size = whole, 20
    with pytest.raises(TopologyError, match=r"made for a model of .* 22 activations.* has .* 20"):
        Topology.of(config)


@given(indices=st.sets(st.integers(0, 40)).map(sorted))
def test_text_has_as_few_ranges_as_there_are_gaps(indices: list[int]) -> None:
    shape = SHAPE.model_copy(update={"n_layers": 1, "d_intermediate": 41})
    (text,) = Topology.from_masks(shape, {"ff": np.isin(np.arange(41), indices)[None]}).ff
    starts = [index for index in indices if index - 1 not in indices]
    assert len(text.split()) == len(starts)


@given(text=st.text(alphabet="0123- ,a²", max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    whole = Topology.full(SHAPE)
    try:
        topology = Topology(shape=SHAPE, attn=whole.attn, ff=(text, "", ""), emb=whole.emb)
    except TopologyError:
        return
    indices = topology.kept("ff")[0]
    assert list(indices) == sorted(set(indices))
    assert all(0 <= index < 22 for index in indices)
    again = Topology.from_masks(SHAPE, {kind: topology.mask(kind) for kind in KINDS})
    assert again.kept("ff")[0] == indices


GOOD = json.loads(Topology.full(SHAPE).model_dump_json())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attn": ["0-3", "0-3"]}, "attn lists 2 layers, the shape has 3"),
        ({"attn": ["0-4", "", ""]}, "index 4 is outside of a size of 4"),
        ({"ff": ["0-21", "2 1", ""]}, "not in ascending order"),
        ({"ff": ["0-21", "3-1", ""]}, "not in ascending order"),
        ({"ff": ["0-21", "1 1", ""]}, "not in ascending order"),
        ({"ff": ["0-5 5-8", "", ""]}, "not in ascending order"),
        ({"ff": ["0-", "", ""]}, "'0-' is not an index"),
        ({"ff": ["-3", "", ""]}, "'-3' is not an index"),
        ({"ff": ["1,2", "", ""]}, "'1,2' is not an index"),
        ({"ff": ["²", "", ""]}, "'²' is not an index"),
        ({"ff": ["1-2-3", "", ""]}, "'1-2-3' is not an index"),
        ({"ff": ["0-99999999999999", "", ""]}, "outside of a size of 22"),
        ({"ff": [[0, 1], "", ""]}, "ff.0"),
        ({"ff": "0-21"}, "ff"),
        ({"emb": ""}, "no embedding dimension is left"),
        ({"emb": "32"}, "index 32 is outside"),
        ({"emb": None}, "emb"),
        ({"heads": []}, "heads"),
        ({"shape": {**GOOD["shape"], "n_heads": 0}}, "shape.n_heads"),
        ({"shape": {**GOOD["shape"], "n_layers": 2}}, "attn lists 3 layers, the shape has 2"),
        ({"shape": None}, "shape"),
    ],
)
def test_malformed_topologies_say_what_is_wrong(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TopologyError, match=message):
        Topology(**{**GOOD, **change})
    path = tmp_path / "topology.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(TopologyError, match=r"topology\.json: not a topology") as caught:
        Topology.load(path)
    assert message in str(caught.value)


def test_files_that_are_no_topology_are_named(tmp_path: Path) -> None:
    for name, content in {
        "empty": b"",
        "cut": b'{"shape": {',
        "list": b"[]",
        "bin": b"\xff\xfe",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(TopologyError, match=f"{name}: not a topology"):
            Topology.load(path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", MAX_JSON_BYTES + 1)
    for name, message in {
        "pipe": "not a regular file",
        "device": "not a regular file",
        "": "not a regular file",
        "sparse": f"more than the {MAX_JSON_BYTES} that are read",
    }.items():
        with pytest.raises(TopologyError, match=message):
            Topology.load(tmp_path / name)
    with pytest.raises(TopologyError, match="nowhere: no such file"):
        Topology.load(tmp_path / "nowhere")


# --- cutting scores


@given(seed=st.integers(0, 99), threshold=st.floats(-2, 2), levels=st.sampled_from([None, 3]))
def test_threshold_keeps_what_is_above_it(seed: int, threshold: float, levels: int | None) -> None:
    scores = scores_of(seed, ("attn", "ff"), levels)
    topology = Topology.from_scores(scores, threshold=threshold)
    for kind in ("attn", "ff"):
        for row, kept in zip(rows_of(scores.get(kind)), topology.kept(kind), strict=True):
            assert kept == tuple(i for i, score in enumerate(row) if score > threshold)
    assert topology.counts("emb") == (SHAPE.d_embedding,)


def brute_force_cut(scores: np.ndarray, n_removed: int) -> list[list[int]]:
    """Repeatedly drop the lowest score, the first of equal ones, over all layers together."""
    left = [(layer, i) for layer, row in enumerate(rows_of(scores)) for i in range(len(row))]
    values = rows_of(scores)
    for _ in range(n_removed):
        left.remove(min(left, key=lambda place: values[place[0]][place[1]]))
    return [[i for layer, i in left if layer == row] for row in range(len(values))]


@given(seed=st.integers(0, 99), fraction=st.floats(0, 1), levels=st.sampled_from([None, 1, 3]))
def test_fraction_removes_the_lowest_of_each_kind(
    seed: int, fraction: float, levels: int | None
) -> None:
    scores = scores_of(seed, ("attn", "ff"), levels)
    topology = Topology.from_scores(scores, fraction=fraction)
    for kind in ("attn", "ff"):
        size = scores.get(kind).size
        n_removed = math.floor(fraction * size + 0.5)
        expected = brute_force_cut(scores.get(kind), n_removed)
        assert [list(kept) for kept in topology.kept(kind)] == expected
        assert topology.removed(kind) == pytest.approx(100 * n_removed / size)


def test_each_kind_can_have_a_cut_of_its_own() -> None:
    scores = scores_of(0)
    topology = Topology.from_scores(scores, fraction={"attn": 0.5, "ff": 0.0, "emb": 0.25})
    assert [topology.removed(kind) for kind in KINDS] == [50, 0, 25]
    topology = Topology.from_scores(scores, threshold={"attn": 9, "ff": -9, "emb": -9})
    assert [topology.removed(kind) for kind in KINDS] == [100, 0, 0]


def brute_force_rounding(row: list[float], kept: tuple[int, ...], step: int) -> set[int]:
    """Drop the lowest kept, or add the highest removed, one at a time, to the nearest multiple."""
    present = [i for i, score in enumerate(row) if score > -math.inf]
    targets = [*range(0, len(row) + step, step)]
    # the upper one of two that are equally near; a full layer may stay full
    target = min(targets, key=lambda count: (abs(count - len(kept)), -count))
    chosen = set(kept)
    while len(chosen) > target:
        chosen.remove(min(chosen, key=lambda i: (row[i], -i)))
    while len(chosen) < min(target, len(present)):
        chosen.add(max(set(present) - chosen, key=lambda i: (row[i], -i)))
    return chosen


@given(
    seed=st.integers(0, 99),
    threshold=st.floats(-1, 1),
    step=st.integers(1, 9),
    levels=st.sampled_from([None, 3]),
    lost=st.integers(0, 5),
)
def test_rounding_moves_the_slices_nearest_to_the_cut(
    seed: int, threshold: float, step: int, levels: int | None, lost: int
) -> None:
    scores = scores_of(seed, ("attn", "ff"), levels)
    scores.get("ff")[1, :lost] = -math.inf  # as an already pruned model scores
    cut = Topology.from_scores(scores, threshold=threshold)
    rounded = Topology.from_scores(scores, threshold=threshold, multiple_of={"attn": 1, "ff": step})
    assert rounded == cut.rounded(scores, {"attn": 1, "ff": step})
    assert rounded.attn == cut.attn
    for row, before, after in zip(
        scores.get("ff").tolist(), cut.kept("ff"), rounded.kept("ff"), strict=True
    ):
        assert set(after) == brute_force_rounding(row, before, step)


@settings(max_examples=at_most(20))
@given(seed=st.integers(0, 99), step=st.integers(1, 8))
def test_rounding_keeps_kinds_that_were_not_scored(seed: int, step: int) -> None:
    before = random_topology(SHAPE, seed)
    after = before.rounded(scores_of(seed, ("ff",)), step)
    assert (after.attn, after.emb) == (before.attn, before.emb)
    # whatever made the topology, rounding only adds or only drops
    for old, new in zip(before.kept("ff"), after.kept("ff"), strict=True):
        assert set(old) <= set(new) or set(new) <= set(old)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({}, "exactly one"),
        ({"threshold": 0.0, "fraction": 0.5}, "exactly one"),
        ({"threshold": math.nan}, "not a number"),
        ({"fraction": 1.5}, "between 0 and 1"),
        ({"fraction": -0.1}, "between 0 and 1"),
        ({"fraction": math.nan}, "between 0 and 1"),
        ({"fraction": {"attn": 0.5}}, "exactly the scored kinds"),
        ({"fraction": {"attn": 0.5, "ff": 0.5, "heads": 0.5}}, "exactly the scored kinds"),
        ({"fraction": {"attn": 0, "ff": 0, "emb": 1}}, "no embedding dimension"),
        ({"fraction": 0.5, "multiple_of": 0}, "at least 1"),
        ({"fraction": 0.9, "multiple_of": {"attn": 1, "ff": 1, "emb": 8}}, "no embedding dim"),
    ],
)
def test_cuts_without_meaning_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(QapruneError, match=message):
        Topology.from_scores(scores_of(0), **choice)


def test_masks_of_another_shape_or_kind_are_refused() -> None:
    with pytest.raises(TopologyError, match=r"mask 'attn' of shape \[3, 5\]"):
        Topology.from_masks(SHAPE, {"attn": np.ones((3, 5), bool)})
    with pytest.raises(TopologyError, match="mask 'heads'"):
        Topology.from_masks(SHAPE, {"heads": np.ones((3, 4), bool)})
    with pytest.raises(TopologyError, match="no embedding dimension"):
        Topology.from_masks(SHAPE, {"emb": np.zeros(32, bool)})


# --- combining and counting


@given(data=st.data())
def test_combining_keeps_what_both_keep(data: st.DataObject) -> None:
    heads = data.draw(topologies(SHAPE, ("attn",)))
    widths = data.draw(topologies(SHAPE, ("ff",)))
    both = heads.combine(widths)
    assert (both.attn, both.ff) == (heads.attn, widths.ff)
    assert (
        both == widths.combine(heads) == both.combine(heads) == both.combine(Topology.full(SHAPE))
    )
    for kind in KINDS:
        assert both.removed(kind) == max(heads.removed(kind), widths.removed(kind))


def test_topologies_of_different_shapes_do_not_combine() -> None:
    other = Topology.full(SHAPE.model_copy(update={"n_heads": 5}))
    with pytest.raises(TopologyError, match="5 heads"):
        Topology.full(SHAPE).combine(other)


@pytest.mark.parametrize("architecture", TESTED)
@settings(max_examples=at_most(6))
@given(data=st.data())
def test_parameters_and_macs_equal_a_count_on_the_pruned_model(
    architecture: str, data: st.DataObject
) -> None:
    model = tiny_model(architecture, attention="eager")
    shape = shape_of(model.config)
    topology = data.draw(topologies(shape, KINDS))
    small = prune(model, topology)
    layers = small.base_model.get_submodule(Encoder(small).architecture.layers)
    n_weights = sum(weights.numel() for weights in layers.parameters())
    lacking = biases(topology) if architecture == "modernbert" else 0
    assert n_weights + lacking == topology.encoder_parameters()

    one = {name: column[:1, :17] for name, column in tiny_batch(small).items()}
    with FlopCounterMode(display=False) as counter:
        small(**one)
    counts = counter.get_flop_counts()
    layers_of = Encoder(small).architecture.layers.rpartition(".")[0]
    encoder = f"{type(small).__name__}.{small.base_model_prefix}.{layers_of}".rstrip(".")
    assert type(small).__name__ in counts
    beside = relative_macs(topology, 17) if architecture == "deberta-v2" else 0
    assert sum(counts.get(encoder, {}).values()) == 2 * (topology.macs(17) + beside)


def biases(topology: Topology) -> int:
    """What BERT has and ModernBERT lacks: biases, and the norm of the first attention."""
    (d,), shape = topology.counts("emb"), topology.shape
    of_slices = 3 * shape.head_size * sum(topology.counts("attn")) + 2 * sum(topology.counts("ff"))
    return of_slices + 4 * d * shape.n_layers + d


def relative_macs(topology: Topology, length: int) -> int:
    """What `Topology.macs` leaves out: 16 rows go through query and key, and meet both."""
    (d,), size = topology.counts("emb"), topology.shape.head_size
    return sum(topology.counts("attn")) * 2 * 16 * size * (d + length)


def test_the_full_topology_of_bert_base_has_its_well_known_size() -> None:
    base = ModelShape(n_layers=12, n_heads=12, head_size=64, d_intermediate=3072, d_embedding=768)
    assert Topology.full(base).encoder_parameters() == 85_054_464


@pytest.mark.parametrize("read", [Topology.encoder_parameters, lambda topology: topology.macs(50)])
def test_smaller_topologies_cost_less(read: Callable[[Topology], int]) -> None:
    costs = [
        read(Topology.from_scores(scores_of(0), fraction=fraction))
        for fraction in (0, 0.3, 0.6, 0.9)
    ]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
