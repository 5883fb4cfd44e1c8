"""`qaprune`: each command gives what its function gives; refusals are one line and exit 2."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

import qaprune_lib as qp
from qaprune_lib.cli import main
from tests.models.tiny import TEXT, tiny_model

QUESTION, CONTEXT = TEXT


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("bert", max_position_embeddings=384).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    """A training and a dev file; only dev has this one question."""
    rome = {"text": "Rome", "answer_start": CONTEXT.index("Rome")}
    asked = [{"id": "a", "question": QUESTION, "answers": [rome], "is_impossible": False}]
    other = [{"id": "b", "question": "Why?", "answers": [], "is_impossible": True}]
    for name, qas in (("dev-v2.0", asked), ("train-v2.0", other)):
        article = {"title": name, "paragraphs": [{"context": CONTEXT, "qas": qas}]}
        content = {"version": "v2.0", "data": [article]}
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return str(tmp_path)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom qaprune_lib.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(sorted({'torch', 'transformers', 'numpy', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate" in run.stdout
    assert run.stdout.endswith("[]\n")


def test_version_names_what_a_bug_report_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["qaprune"] == qp.__version__
    assert said["python"] == platform.python_version()
    assert said["torch"] == torch.__version__
    assert said.keys() >= {"transformers", "device"}


@pytest.mark.parametrize("in_a_file", [False, True])
def test_ask(
    in_a_file: bool, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = CONTEXT
    if in_a_file:
        path = tmp_path / "article.txt"
        path.write_text(CONTEXT, encoding="utf-8")
        context = str(path)
    assert main(["ask", model, QUESTION, context]) == 0
    expected = asdict(qp.ask(qp.load_model(model), QUESTION, CONTEXT))
    assert capsys.readouterr().out == json.dumps(expected, ensure_ascii=False, indent=1) + "\n"


def test_ask_for_several_in_other_windows(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--max-length", "40", "--doc-stride", "9", "--max-question-length", "5"]
    assert main(["ask", model, QUESTION, CONTEXT, "--n-best", "3", *sizes]) == 0
    windows = qp.Windows(40, 9, 5)
    expected = qp.ask(qp.load_model(model), QUESTION, CONTEXT, windows=windows, n_best=3)
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(json.dumps(asdict(expected)))
    assert len(said["n_best"]) == 3


def test_evaluate_scores_a_file_of_any_name(
    model: str, questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = (Path(questions) / "dev-v2.0.json").rename(Path(questions) / "mine.json")
    assert main(["evaluate", model, str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["at_zero"]["total"] == 1


def test_evaluate_scores_dev(
    model: str, questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", model, questions, "--version", "2.0"]) == 0
    said = capsys.readouterr()
    expected = qp.evaluate(qp.load_model(model), qp.load_squad(questions, heldout=0)["dev"])
    assert json.loads(said.out) == expected.model_dump()
    assert "1 questions of dev" in said.err


def test_export(
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def export(model: Any, folder: str, *, int8: bool) -> Path:
        return Path(folder) / f"{model.config.model_type}-{int8}"

    monkeypatch.setattr(qp, "export_onnx", export, raising=False)
    assert main(["export", model, str(tmp_path), "--int8"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/bert-True\n"


def test_compress_says_what_it_warns_of_and_shows_one_bar(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contexts = [f"{CONTEXT} This is number {number}." for number in range(12)]
    rome = {"text": "Rome", "answer_start": CONTEXT.index("Rome")}
    paragraphs = [
        {"context": c, "qas": [{"id": str(n), "question": QUESTION, "answers": [rome]}]}
        for n, c in enumerate(contexts)
    ]
    content = {"version": "1.1", "data": [{"title": "only", "paragraphs": paragraphs}]}
    (tmp_path / "train-v1.1.json").write_text(json.dumps(content), encoding="utf-8")
    words = ["compress", model, str(tmp_path), "--out", str(tmp_path / "small"), "--macs", "0.6"]
    assert main(words) == 2
    assert "heldout_by='paragraph'" in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*words, "--heldout-by", "paragraph", "--budget", "0.01s"]) == 0
    said = capsys.readouterr()
    assert "\rqaprune: warning: budget='0.01s' is short" in said.err
    assert "cli.py" not in said.err
    assert {line.split(":")[0] for line in said.err.split("\r") if "%|" in line} == {"compress"}
    assert "11 train, 1 heldout questions" in said.err
    assert "| F1 |" in said.out
    small = qp.load_model(tmp_path / "small", device="cpu")
    assert qp.Topology.of(small).macs(384) < qp.Topology.of(qp.load_model(model)).macs(384)
    assert main([*words, "--heldout-by", "paragraph"]) == 2
    assert "holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "{empty}", QUESTION, CONTEXT], "config.json"),
        (["ask", "{model}", " ", CONTEXT], "the question is empty"),
        (["ask", "{model}", QUESTION, "article.txt"], "article.txt: no such file"),
        (["ask", "{model}", QUESTION, "{binary}"], "cannot be read as UTF-8"),
        (["evaluate", "{model}", "nowhere/dev.json"], "nowhere/dev.json"),
        (["ask", "{model}", QUESTION, "{empty}"], "it is a folder"),
        (["ask", "{model}", QUESTION, CONTEXT, "--doc-stride", "9"], "give --max-length as well"),
        (["ask", "{model}", QUESTION, CONTEXT, "--max-length", "999"], "the 384 positions"),
        (["export", "{model}", "{model}"], "something other than an export"),
    ],
)
def test_refusals(
    arguments: list[str],
    message: str,
    model: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    places = {"model": model, "empty": tmp_path / "empty", "binary": binary}
    assert main([argument.format(**places) for argument in arguments]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("qaprune: ")]
    assert message in line
    assert said.out == ""


def test_misspelt_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evalute"])
    assert caught.value.code == 2
    assert "evaluate" in capsys.readouterr().err
