"""`GateScores`: files, combination and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qaprune_lib.errors import GateError, TopologyError
from qaprune_lib.models import ModelShape, Topology
from qaprune_lib.models.shape import KINDS
from qaprune_lib.scorers import GateScores
from tests.models.hostile import directory, edit_json, fifo, link, nested, sparse
from tests.quick import at_most

SHAPE = ModelShape(n_layers=2, n_heads=3, head_size=2, d_intermediate=4, d_embedding=6)
VALUES = st.floats(allow_nan=False, max_value=1e300) | st.just(-np.inf)
JSON = st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=8)


@st.composite
def gate_scores(draw: st.DrawFn) -> GateScores:
    kinds = draw(st.sets(st.sampled_from(KINDS), min_size=1))
    values = {
        kind: draw(arrays.arrays(np.float64, SHAPE.gates(kind), elements=VALUES)) for kind in kinds
    }
    with_means = draw(st.booleans())
    return GateScores(
        topology=Topology.full(SHAPE),
        model_type="bert",
        method=draw(st.text(max_size=8)),
        seed=draw(st.integers(0, 2**32)),
        data_digest="ab" * 32,
        settings=draw(st.dictionaries(st.text(max_size=5), JSON | st.lists(JSON, max_size=2))),
        additive=draw(st.booleans()),
        open_mean={k: np.abs(np.nan_to_num(v)) for k, v in values.items()} if with_means else None,
        **values,
    )


def some(kind: str = "attn", **changes: Any) -> GateScores:
    values = {kind: np.arange(np.prod(SHAPE.gates(kind)), dtype=float).reshape(SHAPE.gates(kind))}
    fields = {
        "topology": Topology.full(SHAPE),
        "model_type": "bert",
        "method": "gain",
        "seed": 1,
        "data_digest": "d",
        **values,
    }
    return GateScores(**{**fields, **changes})


@settings(max_examples=at_most(60))
@given(scores=gate_scores())
def test_a_saved_file_gives_the_same_scores(scores: GateScores, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("scores") / "deep" / "scores.json"
    scores.save(path)
    found = GateScores.load(path)
    assert found.kinds() == scores.kinds()
    for kind in scores.kinds():
        assert np.array_equal(found.get(kind), scores.get(kind))
    for name in ("topology", "model_type", "method", "seed", "data_digest", "settings", "additive"):
        assert getattr(found, name) == getattr(scores, name)
    for kind, means in (scores.open_mean or {}).items():
        assert found.open_mean is not None
        assert np.array_equal(found.open_mean[kind], means)
    assert (found.open_mean is None) == (scores.open_mean is None)
    assert [p.name for p in path.parent.iterdir()] == ["scores.json"]  # nothing temporary stays


def test_combined_scores_hold_both_kinds() -> None:
    means = {"attn": np.full((2, 3), 0.5)}
    attn, ff = some("attn", open_mean=means), some("ff", method="fisher", seed=2)
    both = attn.combine(ff)
    assert both.kinds() == ["attn", "ff"]
    assert np.array_equal(both.get("ff"), ff.get("ff"))
    assert both.method == "gain+fisher"
    assert both.open_mean == means
    assert attn.kinds() == ["attn"]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (some("attn"), "attn"),
        (some("ff", additive=False, method="l0"), "no common scale"),
        (
            some(
                "ff",
                topology=Topology.full(SHAPE.model_copy(update={"n_layers": 1})),
                ff=np.zeros((1, 4)),
            ),
            "different models",
        ),
        (some("ff", model_type="mpnet"), "different models: bert of .*mpnet of"),
    ],
)
def test_scores_that_do_not_belong_together_are_not_combined(other: GateScores, words: str) -> None:
    with pytest.raises(GateError, match=words):
        some("attn").combine(other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"attn": np.zeros((3, 2))}, r"\[3, 2\], not \[2, 3\]"),
        ({"attn": np.full((2, 3), np.nan)}, "NaN"),
        ({"attn": np.full((2, 3), np.inf)}, "infinity"),
        ({"attn": None}, "no kind"),
    ],
)
def test_scores_that_make_no_sense_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(GateError, match=words):
        some("attn", **values)
    with pytest.raises(GateError, match="no scores of kind 'ff'"):
        some("attn").get("ff")


def without(name: str) -> Any:
    return lambda content: {k: v for k, v in content.items() if k != name}


def changed(name: str, value: Any) -> Any:
    return lambda content: {**content, name: value}


@pytest.mark.parametrize(
    "damage",
    [
        *(
            without(name)
            for name in ("topology", "model_type", "method", "scores", "open_mean", "additive")
        ),
        changed("topology", {"n_layers": 2}),
        changed("topology", 3),
        changed("scores", {}),
        changed("scores", []),
        changed("scores", {"attn": [[1, 2, 3], [4, 5]]}),
        changed("scores", {"attn": [[1, 2], [4, 5]]}),
        changed("scores", {"attn": [["a", 2, 3], [4, 5, 6]]}),
        changed("scores", {"heads": [[1, 2, 3], [4, 5, 6]]}),
        changed("open_mean", [1]),
        changed("open_mean", {"attn": [["0.5", 1, 1], [1, 1, 1]]}),
        changed("scores", {"attn": [["1", 2, 3], [4, 5, 6]]}),
        changed("scores", {"attn": [[True, 2, 3], [4, 5, 6]]}),
        changed("scores", {"attn": [[10**400, 2, 3], [4, 5, 6]]}),
        *(changed(name, {"a": None}) for name in ("method", "seed", "additive", "data_digest")),
        *(changed(name, "no") for name in ("seed", "settings", "additive")),
        changed("seed", True),
        lambda content: [content],
    ],
)
def test_a_damaged_file_is_named(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    some().save(path)
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    with pytest.raises(GateError, match=r"scores\.json"):
        GateScores.load(path)


def test_a_torn_or_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    some().save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\xff\xfe\x00"):
        path.write_bytes(content)
        with pytest.raises(GateError, match=r"scores\.json: not a file of gate scores"):
            GateScores.load(path)
    with pytest.raises(GateError, match="no such file"):
        GateScores.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "damage",
    [fifo("scores.json"), directory("scores.json"), nested("scores.json"), sparse("scores.json"),
     link("scores.json", "/dev/zero"), edit_json("scores.json", topology={"shape": 10**4000})],
)  # fmt: skip
def test_a_hostile_file_is_named(damage: Any, tmp_path: Path) -> None:
    some().save(tmp_path / "scores.json")
    damage(tmp_path)
    with pytest.raises(GateError, match=r"scores\.json: not a file of gate scores"):
        GateScores.load(tmp_path / "scores.json")
    with pytest.raises(TopologyError, match=r"scores\.json: not a topology"):
        Topology.load(tmp_path / "scores.json")
