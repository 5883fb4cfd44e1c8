"""Whatever stands in a name, an `about` or a caption is text on every page, and only text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from docutils import nodes
from docutils.core import publish_doctree
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from myst_parser.docutils_ import Parser

from study import pages
from study.claims import judge_each_profile
from study.explorer import SavedModel, question_box
from study.figures.controls import controls
from study.figures.curves import curve_facts, sparsity_curves
from study.figures.natural_questions import figure4
from study.figures.speed import table2_figure
from study.figures.style import Drawing
from study.frames import curve_points, scored_models
from study.interactive import choice_pages, picture, slider_pages
from study.markup import escape, fill
from study.operating_points import leaf_through_points
from study.pages import Page, each_model, markdown, records_table
from study.paper_tables import table1, table2
from study.records.record import write_record
from study.scoreboard import overview_html, scoreboard, scoreboard_html
from study.summary import findings
from tests.conftest import REPOSITORY
from tests.quick import at_most
from tests.study.synthetic import Sweep, sweep

FRAGMENTS = (
    *("<script>alert(1)</script>", "</SCRIPT >", "<b", "&lt;", "&#36;", '"', "'", "--", "\\"),
    *("|", "```", "~~~", ":::", "$(reboot)", "$x$", "$$", "{{ x }}", "{% x %}", "{numref}`a`"),
    *(
        "[a](b)",
        "![a](b)",
        "*a*",
        "__a__",
        "# a",
        "> a",
        "- a",
        "(a)=",
        "%",
        "\n\n",
        "\t",
        "é",
        "γ",
    ),
)
EXTENSIONS = yaml.safe_load((REPOSITORY / "_config.yml").read_text())["parse"][
    "myst_enable_extensions"
]
HOSTILE = "a <script>alert(1)</script> | b ``` $(reboot) $x$ {numref}`a` {{ c }} *d* [e](f)\n\n# g"
TEXT = " ".join(HOSTILE.split())
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=5), max_size=8).map("".join)


def one_line(text: str) -> str:
    return " ".join(text.split())


def doctree(myst: str) -> nodes.document:
    """MyST as the book reads it."""
    quiet = {"report_level": 5, "myst_enable_extensions": EXTENSIONS}
    return publish_doctree(myst, parser=Parser(), settings_overrides=quiet)


def tags(html: str) -> list[str]:
    return [element.name for element in BeautifulSoup(html, "html.parser").find_all(True)]


@given(texts)
@example(" a ".join(FRAGMENTS))
def test_in_html_it_reads_as_it_stands(text: str) -> None:
    soup = BeautifulSoup(f'<p title="{escape(text)}">{escape(text)}</p>', "html.parser")
    assert [element.name for element in soup.find_all(True)] == ["p"]
    assert soup.p is not None
    wanted = one_line(text).replace("\0", "")
    assert soup.p.get_text().replace("\0", "") == wanted
    assert str(soup.p["title"]).replace("\0", "") == wanted


@given(texts)
@example(" a ".join(FRAGMENTS))
def test_in_a_pipe_table_it_is_one_cell(text: str) -> None:
    frame = pd.DataFrame({"a": [text, "1"], "b": ["2", text]})
    html = MarkdownIt("commonmark").enable("table").render(markdown(frame))
    soup = BeautifulSoup(html, "html.parser")
    assert {element.name for element in soup.find_all(True)} <= {
        *("table", "thead", "tbody", "tr", "th", "td")
    }
    assert [len(row.find_all(["th", "td"])) for row in soup.find_all("tr")] == [2, 2, 2]
    assert soup.find_all("td")[0].get_text() == one_line(text).replace("\0", "\ufffd")


@settings(max_examples=at_most(30))
@given(texts.filter(lambda text: "\0" not in text))
@example(" a ".join(FRAGMENTS))
def test_in_myst_it_is_nothing_but_text(text: str) -> None:
    said = fill(
        ":::{table} Of {{ text }}\n:name: a\n\n| x |\n|---|\n| {{ text }} |\n:::", text=text
    )
    tree = doctree(said + fill("\n\n- Of {{ text }}\n\n**{{ text }}.** Of {{ text }}", text=text))
    assert {type(node) for node in tree.findall(nodes.Inline)} <= {nodes.strong}
    assert not list(tree.findall(nodes.system_message))
    words = one_line(text)
    assert one_line(tree.astext()).count(words) >= 5


@pytest.mark.parametrize("fence", ["```", "~~~", ":::"])
def test_no_fence_is_closed_by_a_text(fence: str) -> None:
    note = doctree(f"{fence}{{note}}\nalt\n{escape(fence)}\nb\n{fence}")
    assert one_line(note.astext()) == f"alt {fence} b"


def test_only_markup_is_markup() -> None:
    assert escape(escape("<a>")) == escape("<a>") == "&#60;a&#62;"
    assert fill("<i>{{ a }}</i> {{ b }}", a="|", b=3) == "<i>&#124;</i> 3"


@pytest.fixture(scope="module")
def hostile_sweep() -> Sweep:
    return sweep(base=HOSTILE, gate_seeds=1)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, str]]]:
    found: list[dict[str, str]] = []
    monkeypatch.setattr(pages, "display", lambda data, **_: found.append(data))
    yield found
    for data in found:
        assert_text(data)


def assert_text(data: dict[str, str]) -> None:
    """What a page shows has none of the hostile text's markup, in the book and in JupyterLab."""
    tree = doctree(data["text/markdown"])
    assert not list(tree.findall(nodes.math))
    raws = [raw.astext() for raw in tree.findall(nodes.raw) if "code>" not in raw.astext()]
    # links to records and commits
    assert not [
        raw for raw in raws if not re.fullmatch(r'</a>|<a( id="[\w-]+")? href="[^"]*">', raw)
    ]
    assert not list(tree.findall(nodes.emphasis))
    assert "script" not in tags(data["text/html"])
    lines = [line for line in data["text/markdown"].splitlines() if not line.startswith(":alt: ")]
    assert "<script" not in "\n".join(lines)


