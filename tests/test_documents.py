"""The Python of README.md, CONTRIBUTING.md and the book's pages runs; what they name is there."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import qaprune_lib as qp
from qaprune_lib import cli
from study.__main__ import COMMANDS
from study.figures.front import INK, PICTURE, front_figure
from study.records.record import read_records
from study.summary import findings

ROOT = Path(__file__).parents[1]
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("book/*.md")))
}
each_document = pytest.mark.parametrize("document", DOCUMENTS)

BLOCK = re.compile(r"^```(sh|python|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<![`}])`([^`\n]+)`")  # but for roles, which Sphinx checks
PATH = re.compile(r"[\w.-]+(/[\w.-]+)*/?")
SUFFIXES = {".cff", ".ipynb", ".lock", ".md", ".py", ".toml", ".yml"}
MADE = {".venv", "_generated", "out.ipynb", "runs"}
DESCRIPTION = "{http://purl.org/dc/elements/1.1/}description"
PLACEHOLDER = re.compile("BUCKET|DISK|FOLDER|NAME|PAGE|YOURS|…")


def blocks(document: str, language: str) -> list[str]:
    return [code for name, code in BLOCK.findall(DOCUMENTS[document]) if name == language]


def commands(document: str) -> list[str]:
    """Lines of shell blocks, without comments, and code within sentences."""
    shell = "".join(blocks(document, "sh")).replace("\\\n", " ")
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in shell.splitlines()]
    return [*lines, *SPAN.findall(BLOCK.sub("", DOCUMENTS[document]))]


def calls(document: str, program: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of a program that a document names, each with its long options."""
    for line in commands(document):
        if found := re.search(rf"(?:^|[\s/]){program} ([a-z][\w-]*)(.*)", line):
            yield found[1], re.findall(r"(?<=\s)--[a-z][a-z0-9-]*", found[2])


