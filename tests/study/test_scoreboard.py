"""The scoreboard: text, HTML, counts and figure, from the synthetic sweep and from nothing."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from study.claims import CLAIMS, VERDICTS, Judgement, judge_each_profile
from study.claims.estimate import Finding
from study.figures.claims import effects
from study.pages import markdown
from study.scoreboard import (
    BADGES,
    effect_text,
    line_text,
    overview_html,
    scoreboard,
    scoreboard_html,
    verdict_counts,
    verdicts_by_profile,
)
from tests.study.synthetic import sweep

ByClaim = dict[int, list[Judgement]]


@pytest.fixture(scope="module")
def by_claim() -> ByClaim:
    measured = sweep(large="mpnet-base", provenance="measured", profile="real", gate_seeds=3)
    return judge_each_profile([*measured.records, *sweep().records])


@pytest.fixture(scope="module")
def best(by_claim: ByClaim) -> list[Judgement]:
    return [judgements[0] for judgements in by_claim.values()]


class Text(HTMLParser):
    """Checks that tags nest, and collects text, ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.open.append(tag)
        self.ids += [str(value) for name, value in attrs if name == "id"]
        self.links += [str(value) for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Text:
    parser = Text()
    parser.feed(str(html))
    assert not parser.open
    return parser


def test_every_claim_has_a_row(best: list[Judgement]) -> None:
    frame = scoreboard(best)
    assert frame["claim"].tolist() == [str(number) for number in sorted(CLAIMS)]
    for judgement, (_, row) in zip(best, frame.iterrows(), strict=True):
        assert row["the paper's words"] == CLAIMS[judgement.number].words
        assert judgement.verdict in row["verdict"]
        assert row["why"] == judgement.why


def test_html_says_what_the_table_says(best: list[Judgement]) -> None:
    page = parsed(scoreboard_html(best))
    assert page.ids == [f"claim-{number}" for number in sorted(CLAIMS)]
    for judgement in best:
        assert CLAIMS[judgement.number].words in page.text
        assert judgement.why in page.text
        for finding in judgement.findings:
            assert finding.label in page.text


def test_the_overview_links_to_the_rows(best: list[Judgement]) -> None:
    page = parsed(overview_html(best))
    assert page.links == [f"#claim-{number}" for number in sorted(CLAIMS)]
    assert all(verdict in page.text for verdict in VERDICTS)


def test_markdown_has_one_line_a_claim(best: list[Judgement]) -> None:
    lines = markdown(scoreboard(best)).splitlines()
    assert len(lines) == 2 + 32
    assert len({line.count("|") for line in lines}) == 1


def test_counts_add_up(by_claim: ByClaim) -> None:
    counts = verdict_counts(by_claim)
    assert list(counts.columns) == ["judged on", *VERDICTS]
    assert len(counts) == 3
    assert (counts[list(VERDICTS)].sum(axis=1) == 32).all()
    shown = verdicts_by_profile(by_claim)
    for row in counts.to_dict("records")[:2]:
        for verdict in VERDICTS:
            n = sum(cell.endswith(f" {verdict}") for cell in shown[row["judged on"]])
            assert n == row[verdict]


def test_no_claim_on_two_profiles_is_shown_as_one(by_claim: ByClaim) -> None:
    assert list(verdicts_by_profile(by_claim).columns) == [
        "claim",
        "measured, profile real",
        "embedded, profile tiny",
    ]


def test_a_profile_that_tests_no_claim_is_not_shown(by_claim: ByClaim) -> None:
    idle = {"profile": "idle", "provenance": "measured"}
    with_idle = {
        n: [*each, Judgement((), "It needs runs.", number=n, **idle)]  # type: ignore[arg-type]
        for n, each in by_claim.items()
    }
    assert verdicts_by_profile(with_idle).equals(verdicts_by_profile(by_claim))
    assert verdict_counts(with_idle).equals(verdict_counts(by_claim))


def test_embedded_verdicts_never_look_like_measured_ones_nor_are_added(by_claim: ByClaim) -> None:
    embedded = [of_each[1] for of_each in by_claim.values()]
    assert {judgement.provenance for judgement in embedded} == {"embedded"}
    for html in (overview_html(embedded), scoreboard_html(embedded)):
        assert html.count('class="verdict generated"') >= 32
    measured = [of_each[0] for of_each in by_claim.values()]
    assert "generated" not in overview_html(measured)
    assert scoreboard(embedded)["verdict"].str.startswith("generated: ").all()
    alone = {number: [judgement] for number, judgement in enumerate(embedded, start=1)}
    counts = verdict_counts(alone).set_index("judged on").loc["the best measured profile for each"]
    assert counts["not tested"] == 32


def test_each_verdict_leads_to_its_records(best: list[Judgement]) -> None:
    for judgement in best:
        links = parsed(scoreboard_html([judgement])).links
        assert len(links) == len(judgement.runs)
        if judgement.findings:
            assert links
            assert all(link.startswith("records.html#record-measured-real-") for link in links)


def luminance(colour: str) -> float:
    """Relative luminance of sRGB, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_badges_are_legible_and_differ_without_colour() -> None:
    assert len({badge.symbol for badge in BADGES.values()}) == len(VERDICTS)
    for badge in BADGES.values():
        light, dark = sorted(map(luminance, (badge.background, badge.text)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_effects_as_text() -> None:
    effect = {"label": "", "basis": {}, "relation": "above"}
    one_run = Finding(value=12.34, unit="F1 points", low=None, high=None, line=10, **effect)
    assert effect_text(one_run) == "12.3 F1 points (one run, no interval)"
    rounds = Finding(value=2, unit="times", low=1.9, high=2.1, line=1.9, **effect)
    assert effect_text(rounds) == "2.00 times (1.90 to 2.10)"
    exact = {"value": -3, "unit": "percentage points", "low": -3, "high": -3, **effect}
    least = Finding(**exact, line=0, bound="at least")
    assert effect_text(least) == "at least −3.00 percentage points"
    assert line_text(least) == "above 0.00"
    assert line_text(Finding(**exact, line=-1, upper=1)) == "within −1.00 to 1.00"


def test_the_figure_has_every_tested_claim(best: list[Judgement]) -> None:
    drawing = effects(best)
    assert drawing is not None
    axes = drawing.figure.axes
    labels = [label.get_text() for each in axes for label in each.get_yticklabels()]
    tested = [judgement for judgement in best if judgement.findings]
    assert sorted(int(label.split()[0]) for label in labels) == [j.number for j in tested]
    assert len(axes) == len({j.effect.unit for j in tested if j.effect is not None})
    assert all(each.get_xlabel() for each in axes)
    assert f"{len(tested)} of 32 claims" in drawing.caption
    for judgement in tested:
        assert f"{judgement.verdict}: {judgement.number} {BADGES[judgement.verdict].symbol}" in (
            drawing.alt
        )


def test_what_a_run_lacks_of_the_papers_conditions_stands_beside_its_verdict(
    best: list[Judgement],
) -> None:
    [judgement] = [judgement for judgement in best if judgement.number == 2]
    weak = replace(judgement, budget="a tiny model <stood> for it")
    text = parsed(scoreboard_html([weak])).text
    assert "Not as in the paper: a tiny model <stood> for it." in text
    assert scoreboard([weak]).iloc[0]["conditions of the paper that are not met"] == weak.budget


def test_without_records() -> None:
    nothing = judge_each_profile([])
    judgements = [each[0] for each in nothing.values()]
    counts = verdict_counts(nothing)
    assert counts["judged on"].tolist() == ["the best measured profile for each"]
    assert counts["not tested"].tolist() == [32]
    assert list(verdicts_by_profile(nothing)) == ["claim"]
    parsed(overview_html(judgements) + scoreboard_html(judgements))
    assert effects(judgements) is None
