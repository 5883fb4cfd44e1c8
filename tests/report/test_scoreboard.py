"""The scoreboard: text, HTML, counts and figure, from the synthetic sweep and from nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from tests.report.synthetic import sweep

from study.claims import CLAIMS, VERDICTS, Judgement, judge_each_profile
from study.claims.judgement import above, within
from study.claims.statistics import exact, mean_of, over_rounds
from study.figures.claims import alt_effects, describe_effects, effects
from study.scoreboard import (
    BADGES,
    effect_text,
    line_text,
    overview_html,
    scoreboard,
    scoreboard_html,
    scoreboard_markdown,
    verdict_counts,
    verdicts_by_profile,
)

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
    parser.feed(html)
    assert not parser.open
    return parser


def test_every_claim_has_a_row(best: list[Judgement]) -> None:
    frame = scoreboard(best)
    assert list(frame.index) == sorted(CLAIMS)
    for judgement in best:
        row = frame.loc[judgement.number]
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
    lines = scoreboard_markdown(best).splitlines()
    assert len(lines) == 2 + 32
    assert len({line.count("|") for line in lines}) == 1


def test_counts_add_up(by_claim: ByClaim) -> None:
    counts = verdict_counts(by_claim)
    assert list(counts.columns) == list(VERDICTS)
    assert len(counts) == 3
    assert (counts.sum(axis=1) == 32).all()
    shown = verdicts_by_profile(by_claim)
    for name in counts.index[:2]:
        for verdict in VERDICTS:
            n = sum(cell.endswith(verdict) for cell in shown[name])
            assert n == counts.loc[name, verdict]


def test_no_claim_on_two_profiles_is_shown_as_one(by_claim: ByClaim) -> None:
    assert list(verdicts_by_profile(by_claim).columns) == [
        "measured, profile real",
        "embedded, profile tiny",
    ]


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
    one_run = above(mean_of([12.34]), 10, "F1 points", "")
    assert effect_text(one_run) == "12.3 F1 points (one run, no interval)"
    assert effect_text(above(over_rounds(2, [1.9, 2.1]), 1.9, "times", "")) == (
        "2.00 times (1.90 to 2.10)"
    )
    least = above(exact(-3), 0, "percentage points", "", bound="at least")
    assert effect_text(least) == "at least −3.00 percentage points"
    assert line_text(least) == "above 0.00"
    assert line_text(within(exact(0), -1, 1, "F1 points", "")) == "within −1.00 to 1.00"


def test_the_figure_has_every_tested_claim(best: list[Judgement]) -> None:
    figure = effects(best)
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    tested = [judgement for judgement in best if judgement.findings]
    assert sorted(int(label.split()[0]) for label in labels) == [j.number for j in tested]
    units = {j.effect.unit for j in tested if j.effect is not None}
    assert len(figure.axes) == len(units)
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert f"{len(tested)} of 32" in describe_effects(best)
    assert f"{len(tested)} claims" in alt_effects(best)


def test_without_records() -> None:
    nothing = judge_each_profile([])
    judgements = [each[0] for each in nothing.values()]
    assert verdict_counts(nothing).loc["the best profile for each", "not tested"] == 32
    assert verdicts_by_profile(nothing).empty
    parsed(overview_html(judgements) + scoreboard_html(judgements))
    assert effects(judgements).texts[0].get_text() == "no claim has been tested yet"
    assert "none" in describe_effects(judgements)
