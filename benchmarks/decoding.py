"""From questions to answers, against the usual example script for question answering.

The rival is what the examples of transformers do: the tokenizer cuts all pairs of question and
context with padding to 384 tokens, the model reads 8 of them at a time, and for each question a
loop in Python looks through the 20 best starts and ends of its windows. Both begin at the text.
The answers must be the same. The model is trained for some steps first, as answers of an untrained
head are decided by rounding.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, clock, load, main
from qaprune_lib.evaluation.logits import features_for
from qaprune_lib.evaluation.rounds import in_turns

LENGTH, STRIDE, N_BEST, MAX_ANSWER_LENGTH = 384, 128, 20, 30


def usual_script(model: Any, questions: Dataset, batch_size: int) -> list[str]:
    """The best answer to each question, as `run_qa.py` of transformers finds it."""
    windows = model.tokenizer(
        questions["question"][:],
        questions["context"][:],
        truncation="only_second",
        max_length=LENGTH,
        stride=LENGTH - STRIDE,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length",
    )
    owners = windows.pop("overflow_to_sample_mapping")
    offsets = windows.pop("offset_mapping")
    start_logits, end_logits = [], []
    with torch.inference_mode():
        for first in range(0, len(owners), batch_size):
            part = slice(first, first + batch_size)
            batch = {
                name: torch.tensor(rows[part]).to(model.device) for name, rows in windows.items()
            }
            output = model(**batch)
            start_logits.append(output.start_logits.cpu().numpy())
            end_logits.append(output.end_logits.cpu().numpy())
    start_logits, end_logits = np.concatenate(start_logits), np.concatenate(end_logits)
    of_question = defaultdict(list)
    for window, owner in enumerate(owners):
        of_question[owner].append(window)
    answers = []
    for question, context in enumerate(questions["context"][:]):
        found = []
        for window in of_question[question]:
            is_context = [number == 1 for number in windows.sequence_ids(window)]
            start, end, places = start_logits[window], end_logits[window], offsets[window]
            for first in np.argsort(start)[-1 : -N_BEST - 1 : -1].tolist():
                for last in np.argsort(end)[-1 : -N_BEST - 1 : -1].tolist():
                    if not (is_context[first] and is_context[last]):
                        continue
                    if last < first or last - first + 1 > MAX_ANSWER_LENGTH:
                        continue
                    found.append((start[first] + end[last], places[first][0], places[last][1]))
        _, begin, stop = max(found, key=lambda span: span[0], default=(0.0, 0, 0))
        answers.append(context[begin:stop])
    return answers


def measure(
    *,
    model: str = "embedded",
    questions: int = 96,
    batch_size: int = 8,
    training_steps: int = 20,
    rounds: int = 3,
) -> Measured:
    """Seconds of both, in turns."""
    squad = qp.load_squad("embedded")
    trained = qp.finetune(
        load(model), squad["train"], max_steps=training_steps, batch_size=16, learning_rate=3e-4
    )
    step = len(squad["dev"]) // questions
    some = squad["dev"].select(range(0, step * questions, step))

    def ours() -> list[str]:
        with tempfile.TemporaryDirectory() as folder:  # windows are cut again in every round
            found = qp.predict(trained, some, cache_dir=Path(folder), progress=False)
        return [answer.text for answer in found]

    def theirs() -> list[str]:
        return usual_script(trained, some, batch_size)

    same = sum(a == b for a, b in zip(ours(), theirs(), strict=True))
    if same < len(some):
        raise AssertionError(f"only {same} of {len(some)} answers are the same")
    found = in_turns([clock(ours), clock(theirs)], rounds, warm_up=0)
    lengths = features_for(trained, some)["length"][:]
    topology = qp.Topology.of(trained)
    limit = topology.macs(LENGTH) / (sum(map(topology.macs, lengths)) / len(lengths))
    row = Row(
        f"the usual example script (padded to {LENGTH}, batch {batch_size})",
        f"decoding, text in, answers out ({model}, {questions} questions, same answers)",
        found.ratios(1),
        least=4.0,
        why=f"of the rival's multiply-accumulates all but 1 / {limit:.1f} are padding, and a model "
        "without padding cannot save more; cutting windows for so few questions takes its part",
        repeated=found.repeated,
    )
    return Measured([row], {"same_answers": same, "macs_ratio": limit})


if __name__ == "__main__":
    main(measure)
