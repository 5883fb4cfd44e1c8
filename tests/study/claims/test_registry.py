"""All claims: that they are the paper's, and on which profile they are judged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from study.claims import (
    CLAIMS,
    Claim,
    Judgement,
    gather_evidence,
    judge,
    judge_each_profile,
)
from study.records.record import Record
from tests.study.claims.planted import LOUD, QUIET, Planted, both_kinds
from tests.study.synthetic import sweep

REPOSITORY = Path(__file__).resolve().parents[3]


def best(records: list[Record]) -> list[Judgement]:
    return [judgements[0] for judgements in judge_each_profile(records).values()]


@pytest.fixture(scope="module")
def paper() -> str:
    """The paper's text, which is not part of the project."""
    shared = Path(os.environ.get("QAPRUNE_SHARED", REPOSITORY / ".." / "shared"))
    file = shared / "paper" / "paper.txt"
    if not file.is_file():
        pytest.skip(f"no text of the paper at {file} (QAPRUNE_SHARED names the folder above)")
    return file.read_text(encoding="utf-8")


def letters(text: str) -> str:
    """Letters and digits alone: markup, spaces and quotation marks differ."""
    return re.sub(r"\\(?:pm|times)|[\W_]", "", text).lower()


def running_text(paper: str) -> str:
    """The paper without its tables, which interrupt sentences."""
    lines = [line for line in paper.splitlines() if "\t" not in line]
    kept = [line for line in lines if not re.match(r"(Figure \d|Table [2-5]):", line)]
    return letters("\n".join(kept))


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: str(claim.number))
def test_words_are_the_papers(claim: Claim, paper: str) -> None:
    text, place = running_text(paper), 0
    for part in claim.words.split("…"):
        found = text.find(letters(part), place)
        assert found >= 0, part
        place = found + 1


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: str(claim.number))
def test_words_stand_where_it_says(claim: Claim, paper: str) -> None:
    heading = r"^#+ [*]*([1-5](?:\.\d)*)[*. ]|^#+ [*]*(Abstract)"
    starts = list(re.finditer(heading, paper, re.MULTILINE))
    bounds = [match.start() for match in starts] + [len(paper)]
    sections = {
        match[1] or match[2]: running_text(paper[start:end])
        for match, start, end in zip(starts, bounds[:-1], bounds[1:], strict=True)
    }
    places = re.findall(r"Abstract|\d(?:\.\d)*", claim.place)
    if claim.place.startswith("Table"):
        places = ["1"]  # section 1 holds Table 1
    first = letters(claim.words.split("…")[0])
    assert any(first in sections[place] for place in places), places


def test_there_are_thirty_two() -> None:
    assert sorted(CLAIMS) == list(range(1, 33))
    for number, claim in CLAIMS.items():
        assert claim.number == number
        assert len(claim.words) < 260
        assert len(claim.judged_by) > 40
        assert "\n" not in claim.judged_by


def test_without_records_nothing_is_tested() -> None:
    judgements = best([])
    assert [j.number for j in judgements] == list(range(1, 33))
    assert {j.verdict for j in judgements} == {"not tested"}
    assert all(re.fullmatch(r"It needs .+\.", j.why) for j in judgements)
    assert {j.profile for j in judgements} == {None}


def test_any_part_of_a_sweep_can_be_judged() -> None:
    """While a profile is being run, records are there up to some point, in any order."""
    records = sweep().records
    for some in (records[:1], records[:4], records[:20], records[-9:], records[::3]):
        judgements = best(some)
        assert len(judgements) == 32
        assert all(j.why.endswith(".") for j in judgements)


def sixteen(wobble: float, **place: str) -> list[Record]:
    """Records that claim 16 can be judged on: it holds if they are quiet."""
    made = Planted(wobble=wobble, **place)  # type: ignore[arg-type]
    model = made.tuned()
    made.selected(model)
    gates = both_kinds(made, model)
    made.pruned(model, 78.0, attn=gates["attn"])
    made.pruned(model, 77.0, ff=gates["ff"])
    made.pruned(model, 75.0, **gates)
    return made.records


def test_measured_profiles_come_first() -> None:
    measured = sixteen(LOUD, profile="real", provenance="measured")
    embedded = sixteen(QUIET, profile="toy", provenance="embedded")
    each = judge_each_profile([*embedded, *measured])[16]
    assert [(j.profile, j.verdict) for j in each] == [("real", "undecided"), ("toy", "holds")]


def test_a_profile_without_the_runs_comes_after_those_of_its_kind_that_have_them() -> None:
    few = sixteen(QUIET, profile="a", provenance="measured")[:2]
    all_runs = sixteen(QUIET, profile="b", provenance="measured")
    embedded = sixteen(QUIET, profile="toy", provenance="embedded")
    judged = judge_each_profile([*few, *all_runs, *embedded])[16]
    assert [(j.profile, j.verdict) for j in judged] == [
        *(("b", "holds"), ("a", "not tested"), ("toy", "holds"))
    ]


def test_the_papers_own_data_comes_first() -> None:
    """Claim 26 is of Natural Questions; SQuAD stands in where such runs lack."""
    gains = {}
    for data, f1 in (("squad2", 79.0), ("nq", 60.0)):
        made = Planted(data=data)
        model = made.tuned()
        made.selected(model)
        point = made.pruned(model, 70.0, **both_kinds(made, model))
        made.retrained(point, 75.0)
        made.retrained(point, f1, teacher=model)
        gains[data] = made.records
    on_squad = judge(CLAIMS[26], gather_evidence(gains["squad2"]))
    assert (on_squad.data, on_squad.verdict) == ("squad2", "holds")
    on_both = judge(CLAIMS[26], gather_evidence(gains["squad2"] + gains["nq"]))
    assert (on_both.data, on_both.outcome) == ("nq", "does not hold")


def test_claims_import_without_torch() -> None:
    program = (
        "import sys, study.claims, study.frames, study.names\n"
        "print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert answer.stdout.strip() == "set()"