def test_a_model_and_questions_of_any_name_on_every_kind_of_page(
    hostile_sweep: Sweep, tmp_path: Path, shown: list[dict[str, str]]
) -> None:
    made = hostile_sweep.records
    for record in made:
        write_record(tmp_path / "results", record)
    page = Page(str(tmp_path / "results"), str(tmp_path))
    points, models = curve_points(made), scored_models(made).assign(data=HOSTILE)
    models["gates_from"] = models["gates_from"].where(models["gates_from"] == "", HOSTILE)
    for name, rows in each_model(points.assign(data=HOSTILE), "finetune"):
        page.figure(sparsity_curves(rows, "attn"), name)
        page.table(pd.DataFrame({HOSTILE: [HOSTILE]}), HOSTILE, curve_facts(rows, "attn"), HOSTILE)
    for drawing in (controls(models), table2_figure(models), figure4(models)):
        page.figure(drawing, HOSTILE)
    page.table(table1(models), "table1", HOSTILE)
    page.table(table2(models), "table2", HOSTILE)
    page.table(records_table(made), "records", HOSTILE)
    for data in shown:
        assert TEXT in one_line(doctree(data["text/markdown"]).astext()), data
    assert all(path.parent == tmp_path for path in tmp_path.rglob("*.svg"))


def test_what_a_profile_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[dict[str, str]]
) -> None:
    profile = yaml.safe_load((REPOSITORY / "profiles" / "embedded.yml").read_text())
    profile["data"]["squad2"]["about"] = HOSTILE
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "embedded.yml").write_text(yaml.safe_dump(profile))
    monkeypatch.setattr(pages, "PROFILES", tmp_path / "profiles")
    made = Sweep(profile="embedded")
    made.finetune("minilm")
    write_record(tmp_path / "results", made.records[0])
    Page(str(tmp_path / "results"), str(tmp_path / "out")).about(scored_models(made.records))
    assert TEXT in one_line(doctree(shown[0]["text/markdown"]).astext())


def test_the_scoreboard(hostile_sweep: Sweep) -> None:
    judgements = [judged[0] for judged in judge_each_profile(hostile_sweep.records).values()]
    assert any(TEXT in one_line(str(judgement.models)) for judgement in judgements)
    html = scoreboard_html(judgements) + overview_html(judgements)
    assert TEXT in one_line(BeautifulSoup(html, "html.parser").get_text())
    assert not {"script", "em", "h1"} & set(tags(html))
    assert "\n\n" not in html  # which would end a block of HTML in MyST
    tree = doctree(overview_html(judgements))
    assert {type(node) for node in tree.children} == {nodes.raw}
    assert_text({"text/markdown": markdown(scoreboard(judgements)), "text/html": html})


def test_the_findings() -> None:
    """Which stand in README.md."""
    *lines, _ = findings(sweep(base=HOSTILE, provenance="measured", gate_seeds=1).records)
    assert len(lines) == 3
    for line in lines:
        soup = BeautifulSoup(MarkdownIt("commonmark").render(line), "html.parser")
        assert {element.name for element in soup.find_all(True)} <= {"ul", "li", "a"}
        assert TEXT in one_line(soup.get_text())
        assert "[e](f)" not in line


def test_widgets(hostile_sweep: Sweep) -> None:
    [slider] = leaf_through_points(hostile_sweep.records).values()
    for child in slider.children[1].children:
        assert not {"script", "em"} & set(tags(child.value))
    labelled = choice_pages({HOSTILE: slider_pages({HOSTILE: "a page"}, description="a")})
    state = json.dumps(labelled.children[0].options)
    assert "<" not in state
    models = [SavedModel(HOSTILE, "no model"), SavedModel("pruned", "none")]

    def refuse(source: str) -> Any:
        from qaprune_lib.errors import DataError

        raise DataError(f"{source}: {HOSTILE}")

    box: Any = question_box({HOSTILE: models}, refuse, context=HOSTILE, questions=[HOSTILE])
    box.manual_button.click()
    assert tags(box.result.value) == ["p"]


def test_alternative_texts_of_the_book(tmp_path: Path, shown: list[dict[str, str]]) -> None:
    """They are YAML there."""
    figure = Figure()
    figure.subplots().set_ylabel(f"'x': # \"{TEXT}\"")
    drawing = Drawing(figure, "b")
    Page(str(tmp_path), str(tmp_path)).figure(drawing, "a")
    [image] = doctree(shown[0]["text/markdown"]).findall(nodes.image)
    assert TEXT in image["alt"] == drawing.alt


def test_a_picture(hostile_sweep: Sweep) -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], [0, 1])
    soup = BeautifulSoup(picture(figure, HOSTILE), "html.parser")
    assert [element.name for element in soup.find_all(True)] == ["img"]
    assert soup.img is not None
    assert soup.img["alt"] == TEXT
