"""The audit of the paper's tables, recomputed by other means."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    RobertaConfig,
    RobertaModel,
)

from qaprune_lib.errors import RecordError
from study.expressions import evaluate
from study.paper import released
from study.paper.audit import Check, audit, nearest_to_failing
from study.paper.fits import fit_decoding_time
from study.paper.published import TABLE_2, TABLE_5

# Table 2, typed a second time: seconds, F1, % heads, % activations, MiB
SQUAD = np.array(
    [
        [2712, 84.6, 0, 0, 1279],
        [2288, 84.2, 44.3, 0, 1112],
        [2103, 83.2, 0, 48.1, 908],
        [1718, 82.6, 44.0, 48.1, 740],
        [1667, 83.7, 44.0, 48.1, 740],
        [1391, 83.2, 53.1, 64.9, 576],
        [1213, 82.4, 57.6, 73.7, 492],
        [1128, 81.5, 60.1, 78.4, 441],
    ]
)
ITEMS = {item.name: item for item in audit()}


def computed(name: str) -> list[float]:
    return [check.computed for check in ITEMS[name].checks]


def deviations(name: str) -> list[float]:
    return [check.deviation for check in ITEMS[name].checks]


def published(name: str) -> list[float]:
    return [check.published for check in ITEMS[name].checks]


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
ROBERTA: dict[str, Any] = {
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
}


@pytest.mark.parametrize(
    ("model", "build", "span_head"),
    [
        (released.BERT_LARGE, lambda: BertModel(BertConfig(**LARGE)), 1024),
        (released.BERT_BASE, lambda: BertModel(BertConfig()), 768),
        (released.TINYBERT, lambda: BertModel(BertConfig(num_hidden_layers=6)), 768),
        (released.ROBERTA_LARGE, lambda: RobertaModel(RobertaConfig(**ROBERTA, **LARGE)), 1024),
        (released.ROBERTA_BASE, lambda: RobertaModel(RobertaConfig(**ROBERTA)), 768),
        (released.DISTILBERT, lambda: DistilBertForQuestionAnswering(DistilBertConfig()), None),
    ],
)
def test_parameters_are_those_of_transformers(
    model: released.Released, build: Callable[[], nn.Module], span_head: int | None
) -> None:
    with torch.device("meta"):
        modules = [build(), *([nn.Linear(span_head, 2)] if span_head else [])]
    assert model.parameters == count(*modules)
    if span_head:
        assert model.encoder_parameters == count(modules[0].get_submodule("encoder"))
    assert model.mebibytes == pytest.approx(4 * count(*modules) / 1024**2)


@pytest.mark.parametrize(("heads", "activations"), [(5, 1500), (0, 4095), (15, 0)])
def test_pruned_parameters_are_those_of_smaller_linears(heads: int, activations: int) -> None:
    """A layer of BERT-large with what is left, built by hand."""
    left, width = 64 * (16 - heads), 4096 - activations
    with torch.device("meta"):
        layer = [nn.Linear(1024, left) for _ in range(3)]
        layer += [nn.Linear(left, 1024), nn.Linear(1024, width), nn.Linear(width, 1024)]
        norms = [nn.LayerNorm(1024), nn.LayerNorm(1024)]
    model = released.BERT_LARGE.pruned(heads / 16, activations / 4096)
    assert model.encoder_parameters == pytest.approx(24 * count(*layer, *norms), rel=1e-12)


def test_macs_are_those_of_the_matrix_products() -> None:
    tokens = 7
    layer = 4 * (tokens * 768 * 768) + 2 * tokens * 768 * 3072  # projections and feed-forward
    layer += 12 * (tokens * tokens * 64) * 2  # scores and context, head by head
    assert released.BERT_BASE.macs(tokens) == 12 * layer
    assert released.BERT_BASE.pruned(1, 1).macs(tokens) == 0


def test_sizes() -> None:
    item = ITEMS["sizes"]
    without = []
    for check, (*_, a, f, mebibytes) in zip(item.checks, SQUAD, strict=True):
        # 64 rows of q, k, v, their bias, 64 columns of the output; one row, bias, column
        head, activation = 64 * (4 * 1024 + 3), 2 * 1024 + 1
        gone = 24 * (16 * a * head + 4096 * f * activation) / 100
        with_pooler = (335_143_938 - gone) * 4 / 2**20
        assert check.computed == pytest.approx(with_pooler)
        assert check.deviation == pytest.approx(100 * (with_pooler / mebibytes - 1))
        without.append(100 * abs((with_pooler - (1024 + 1) * 1024 * 4 / 2**20) / mebibytes - 1))
    assert item.holds
    assert nearest_to_failing(item).startswith("ff(×4)")
    assert max(without) > 1  # the pooler must be counted


def test_sizes_disagree_with_percentages_beyond_rounding() -> None:
    failing = {check.label for check in ITEMS["sizes_to_rounding"].checks if not check.holds}
    expected = set()
    for row, (*_, a, f, mebibytes) in zip(TABLE_2.rows, SQUAD, strict=True):
        share = [np.array([x - 0.05, x + 0.05]) / 100 if x else np.zeros(2) for x in (a, f)]
        low, high = share[0] * 384.28125 + share[1] * 768.375
        if high < (1279 - 0.5) - (mebibytes + 0.5) or low > (1279 + 0.5) - (mebibytes - 0.5):
            expected.add(row.model)
    assert failing == expected != set()


def test_heads_are_counted_by_search() -> None:
    for check in ITEMS["heads_attainable"].checks:
        attainable = any(
            abs(Fraction(100 * heads, 384) - Fraction(str(check.published))) <= Fraction("0.05")
            for heads in range(385)
        )
        assert check.holds == attainable
    assert not ITEMS["heads_attainable"].holds


def test_decoding_time() -> None:
    design = np.column_stack([np.ones(8), 1 - SQUAD[:, 2] / 100, 1 - SQUAD[:, 3] / 100])
    exact, *_ = np.linalg.lstsq(design[:3], SQUAD[:3, 0])
    fit = fit_decoding_time()
    assert [fit.constant, fit.attn, fit.ff] == pytest.approx(exact)
    assert [round(value) for value in exact] == [489, 957, 1266]
    errors = 100 * (design @ exact / SQUAD[:, 0] - 1)
    assert deviations("decoding_time") == pytest.approx(errors[4:])
    assert max(abs(errors[4:])) < 1.5 < abs(errors[3]) == pytest.approx(abs(deviations("noise")[1]))
    assert deviations("noise")[0] == pytest.approx(100 * 51 / 1667)
    inverse = np.linalg.pinv(design)
    constant = inverse @ SQUAD[:, 0]
    residual = SQUAD[:, 0] - design @ constant
    error = np.sqrt(residual @ residual / 5 * (inverse @ inverse.T)[0, 0])
    assert computed("time_constant")[1:] == pytest.approx([constant[0], constant[0] - 2 * error])


def test_share_recovered() -> None:
    # (retrained - not) / (84.6 - not) in tenths of a point
    exact = [Fraction(11, 20), Fraction(23, 37), Fraction(56, 78), Fraction(137, 168)]
    assert computed("recovered") == pytest.approx([float(share) for share in exact])
    assert [round(float(share), 2) for share in exact] == [0.55, 0.62, 0.72, 0.82]
    assert ITEMS["recovered"].holds


def test_distillation_gain_is_table_5_less_table_4() -> None:
    short = np.array([58.4, 58.4, 55.4]) - [57.7, 55.5, 52.2]
    long = np.array([69.8, 69.3, 67.6]) - [68.3, 67.8, 65.2]
    assert deviations("distillation_gain") == pytest.approx([*short, *long])
    assert deviations("stated_gain") == pytest.approx([0, max(short) - 2.9], abs=1e-9)


def test_the_abstract() -> None:
    assert computed("squad_speed") == pytest.approx([2712 / 1391])
    assert computed("squad_loss") == pytest.approx([1.4])
    assert computed("nq_speed") == pytest.approx([2789 / 1523])
    assert computed("nq_loss") == pytest.approx([0.4])
    assert computed("nq_loss_on_long_answers") == pytest.approx([1.0])
    assert [
        ITEMS[name].holds
        for name in ("squad_speed", "squad_loss", "nq_speed", "nq_loss", "nq_loss_on_long_answers")
    ] == [True, True, True, True, False]


def test_speed_falls_short_of_the_multiplications() -> None:
    ratio = []
    for _, _, a, f, _ in SQUAD[4:]:
        heads, activations = 4 * 1024**2 + 2 * 384 * 1024, 2 * 1024 * 4096
        kept = (1 - a / 100) * heads + (1 - f / 100) * activations
        ratio.append((heads + activations) / kept)
    assert published("speed_not_proportional") == pytest.approx(ratio)
    assert ITEMS["speed_not_proportional"].holds


def test_tables_that_disagree() -> None:
    assert deviations("bert_large_on_nq") == pytest.approx([54.7 - 56.14])
    assert computed("roberta_lead") == pytest.approx([4.1, 2.66])
    assert deviations("one_topology") == pytest.approx([-0.3, 0])
    assert computed("parameters_of_bert")[:4] == pytest.approx(
        [335.143938, 109.483778, 66.364418, 66.956546]
    )
    assert [check.label for check in ITEMS["same_penalty"].checks if not check.holds] == [
        "pruned x3, heads"
    ]
    assert deviations("pruning_costs_accuracy") == pytest.approx([1.1, 0.7])


def test_gaps_of_small_models() -> None:
    assert computed("gaps") == pytest.approx([83.52 - 69.5, 5.68, 83.52 - 73.4, 11.5])
    assert published("gaps") == pytest.approx([90.9 - 86.2] * 2 + [90.9 - 87.5] * 2)


def test_correlation_with_time_is_spearmans() -> None:
    """By the formula 1 − 6Σd²/(n(n²−1)): only the two fastest models can swap places."""
    seconds = [row.seconds or 0.0 for row in TABLE_5.rows]
    assert sorted(range(5), key=seconds.__getitem__) == [3, 4, 2, 1, 0]
    assert computed("parameters_and_time") == pytest.approx([1 - 6 * 2 / (5 * 24), 1])


def test_pruning_objectives_at_equal_parameters() -> None:
    def removed(attn: float, ff: float) -> float:
        return attn * 100_737_024 + ff * 201_424_896

    twice, thrice, sample = removed(0.53, 0.55), removed(0.68, 0.75), removed(0.6, 0.719)
    way = (sample - twice) / (thrice - twice)
    expected = [58.4 + way * (55.4 - 58.4), 69.3 + way * (67.6 - 69.3)]
    assert published("objective_of_pruning") == pytest.approx(expected)


def test_every_item_has_its_own_words_and_a_known_source() -> None:
    assert len({item.statement for item in ITEMS.values()}) == len(ITEMS) == 37
    assert sum(len(item.checks) for item in ITEMS.values()) == 113
    for item in ITEMS.values():
        assert item.checks
        assert item.holds == all(check.holds for check in item.checks)
        for source in item.sources:
            assert re.fullmatch(r"Abstract|Section [1-5](\.\d)*|Tables? [1-5]( to 4)?", source)


number = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))


@given(published=number, computed=number, tolerance=st.floats(0, 100))
def test_relations(published: float, computed: float, tolerance: float) -> None:
    def holds(relation: Literal["==", "<", ">="], slack: float) -> bool:
        return Check(
            label="",
            computed=computed,
            relation=relation,
            published=published,
            unit="",
            tolerance=slack,
        ).holds

    assert holds("<", 0) == (computed < published)
    assert holds(">=", 0) == (computed >= published)
    assert holds("==", 0) == (computed == published)
    within = (
        published - tolerance - 1e-8 <= computed <= published + tolerance + 1e-8,
        published - tolerance + 1e-8 <= computed <= published + tolerance - 1e-8,
    )
    assert within[1] <= holds("==", tolerance) <= within[0]


ITEM = """
[names]
[item.x]
statement = "x"
whose = "audit"
sources = ["Table 1"]
unit = "km"
"""


def test_an_item_fails_by_its_worst_check(tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    lines = [
        "each.row = ['table2.ff', 'table2.both']",
        "[item.x.checks]",
        '"far but fine, {row.model}" = "100 >= row.seconds / 1e6"',
        '"just off, {row.model}" = { check = "10.3 == 10", tolerance = 2, relative = true }',
    ]
    file.write_text(ITEM + "\n".join(lines), encoding="utf-8")
    [item] = audit(file)
    labels = ["far but fine, ff_1", "just off, ff_1"]
    assert [check.label for check in item.checks[:2]] == labels
    assert [check.published for check in item.checks[::2]] == pytest.approx([2103e-6, 1718e-6])
    assert [check.holds for check in item.checks] == [True, False, True, False]
    assert not item.holds
    assert nearest_to_failing(item) == "just off, ff_1: expected 10, found 10.3 km (+3%)"
    with pytest.raises(ValidationError):
        item.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("checks.a = 'table2.x9.f1 == 1'", "'table2.x9.f1' has no value"),
        ("checks.a = 'table2.attn.f1_no_retrain == 1'", "computed"),
        ("checks.a = 'text.base_f1 == 1'", "computed"),
        ("checks.a = 'f1 == 1'", "'f1' has no value"),
        ("checks.a = '1 / 0 == 1'", "division by zero"),
        ("checks.a = 'table2.x1.f1'", "'a' is no comparison"),
        ("checks.a = '1 =='", "'a' is no comparison"),
        ("checks.a = '1 + == 1'", r"'1 \+' has no value"),
        ("checks.'{row.model}' = '1 == 1'", "'row.model' has no value"),
        ("", "checks"),
        ("checks.a = { check = '1 == 1', tolerence = 1 }", "tolerence"),
        ("checks.a = '1 == 1'\nsource = 'Table 1'", "source"),
        ("checks.a = '1 == 1'\neach.a = ['1', '2']\neach.b = ['1']", "shorter"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, lines: str, message: str) -> None:
    file = tmp_path / "audit.toml"
    file.write_text(ITEM + lines, encoding="utf-8")
    with pytest.raises(RecordError, match=rf"audit\.toml, item x: (.|\n)*{message}"):
        audit(file)


whole = st.integers(0, 99).map(str)
expressions = st.recursive(
    whole | st.floats(0, 1e3).map(repr) | st.sampled_from(["row.f1", "row.seconds"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(
            lambda parts: f"{parts[0]}({parts[1]}, {parts[2]})"
        ),
        inner.map(lambda text: f"abs({text}) / 7"),
    ),
)


@given(expressions)
def test_expressions_have_their_value_in_python(expression: str) -> None:
    names = {"row": TABLE_2.rows[1], "min": min, "max": max, "abs": abs}
    assert evaluate(expression, names) == eval(expression, names)


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "row.__class__", "row.no_such", "open(1)", "1 / 0", "1 +"]
)
def test_what_is_not_there_is_not_run(expression: str) -> None:
    with pytest.raises(RecordError, match="has no value"):
        evaluate(expression, {"row": TABLE_2.rows[0]})
