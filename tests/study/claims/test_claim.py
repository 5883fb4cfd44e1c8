"""claims.toml and the evaluator that reads it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from qaprune_lib.errors import RecordError
from study.claims import CLAIMS, Claim, gather_evidence
from study.expressions import evaluate, sentence
from tests.study.claims.planted import Planted

GIVEN = {
    "number": 1,
    "where": "5",
    "words": "",
    "judged_by": "",
    "why": "{{ found[0] }} {{ name }}.",
}
PART = {"label": "of {{ name }}", "value": "exact(n)", "above": 1}


def judged(n: float, **changes: object) -> tuple[list[str], str, str]:
    """Verdicts, why and what is missing of a claim made here."""
    made = Planted()
    made.tuned()
    [evidence] = gather_evidence(made.records).values()
    given = {**GIVEN, "let": {"n": str(n), "name": "'<b>{{ x }}'"}, "parts": [PART]}
    judgement = Claim.model_validate({**given, **changes}).judged(evidence)
    return [f.verdict for f in judgement.findings], judgement.why, judgement.missing


def test_a_part_against_its_line_and_values_that_are_no_templates() -> None:
    assert judged(2) == (["holds"], "2.0 (2.0 to 2.0) <b>{{ x }}.", "")
    assert judged(1)[0] == ["does not hold"]
    within = {"label": "", "value": "exact(n)", "within": [0, 3]}
    assert judged(2, parts=[within])[0] == ["holds"]


def test_each_if_and_optional() -> None:
    loop = {**PART, "each": "i, line in [[0, 1], [1, 3]]", "above": "line"}
    why = {"why": "{{ found[0]|length }}"}
    assert judged(2, parts=[loop], **why) == (["holds", "does not hold"], "2", "")
    assert judged(2, parts=[{**loop, "if": "i == 0"}], **why)[0] == ["holds"]
    lacking = {**PART, "bound": "two_models()", "optional": True}
    verdicts, _, missing = judged(2, parts=[PART, lacking])
    assert verdicts == ["holds"]
    assert missing.startswith("compares two models")


def test_of_any_the_nearest_is_told_and_all_are_tested_more_strictly() -> None:
    any_of = {"any_of": "line in [5, 3, 4]", "parts": [{**PART, "above": "line"}]}
    assert judged(2, **any_of, why="{{ line }} of {{ tests }}")[1] == "3 of 3"


def test_what_is_required_and_what_is_unknown() -> None:
    with pytest.raises(RecordError, match="needs more than 2"):
        judged(2, requires=[["n > 2", "more than {{ n }}"]])
    with pytest.raises(RecordError, match="'no_such' is undefined"):
        judged(2, parts=[{**PART, "value": "no_such + 1"}])
    with pytest.raises(ValidationError, match="above_it"):
        Claim.model_validate({**GIVEN, "parts": [{**PART, "above_it": 1}]})


def test_a_claim_that_repeats_another_has_its_own_values() -> None:
    seven, nine = CLAIMS[7], CLAIMS[9]
    assert nine.parts == seven.parts
    assert (seven.let["kind"], nine.let["kind"]) == ("'attn'", "'ff'")
    assert (seven.words, seven.judged_by) != (nine.words, nine.judged_by)


@pytest.mark.parametrize("expression", ["().__class__", "open('x')", "a.b.c", "1 +", "[1][3] + 1"])
def test_an_expression_without_a_value_is_named(expression: str) -> None:
    with pytest.raises(RecordError, match="has no value"):
        evaluate(expression, {"a": {}})


def test_a_sentence_stands_on_one_line() -> None:
    assert sentence("a\n  {{ b }} {{ '%.1f' % 2 }}", {"b": "c  d"}) == "a c d 2.0"