def help_of(
    main: Callable[[list[str]], Any], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> str:
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    return capsys.readouterr().out


@pytest.fixture
def few_questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The loaders give some questions of each split; returns the folder that code runs in."""
    squad, pages = qp.load_squad, qp.load_natural_questions

    def few(source: str) -> dict[str, Any]:
        return {name: rows.select(range(4)) for name, rows in squad(source).items()}

    def few_pages(source: str) -> dict[str, Any]:
        return {name: rows.sample(0.005) for name, rows in pages(source).items()}

    monkeypatch.setattr(qp, "load_squad", few)
    monkeypatch.setattr(qp, "load_natural_questions", few_pages)
    (tmp_path / "results").symlink_to(ROOT / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("document", [name for name in DOCUMENTS if blocks(name, "python")])
def test_python_runs(document: str, few_questions: Path) -> None:
    names: dict[str, Any] = {}
    for code in blocks(document, "python"):
        if "evaluate_natural_questions" in code:
            pytest.importorskip("natural_questions", reason="the extra nq is not installed")
        short = code.replace("epochs=3", "epochs=1").replace('"10min"', '"0s"')
        exec(compile(short, document, "exec"), names)
    if "small" in names:
        loaded = qp.load_model(few_questions / "small")
        assert qp.Topology.of(loaded) == names["kept"]


@each_document
def test_no_block_is_passed_over(document: str) -> None:
    """As one of `bash`, an indented one, or one of ~~~, which `BLOCK` does not find."""
    fences = re.findall(r"^[ \t>]*(?:```|~~~).*", DOCUMENTS[document], re.MULTILINE)
    assert not [fence for fence in fences if not re.match(r"```(sh|python|\{[a-z-]+\}.*|)$", fence)]


def test_python_is_found() -> None:
    assert len(blocks("README.md", "python")) == 1
    assert len(blocks("book/library.md", "python")) == 3


@each_document
def test_names_of_the_library_are_there(document: str) -> None:
    for name in re.findall(r"\bqp\.(\w+(?:\.\w+)*)", DOCUMENTS[document]):
        reduce(getattr, name.split("."), qp)
    for name in re.findall(r"\bqaprune_lib(?:\.\w+)+", DOCUMENTS[document]):
        parts = name.split(".")
        for n in range(len(parts), 0, -1):
            try:
                module = importlib.import_module(".".join(parts[:n]))
            except ModuleNotFoundError:
                continue
            reduce(getattr, parts[n:], module)
            break


@each_document
def test_commands_of_the_study_are_there(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command, options in calls(document, "python3? -m study"):
        assert command in COMMANDS
        if options:
            module = importlib.import_module(COMMANDS[command][0])
            assert set(options) <= set(re.findall(r"--[\w-]+", help_of(module.main, [], capsys)))


@each_document
def test_commands_of_the_library_are_there(
    document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, options in calls(document, "qaprune"):
        assert set(options) <= set(re.findall(r"--[\w-]+", help_of(cli.main, [command], capsys)))


@each_document
def test_make_has_the_targets(document: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {target for target, _ in calls(document, "make")} <= set(targets)


def test_commands_are_found() -> None:
    assert {name for name, _ in calls("README.md", "make")} >= {"reproduce", "test"}
    assert {name for name, _ in calls("README.md", "qaprune")} == {"ask", "evaluate", "compress"}
    found = dict(calls("README.md", "python3? -m study"))
    assert found.keys() == {"run", "graph", "status", "bundle"}
    assert found["bundle"] == ["--source", "--to"]


@each_document
def test_paths_are_there(document: str) -> None:
    houses = (".github", "qaprune_lib", "study", "tests", "book", "notebooks", "profiles")
    files = {path.name for house in houses for path in (ROOT / house).rglob("*")}
    for word in " ".join(commands(document)).split():
        word = word.strip("'\",:")
        if not PATH.fullmatch(word) or PLACEHOLDER.search(word) or MADE & set(Path(word).parts):
            continue
        if "/" in word:
            assert (ROOT / word).exists(), word
        elif Path(word).suffix in SUFFIXES:
            assert (ROOT / word).exists() or word in files, word
    for target in re.findall(r"\]\(([^):#]+)\)", DOCUMENTS[document]):
        assert (ROOT / document).parent.joinpath(target).exists(), target


def test_layout_is_the_one_that_is_there() -> None:
    (tree,) = blocks("README.md", "")
    folders = re.findall(r"^(\w+)/", tree, re.MULTILINE)
    assert all((ROOT / name).is_dir() for name in folders)
    packages = {path.parent.name for path in (ROOT / "qaprune_lib").glob("*/__init__.py")}
    table = re.findall(r"^\* - `qaprune_lib/(\w+)`", DOCUMENTS["book/design.md"], re.MULTILINE)
    assert sorted(table) == sorted(packages)


def test_the_findings_are_those_of_the_records() -> None:
    """README's lines under "What has been measured": `python -m study summary --findings`."""
    found = findings(read_records(ROOT / "results"))
    assert "\n".join(found) in DOCUMENTS["README.md"]


def test_the_picture_is_that_of_the_records() -> None:
    """README's picture, and the same in the dark: `python -m study summary --picture`."""
    records = read_records(ROOT / "results")
    for name, ink in INK.items():
        [told] = ElementTree.parse(ROOT / PICTURE.with_name(name)).iter(DESCRIPTION)
        assert told.text == front_figure(records, ink).alt
        assert f"book/_static/{name}" in DOCUMENTS["README.md"]


def test_memory_and_speed_of_reading_are_measured() -> None:
    file = ROOT / "benchmarks" / "natural_questions_memory.json"
    measured = json.loads(file.read_text(encoding="utf-8"))
    text = " ".join(DOCUMENTS["book/library.md"].split())
    pattern = r"(\S+) GB of pages are read and cut into windows in (\S+) GiB, at (\S+)"
    gigabytes, ratio = measured["megabytes"] / 1000, measured["ratio_to_tokenizer"]
    expected = (f"{gigabytes:.0f}", f"{measured['peak_gib']:.2f}", f"{ratio:.2f}")
    assert re.findall(pattern, text) == [expected]
