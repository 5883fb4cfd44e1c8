"""The command `qaprune`: public functions of the library from a shell.

Results go to standard output as JSON; progress, warnings and errors to standard error. Each
command imports what it needs when it runs, so that help is there at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import qaprune_lib as qp
from qaprune_lib.errors import DataError, QapruneError, QapruneWarning, SettingsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 where it was refused."""
    options = _parser().parse_args(arguments)
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **to: Any) -> None:
            if issubclass(category, QapruneWarning):
                _say(f"warning: {message}")  # without a line of the program's own
            else:
                shown(message, category, *where, **to)

        warnings.showwarning = show
        try:
            options.run(options)
        except QapruneError as error:
            _say(error)
            return 2
    return 0


def _say(message: object) -> None:
    """One line on standard error, above a progress bar that is there."""
    from tqdm import tqdm

    tqdm.write("qaprune: " + " ".join(str(message).split()), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="qaprune", description="Structured pruning of question-answering transformers."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("model", metavar="MODEL", help='a folder, a Hub id or "embedded"')

    windows = argparse.ArgumentParser(add_help=False)
    for name in ("max-length", "doc-stride", "max-question-length"):
        windows.add_argument(f"--{name}", type=int, metavar="TOKENS", help="of a window")

    version = commands.add_parser("version", help="versions and device, for bug reports")
    version.set_defaults(run=_version)

    ask = commands.add_parser(
        "ask", parents=[model, windows], help="answer one question about a text"
    )
    ask.add_argument("question", metavar="QUESTION")
    ask.add_argument("context", metavar="CONTEXT_OR_FILE", help="the text, or a file that holds it")
    ask.add_argument("--n-best", type=int, metavar="N", help="list so many answers")
    ask.set_defaults(run=_ask)

    evaluate = commands.add_parser(
        "evaluate", parents=[model, windows], help="score answers as SQuAD does"
    )
    evaluate.add_argument(
        "questions",
        metavar="QUESTIONS",
        help='a file of questions with answers, a folder, a Hub id or "embedded"',
    )
    evaluate.add_argument(
        "--version", choices=("1.1", "2.0"), help="which one, where a folder holds both"
    )
    evaluate.set_defaults(run=_evaluate)

    compress = commands.add_parser(
        "compress", parents=[model, windows], help="a smaller, faster model"
    )
    compress.add_argument("questions", metavar="QUESTIONS", help="as for evaluate, with train")
    aims = compress.add_mutually_exclusive_group()
    aims.add_argument("--speedup", type=float, metavar="X", help="times as fast (default: 2)")
    aims.add_argument("--macs", type=float, metavar="SHARE", help="of the arithmetic that stays")
    compress.add_argument(
        "--heldout-by",
        choices=("article", "paragraph"),
        default="article",
        help="whole ones are held out of train, to judge on (default: article)",
    )
    compress.add_argument(
        "--budget", default="10min", metavar="TIME", help="such as 90s, 10min, 2h"
    )
    compress.add_argument(
        "--out",
        required=True,
        metavar="FOLDER",
        help="a new folder, or that of a call that was killed",
    )
    compress.add_argument(
        "--export", action="store_true", help="also as ONNX, in 8 bits too, scored and timed"
    )
    compress.set_defaults(run=_compress)

    export = commands.add_parser("export", parents=[model], help="write ONNX files")
    export.add_argument("folder", metavar="FOLDER", help="a new or an empty folder")
    export.add_argument("--int8", action="store_true", help="also with weights in 8 bits")
    export.set_defaults(run=_export)
    return parser


def _version(_: argparse.Namespace) -> None:
    import platform
    from importlib import metadata

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    for name, value in {
        "qaprune": qp.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "device": device,
        "platform": platform.platform(),
    }.items():
        print(f"{name:13}{value}")


def _ask(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    context = _text(options.context)
    model, windows = qp.load_model(options.model), _windows(options)
    answer = qp.ask(model, options.question, context, windows=windows, n_best=options.n_best)
    print(json.dumps(asdict(answer), ensure_ascii=False, indent=1))


def _windows(options: argparse.Namespace) -> qp.Windows | None:
    """The windows that are asked for; None are those of the model."""
    names = ("max_length", "doc_stride", "max_question_length")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if given and "max_length" not in given:
        raise SettingsError(f"{', '.join(given)}: give --max-length as well")
    return qp.Windows(**given) if given else None


def _text(text_or_file: str) -> str:
    if os.path.exists(text_or_file):
        from pathlib import Path

        from qaprune_lib.data.files import read_bytes

        try:
            return read_bytes(Path(text_or_file)).decode()
        except UnicodeDecodeError as error:
            raise DataError(f"{text_or_file}: cannot be read as UTF-8 text: {error}") from error
    if len(text_or_file.split()) == 1 and os.path.splitext(text_or_file)[1]:
        raise DataError(f"{text_or_file}: no such file, and too short for a text")
    return text_or_file


def _evaluate(options: argparse.Namespace) -> None:
    # one file is what is to be scored, whatever its name
    split: Any = "dev" if os.path.isfile(options.questions) else None
    splits = qp.load_squad(options.questions, split=split, version=options.version, heldout=0)
    split = "dev" if "dev" in splits else "train"
    print(f"{len(splits[split])} questions of {split}", file=sys.stderr)
    model, windows = qp.load_model(options.model), _windows(options)
    print(qp.evaluate(model, splits[split], windows=windows).model_dump_json(indent=1))


def _compress(options: argparse.Namespace) -> None:
    target = qp.MACs(options.macs) if options.macs is not None else qp.Speedup(options.speedup or 2)
    model = qp.load_model(options.model)
    questions = qp.load_squad(options.questions, heldout_by=options.heldout_by)
    sizes = ", ".join(f"{len(rows)} {name}" for name, rows in questions.items())
    print(f"{target}, in about {options.budget}, on {sizes} questions", file=sys.stderr)
    qp.compress(
        model,
        questions,
        target=target,
        budget=options.budget,
        folder=options.out,
        export=options.export,
        windows=_windows(options),
    )
    with open(os.path.join(options.out, "README.md"), encoding="utf-8") as card:
        print(card.read().split("---\n", 2)[2])


def _export(options: argparse.Namespace) -> None:
    print(qp.export_onnx(qp.load_model(options.model), options.folder, int8=options.int8))


if __name__ == "__main__":
    sys.exit(main())
