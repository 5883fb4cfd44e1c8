"""Natural Questions, checked while it streams by: from files, the Hub or the generated corpus."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from qaprune_lib.cache import file_digest
from qaprune_lib.data.arrow_cache import kept_dataset
from qaprune_lib.data.embedded.annotations import PAGES, EmbeddedPages
from qaprune_lib.data.files import Split, files_by_split, max_bytes, open_plain, split_of, too_large
from qaprune_lib.data.natural_questions.example import Example
from qaprune_lib.data.natural_questions.hub import DOWNLOAD, open_hub
from qaprune_lib.data.natural_questions.schema import read_example
from qaprune_lib.data.sources import Fault, Faults, OnBad, check_source, may_be_hub_id
from qaprune_lib.errors import DataError, SettingsError, counts, real, short

_SPAN = {"start": Value("int32"), "end": Value("int32")}
NATURAL_QUESTIONS_FEATURES = Features(
    {
        "id": Value("int64"),
        "question": Value("string"),
        "text": Value("string"),
        "candidates": List(_SPAN | {"top_level": Value("bool")}),
        "annotations": List({"long": _SPAN, "short": List(_SPAN), "yes_no": Value("string")}),
        "html": List(Value("int32")),
    }
)
_BLANK_LINES = 1000  # of a file: a packed file without end is soon found out
_ROWS = 200  # examples that are written to disk together


class NaturalQuestions:
    """Examples of one split, read and checked anew in each pass.

    A pass holds one document and the ids seen so far in memory. After a pass, ``n_examples`` says
    how many came of it, also of samples that are drawn from then on, and ``faults`` what was wrong.

    Args:
        source: has ``name``, ``digest()`` and ``raw_examples()``, each with a place to name.
        on_bad: what to do about a bad example.
        samples: shares that are drawn, and the seeds that draw them.
    """

    def __init__(
        self, source: Any, on_bad: OnBad = "raise", samples: tuple[tuple[float, int], ...] = ()
    ) -> None:
        self.source, self.on_bad, self.samples = source, on_bad, samples
        self.faults = Faults(on_bad)
        self._ids: tuple[int, ...] = ()  # of the last whole pass

    @property
    def n_examples(self) -> int:
        """How many came of the last whole pass, or are drawn of it; 0 before one."""
        return len(self._ids)

    def __iter__(self) -> Iterator[Example]:
        """Yield the examples in order; raises DataError naming file, line, example and fault."""
        ids: set[int] = set()
        drawn: list[int] = []
        faults = Faults(self.on_bad)
        for place, raw in self.source.raw_examples():
            try:
                example = read_example(raw)
                if example.id in ids:
                    raise Fault("an earlier example has the same id", example.id)
            except Fault as fault:
                identity = "" if fault.identity is None else f", example {short(fault.identity)}"
                faults.add(f"{place}{identity}: {fault.what}.")
                continue
            ids.add(example.id)
            if self._is_drawn(example.id):
                drawn.append(example.id)
                yield example
        self.faults, self._ids = faults, tuple(drawn)
        faults.report(self.source.name, len(ids))
        if not drawn:
            raise DataError(f"{self.source.name}: none of the {len(ids)} examples is drawn")

    def sample(self, share: float, *, seed: int = 0) -> NaturalQuestions:
        """About this share of the examples, each drawn by its id and the seed alone.

        A larger share of one seed holds the smaller ones; a share of a share is their product.
        Raises SettingsError for a share that is not in (0, 1].
        """
        if not 0 < (number := real(share)) <= 1:
            raise SettingsError(f"share={short(share)} must be more than 0 and at most 1")
        (seed,) = counts(least=0, seed=seed)
        shares = {seed: share for share, seed in self.samples}
        shares[seed] = number * shares.get(seed, 1.0)
        samples = tuple((share, seed) for seed, share in shares.items())
        made = NaturalQuestions(self.source, self.on_bad, samples)
        made._ids = tuple(filter(made._is_drawn, self._ids))
        return made

    def _is_drawn(self, identity: int) -> bool:
        # 1: other numbers than those that draw an example's null windows
        return all(
            np.random.default_rng((seed, identity % 2**64, 1)).random() < share
            for share, seed in self.samples
        )

    def digest(self) -> str:
        """SHA-256 (hex) of what the examples are read from, and which of them are drawn."""
        parts = f"{self.source.digest()} {self.on_bad}" + f" {self.samples}" * bool(self.samples)
        return hashlib.sha256(parts.encode()).hexdigest()

    def dataset(self, cache_dir: Path | None = None) -> Dataset:
        """The examples as rows on disk, to look up or to sample; kept like `make_features`'.

        Columns are the fields of `Example`; an annotation without a long answer has null there.
        """
        features, tables = NATURAL_QUESTIONS_FEATURES, self._tables()
        return kept_dataset("examples", {"data": self.digest()}, features, tables, cache_dir)

    def _tables(self) -> Iterator[pa.Table]:
        examples = iter(self)
        while rows := [_row(example) for example in islice(examples, _ROWS)]:
            yield pa.Table.from_pylist(rows, schema=NATURAL_QUESTIONS_FEATURES.arrow_schema)


def load_natural_questions(
    source: str | Path | Sequence[str | Path],
    *,
    split: Split | None = None,
    on_bad: OnBad = "raise",
) -> dict[str, NaturalQuestions]:
    """Open Natural Questions, to be read as a stream.

    Args:
        source: ``"embedded"`` (the generated corpus); a folder with official ``*.jsonl[.gz]``
            files, simplified or original, in shards or whole; one such file or several; or a Hub
            id such as ``"natural_questions"``. A file is of the split that a word of its name
            says, as for `load_squad`.
        split: of all files that are given, whatever their names.
        on_bad: what to do about a bad example: raise, or drop it, and warn once per pass with the
            count. A fault of a whole file, such as a truncated gzip file, always raises.

    Returns:
        The splits that exist among ``train`` and ``dev``.

    Raises:
        DataError: no such file, several data sets in one folder, or a Hub out of reach; what is
            wrong inside of a file shows while the examples are read.
        SettingsError: an argument out of range.

    >>> example = next(iter(load_natural_questions("embedded")["dev"]))
    >>> example.question, len(example.candidates), len(example.annotations)
    ('What is the height of Stockcliff Lighthouse?', 18, 5)
    """
    if on_bad not in get_args(OnBad):
        raise SettingsError(f"on_bad={on_bad!r} is unknown; choose one of {get_args(OnBad)}")
    if source == "embedded":
        return {split: NaturalQuestions(EmbeddedPages(split)) for split in PAGES}
    if isinstance(source, list | tuple) and source:
        files = [Path(os.path.expanduser(file)) for file in source]
    else:
        check_source(source, "load_natural_questions")
        path = Path(os.path.expanduser(cast(str, source)))
        if os.path.isdir(path):
            files = files_of_folder(path)
        elif os.path.exists(path) or not may_be_hub_id(cast(str, source)):
            files = [path]
        else:
            return {
                part: NaturalQuestions(rows, on_bad) for part, rows in open_hub(str(source)).items()
            }
    splits: dict[str, list[Path]] = {}
    for file in files:
        if not os.path.exists(file):
            raise DataError(f"{str(file)[:1000]}: no such file or folder; {DOWNLOAD}")
        splits.setdefault(split_of(file, split), []).append(file)
    return {part: NaturalQuestions(_Files(paths), on_bad) for part, paths in splits.items()}


@dataclass(frozen=True)
class _Files:
    paths: list[Path]

    @property
    def name(self) -> str:
        return ", ".join(map(str, self.paths))

    def raw_examples(self) -> Iterator[tuple[str, bytes]]:
        limit = max_bytes()
        for path in self.paths:
            n_blank = 0
            with open_plain(path) as file:
                for number, line in enumerate(iter(lambda: file.readline(limit + 1), b""), 1):
                    if len(line) > limit:
                        raise too_large(f"{path}: line {number}")
                    content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                    if not content.isspace():
                        yield f"{path}: line {number}", content
                        continue
                    n_blank += 1
                    if n_blank > _BLANK_LINES:
                        raise DataError(f"{path}: more than {_BLANK_LINES} blank lines")

    def digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                state = path.stat()
                digest.update(bytes.fromhex(_known_digest(path, state.st_size, state.st_mtime_ns)))
            except OSError as error:
                raise DataError(f"{path}: cannot be read: {error}") from error
        return digest.hexdigest()


@lru_cache(maxsize=1000)
def _known_digest(path: Path, *_: int) -> str:
    """Of a file that is read again once its size or its time of change is another."""
    return file_digest(path)


def _row(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "question": example.question,
        "text": example.text,
        "candidates": [candidate._asdict() for candidate in example.candidates],
        "annotations": [
            {
                "long": annotation.long and annotation.long._asdict(),
                "short": [span._asdict() for span in annotation.short],
                "yes_no": annotation.yes_no,
            }
            for annotation in example.annotations
        ],
        "html": example.html,
    }


def files_of_folder(folder: Path) -> list[Path]:
    """The shards of at most one training and one dev set."""
    found = files_by_split(
        folder,
        (".jsonl", ".jsonl.gz"),
        shard=r"\d+",
        instead="pass the path of a file, or the list of the files that belong together",
    )
    return sorted(file for files in found.values() for file in files)
