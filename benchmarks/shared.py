"""What all benchmarks share: ratios with their spread, records, command lines.

A benchmark is a file with a function `measure`, whose keywords are its options. It returns rows,
one for each line of the table, and whatever else its record is to hold.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from qaprune_lib.cache import write_atomically
from qaprune_lib.models import ModelShape, architecture_of, full_class, load_model
from study.benchmarks import RECORDS, benchmark_cells
from study.records.environment import environment


def clock(work: Callable[[], object]) -> Callable[[], float]:
    """Wall time of a function, with all that it gave to a GPU."""

    def seconds() -> float:
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    return seconds


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured.
        against: what it is compared with.
        rounds: the measured number in each round; `median`, `low` and `high` are of these.
        least, most: the target, either or both.
        every: each round has to meet the target, not the median alone.
        why: in one sentence, why a target is missed; said only where it is.
        unit: of the numbers; ratios have none.
        repeated: rounds that were measured again.
    """

    what: str
    against: str
    rounds: Sequence[float]
    least: float | None = None
    most: float | None = None
    every: bool = False
    why: str = ""
    unit: str = ""
    repeated: int = 0
    median: float = field(init=False)
    low: float = field(init=False)
    high: float = field(init=False)
    met: bool | None = field(init=False)

    def __post_init__(self) -> None:
        median, low, high = statistics.median(self.rounds), min(self.rounds), max(self.rounds)
        judged = (low, high) if self.every else (median, median)
        is_met = None
        if self.least is not None or self.most is not None:
            is_met = (self.least is None or judged[0] >= self.least) and (
                self.most is None or judged[1] <= self.most
            )
        found = {"median": median, "low": low, "high": high}
        for name, value in {
            **found,
            "met": is_met,
            "why": self.why if is_met is False else "",
        }.items():
            object.__setattr__(self, name, value)


class Measured(NamedTuple):
    """Rows of the table, and what else the record is to hold."""

    rows: list[Row]
    details: dict[str, Any] = {}  # noqa: RUF012


def record(measure: Callable[..., Measured], options: dict[str, Any]) -> dict[str, Any]:
    """Measure, and say all that there is to know about it in plain values."""
    begin = time.perf_counter()
    measured = measure(**options)
    return {
        "name": Path(inspect.getfile(measure)).stem,
        "options": options,
        "rows": [asdict(row) for row in measured.rows],
        **measured.details,
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - begin,
        **environment(),
    }


def main(measure: Callable[..., Measured]) -> None:
    """A benchmark's command line: an option for each keyword of `measure`; writes the record."""
    parser = argparse.ArgumentParser(
        description=inspect.getmodule(measure).__doc__,  # type: ignore[union-attr]
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keywords = inspect.signature(measure).parameters
    for name, keyword in keywords.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(keyword.default), default=keyword.default)
    parser.add_argument("--threads", type=int, default=1, help="of torch in this process")
    parser.add_argument(
        "--record", type=Path, help="a file in place of benchmarks/records/NAME.json"
    )
    given = vars(parser.parse_args())
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread, as torch
    torch.set_num_threads(given["threads"])
    made = record(measure, {name: given[name] for name in keywords})
    path = given["record"] or RECORDS / f"{made['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(made, indent=1, ensure_ascii=False) + "\n")
    print(text_table([made]))


def text_table(records: Sequence[dict[str, Any]]) -> str:
    """The table of the book's page, for a terminal."""
    cells = benchmark_cells(records)
    return str(cells.to_markdown(index=False, tablefmt="github", disable_numparse=True))


_BASE = {"n_heads": 12, "head_size": 64, "d_intermediate": 3072}
_TINY = {"n_heads": 2, "head_size": 64, "d_intermediate": 512}
SIZES: dict[str, tuple[str, int, dict[str, int]]] = {
    "bert-base": ("bert", 12, _BASE),
    "bert-tiny": ("bert", 2, _TINY),
    "mpnet-base": ("mpnet", 12, _BASE),
    "mpnet-tiny": ("mpnet", 2, _TINY),
}
"""Architecture, layers and other sizes of models with random weights: speed depends on no others.

"bert-base:6" has the first six layers.
"""


def size_of(name: str) -> tuple[str, ModelShape]:
    """Architecture and shape of one of the `SIZES`."""
    known, _, layers = name.partition(":")
    model_type, n_layers, sizes = SIZES[known]
    d_embedding = sizes["n_heads"] * sizes["head_size"]
    shape = ModelShape(n_layers=int(layers or n_layers), d_embedding=d_embedding, **sizes)
    return model_type, shape


def load(name: str, **options: Any) -> Any:
    """A model of random weights with a tokenizer of BERT's, or one that `load_model` knows."""
    if name.partition(":")[0] not in SIZES:
        return load_model(name, **options)
    model = random_model(*size_of(name), vocab_size=30522)
    model.tokenizer = load_model("embedded-small", device="cpu").tokenizer
    model.compute_dtype = options.get("compute_dtype", "float32")
    return model


def random_model(model_type: str, shape: ModelShape, **more: Any) -> Any:
    """A model of these sizes; more of its configuration in the words of the architecture."""
    names = architecture_of(model_type)
    sizes = {
        names.n_layers: shape.n_layers,
        names.n_heads: shape.n_heads,
        names.d_intermediate: shape.d_intermediate,
        names.d_embedding: shape.d_embedding,
    }
    config_class: Any = full_class(model_type).config_class
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = full_class(model_type)(config_class(**sizes, **more))
    nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    return model.eval()


def random_batch(model: Any, batch_size: int, length: int) -> dict[str, Any]:
    """Windows of random tokens, all of one length, with labels at the second token."""
    ids = torch.randint(
        1000, 2000, (batch_size, length), generator=torch.Generator().manual_seed(0)
    )
    second = torch.ones(batch_size, dtype=torch.int64)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    batch |= {"start_positions": second, "end_positions": second}
    return {name: values.to(model.device) for name, values in batch.items()}
