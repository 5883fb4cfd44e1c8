"""Hostile inputs by the hundred: mutated models, questions, scores, records and profiles.

python -m tests.hostile --count 300

Each is read in a process of its own, forked from this one. It must be refused with a
`QapruneError`, or give a result that holds what it promises, within 20 seconds and 2 GiB; no code
of its own may run, and nothing be written outside of its folder.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import qaprune_lib as qp
from qaprune_lib.errors import QapruneError
from qaprune_lib.models import Topology, shape_of
from qaprune_lib.pruning import prune
from study.plan.plan import Planner
from study.plan.profile import read_profile
from study.records.record import read_record
from tests.data.pages import annotation, page, simplified
from tests.models.hostile import HARMLESS, PRUNED, STOCK, Explosive
from tests.models.tiny import random_topology, tiny_model
from tests.training.toy import toy_questions

ROOT = Path(__file__).parents[1]
SECONDS, KIB = 20, 2 * 2**20
NASTY: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, "", " ", "x" * 10**5, [], {}, [[[]]], [None] * 1000),
    *("../../outside", "/etc/passwd", "$(touch $EXPLODED)", "; touch outside", "a\x00b", "nan"),
    *("\ud800", "\u202egnp.exe", "e\u0301", "<script>alert(1)</script>", "{{ 7 * 7 }}", "!!python"),
)

NAMES = ("name", "results", "runs", "source", "folder", "model", "scorer", "kinds", "seed", "data")


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all parts of a JSON value."""
    inner: Any = ()
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def edited(value: Any, chance: random.Random) -> Any:
    """A JSON value of which one part is gone, new, there twice, moved or something nasty."""
    *path, last = chance.choice(places(value)[1:] or [(0,)])
    part = value
    for key in path:
        part = part[key]
    match chance.choice(("nasty", "nasty", "nasty", "gone", "new", "deep", "twice", "other")):
        case "nasty":
            part[last] = chance.choice(NASTY)
        case "gone":
            del part[last]
        case "new":
            inner = part[last] if isinstance(part[last], dict) else part
            if isinstance(inner, dict):
                inner[chance.choice(NAMES)] = chance.choice(NASTY)
        case "deep":
            for _ in range(chance.choice((5, 500))):
                part[last] = [part[last]]
        case "twice":
            if isinstance(part, list):
                part.append(part[last])
            else:
                part[f"{last} "] = part[last]
        case "other":
            part[last] = json.loads(json.dumps(part))
    return value


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Bytes that were cut, flipped, packed, or are those of another kind of file."""
    at = chance.randrange(len(content))
    ways: dict[str, Callable[[], bytes]] = {
        "cut": lambda: content[:at],
        "flipped": lambda: content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)])
        + content[at + 1 :],
        "doubled": lambda: content[:at] + content[at:] * 2,
        "packed": lambda: gzip.compress(content),
        "half packed": lambda: gzip.compress(content)[: at // 2],
        "mark": lambda: b"\xef\xbb\xbf" + content,
        "utf-16": lambda: content.decode("latin-1").encode("utf-16"),
        "pickle": lambda: pickle.dumps(Explosive()),
        "nested": lambda: b"[" * 10**5,
        "digits": lambda: content.replace(b"0", b"9" * 5000, 1),
        "empty": lambda: b"",
    }  # fmt: skip
    return ways[chance.choice(list(ways))]()


def change_json(path: Path, chance: random.Random) -> str:
    """Edit one JSON file, or damage its bytes."""
    if chance.random() < 0.7:
        value = edited(json.loads(path.read_text(encoding="utf-8")), chance)
        path.write_text(json.dumps(value), encoding="utf-8")
        return "edited"
    path.write_bytes(damaged(path.read_bytes(), chance))
    return "damaged"


@dataclass(frozen=True)
class Kind:
    """Inputs of one kind.

    make: writes a good one into a folder. change: makes it hostile; says how. use: reads it, and
    checks what was promised.
    """

    make: Callable[[Path], Any]
    change: Callable[[Path, random.Random], str]
    use: Callable[[Path], Any]


def make_model(folder: Path, *, pruned: bool) -> None:
    model = tiny_model("bert")
    if pruned:
        model = prune(model, random_topology(shape_of(model.config), 0))
    model.save_pretrained(folder)


def change_model(folder: Path, chance: random.Random) -> str:
    known = PRUNED if (folder / "topology.json").is_file() else STOCK
    if chance.random() < 0.5:
        name = chance.choice([*known, *HARMLESS])
        (HARMLESS[name] if name in HARMLESS else known[name][0])(folder)
        return name
    path = chance.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    if path.suffix == ".json":
        return f"{path.name} {change_json(path, chance)}"
    path.write_bytes(damaged(path.read_bytes(), chance))
    return f"{path.name} damaged"


def use_model(folder: Path) -> None:
    model = qp.load_model(folder, device="cpu")
    context = "Ann was born in Rome, 40 miles from the sea."
    answer = qp.ask(model, "Where was Ann born?", context)
    assert answer.text == context[answer.start : answer.end]
    assert Topology.of(model).shape == shape_of(model.config)


def make_squad(folder: Path) -> None:
    paragraphs = [
        {
            "context": row["context"],
            "qas": [
                {
                    "id": row["id"],
                    "question": row["question"],
                    "is_impossible": not row["answers"]["text"],
                    "answers": [
                        {"text": text, "answer_start": start}
                        for text, start in zip(*row["answers"].values(), strict=True)
                    ],
                }
            ],
        }
        for row in toy_questions(6)
    ]
    data = [{"title": f"t{n}", "paragraphs": [p]} for n, p in enumerate(paragraphs)]
    (folder / "dev-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": data}))


def use_squad(folder: Path) -> None:
    rows = qp.load_squad(folder)["dev"]
    for row in rows:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
    found = qp.predict(tiny_model("bert"), rows, windows=qp.Windows(40, 12), progress=False)
    assert [answer.id for answer in found] == rows["id"]


def make_pages(folder: Path) -> None:
    lines = []
    for number in range(3):
        tokens, candidates = page(("P", "Ann was born in Rome"), ("P", "She lives there"))
        notes = [annotation(candidates, 0, [(9, 10)])] * (1 + 4 * (number == 2))
        lines.append(json.dumps(simplified(number, tokens, candidates, notes)))
    (folder / "dev.jsonl").write_text("\n".join(lines) + "\n")


def change_lines(folder: Path, chance: random.Random) -> str:
    path = folder / "dev.jsonl"
    if chance.random() < 0.3:
        path.write_bytes(damaged(path.read_bytes(), chance))
        return "damaged"
    lines = path.read_text().splitlines()
    lines[1] = json.dumps(edited(json.loads(lines[1]), chance))
    path.write_text("\n".join(lines))
    return "edited"


def use_pages(folder: Path) -> None:
    for example in qp.load_natural_questions(folder)["dev"]:
        for note in example.annotations:
            for start, end in note.short:
                assert 0 <= start < end <= len(example.tokens)


def make_scores(folder: Path) -> None:
    qp.scorers.random(tiny_model("bert"), kinds=["attn", "ff"]).save(folder / "scores.json")


def use_scores(folder: Path) -> None:
    scores = qp.GateScores.load(folder / "scores.json")
    kept = Topology.from_scores(scores, fraction=0.5)
    assert all(0 <= kept.removed(kind) <= 100 for kind in scores.kinds())


def make_record(folder: Path) -> None:
    found = sorted((ROOT / "results").rglob("*-??????????.json"))
    source = found[len(found) // 2]
    target = folder / source.relative_to(ROOT / "results")
    target.parent.mkdir(parents=True)
    shutil.copy(source, target)


def change_record(folder: Path, chance: random.Random) -> str:
    return change_json(next(folder.rglob("*.json")), chance)


def use_record(folder: Path) -> None:
    record = read_record(next(folder.rglob("*.json")))
    assert record.id.startswith(record.name)


def make_profile(folder: Path) -> None:
    shutil.copy(ROOT / "profiles" / "embedded.yml", folder / "profile.yml")


def change_profile(folder: Path, chance: random.Random) -> str:
    import yaml

    path = folder / "profile.yml"
    match chance.choice(("edited", "edited", "edited", "damaged", "alias bomb", "tag")):
        case "edited":
            value = edited(yaml.safe_load(path.read_text()), chance)
            path.write_text(json.dumps(value))  # which is YAML
            return "edited"
        case "damaged":
            path.write_bytes(damaged(path.read_bytes(), chance))
            return "damaged"
        case "alias bomb":
            lines = ["a0: &a0 [x, x]"]
            lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
            path.write_text("\n".join(lines) + "\n" + path.read_text())
            return "alias bomb"
        case _:
            tag = "!!python/object/apply:os.mkdir [outside/exploded]"
            path.write_text(f"name: {tag}\n" + path.read_text())
            return "tag"


def use_profile(folder: Path) -> None:
    profile = read_profile(folder / "profile.yml")
    planner = Planner(profile, str(folder / "results"), str(folder / "runs"))
    for run in planner.plan({"squad2": {"attn": 0.1, "ff": 1e-3}}):
        assert run.results == str(folder / "results")
        assert run.runs == str(folder / "runs")
        place = (folder / "results" / f"{run.id}.json").resolve()
        assert place.is_relative_to(folder.resolve())


def of_one_file(name: str) -> Callable[[Path, random.Random], str]:
    return lambda folder, chance: change_json(folder / name, chance)


KINDS = {
    "stock model": Kind(lambda f: make_model(f, pruned=False), change_model, use_model),
    "pruned model": Kind(lambda f: make_model(f, pruned=True), change_model, use_model),
    "SQuAD": Kind(make_squad, of_one_file("dev-v2.0.json"), use_squad),
    "Natural Questions": Kind(make_pages, change_lines, use_pages),
    "scores": Kind(make_scores, of_one_file("scores.json"), use_scores),
    "record": Kind(make_record, change_record, use_record),
    "profile": Kind(make_profile, change_profile, use_profile),
}


def in_a_process(use: Callable[[Path], Any], folder: Path) -> str:
    """What came of it: "read", "refused" and why, or what it should not have done."""
    heard, told = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        said = "crashed"
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                use(folder)
            said = "read"
        except QapruneError as error:
            said = f"refused: {error}"
        except BaseException:
            said = traceback.format_exc(limit=-3)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > KIB:
            said = "took more than 2 GiB"
        os.write(told, said.encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(told)
    with open(heard, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return said


def attack(count: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """How often each kind was refused or read, and what should not have happened."""
    torch.set_num_threads(1)  # forks inherit no threads
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("outside", "cache", "inputs"):
            (root / folder).mkdir()
        os.environ |= {
            "EXPLODED": str(root / "outside" / "exploded"),
            "QAPRUNE_CACHE": str(root / "cache"),
        }
        good = {}
        for kind, how in KINDS.items():
            good[kind] = root / "inputs" / kind.replace(" ", "-")
            good[kind].mkdir()
            how.make(good[kind])
            came = in_a_process(how.use, good[kind])
            assert came == "read", f"{kind}: {came}"
        for number in range(count):
            chance = random.Random(f"{seed} {number}")
            kind = list(KINDS)[number % len(KINDS)]
            folder = root / "work" / "hostile"
            shutil.copytree(good[kind], folder)
            what = KINDS[kind].change(folder, chance)
            began = time.monotonic()
            came = in_a_process(KINDS[kind].use, folder)
            way = came.partition(":")[0]
            counts[kind, way if way in ("refused", "read") else "wrong"] += 1
            if way not in ("refused", "read"):
                seconds = time.monotonic() - began
                faults.append(f"{kind}, {what}, number {number}, {seconds:.0f} s: {came}")
            shutil.rmtree(root / "work")
            if list((root / "outside").iterdir()) or len(list(root.iterdir())) != 3:
                faults.append(f"{kind}, {what}, number {number}: wrote outside of its folder")
                break
    return counts, faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts, faults = attack(options.count, options.seed)
    for (kind, came), number in sorted(counts.items()):
        print(f"{kind:18} {came:8} {number}")
    print("\n".join(faults))
    return len(faults) > 0


if __name__ == "__main__":
    sys.exit(main())
