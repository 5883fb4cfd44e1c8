"""One call that loads any model: embedded, from the Hub, from a stock or from a pruned folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from qaprune_lib.errors import ModelError, SettingsError
from qaprune_lib.models.architecture import PRUNED_PREFIX, Architecture, architecture_of, shape_of
from qaprune_lib.models.checks import check_topology, check_weights
from qaprune_lib.models.heads import HEADS, Head, Task
from qaprune_lib.models.packaged import PACKAGED
from qaprune_lib.models.pruned import ComputeDtype, QuestionAnsweringModel, full_class, pruned_class


def load_model(
    source: str | os.PathLike[str],
    *,
    task: Task | None = None,
    layers: int | Sequence[int] | None = None,
    attn_implementation: str | None = None,
    head_seed: int = 0,
    compute_dtype: ComputeDtype = "float32",
    device: str | torch.device | None = None,
) -> QuestionAnsweringModel:
    """Load a question-answering model together with its tokenizer, in evaluation mode.

    >>> model = load_model("embedded-small", device="cpu")
    >>> model.tokenizer.tokenize("Who wrote it?")
    ['who', 'wrote', 'it', '?']

    Args:
        source: one of `PACKAGED` ("embedded", "embedded-roberta", "embedded-small", "minilm",
            "mpnet-base"), a folder (stock or pruned) or a Hub id. Only safetensors are read; no
            pickle is loaded and no code of the source is run.
        task: "squad" for a span head, "natural_questions" for one of spans and answer types; by
            default what the source was saved for, and "squad" for a bare encoder. A model saved
            for "squad" gives its span layer to "natural_questions". There, a tokenizer without
            ids for the markup tokens gets them, and the model their embeddings.
        layers: keep only the first so many layers, or those of the given indices.
        attn_implementation: "sdpa" or "eager"; by default what transformers chooses. MPNet has
            "eager" only.
        head_seed: seed of all weights that the source lacks: of a head, or of markup tokens.
        compute_dtype: "float32", or "bfloat16": matrix products are computed in it, in training
            too, while weights, losses and what is saved stay in float32. Faster where the device
            has instructions for it (most GPUs, a CPU with AMX).
        device: by default the GPU if there is one.

    Raises:
        ModelError: nothing there, packages of a named model not installed, the Hub out of reach, an
            unsupported architecture, or a damaged folder: missing or truncated file, wrong shapes,
            missing, unexpected or non-finite weights.
    """
    packaged = PACKAGED.get(os.fspath(source))
    folder = packaged.locate(os.fspath(source)) if packaged else source
    config = _read_config(folder)
    try:
        architecture = architecture_of(config)
        shape_of(config)
    except (ValueError, ArithmeticError) as error:
        raise ModelError(f"{folder}: config.json: {error}") from error
    is_pruned = config.model_type.startswith(PRUNED_PREFIX)
    if is_pruned:
        check_topology(folder, config)
    saved = _saved_head(config, architecture, is_pruned)
    task = task or ("squad" if saved is None else saved.task)
    for name, value, known in (
        ("compute_dtype", compute_dtype, get_args(ComputeDtype)),
        ("task", task, HEADS),
    ):
        if value not in known:
            raise ModelError(f"{name}={value!r} is unknown; there are {', '.join(known)}")
    if saved is not None and not set(saved.layers) <= set(HEADS[task].layers):
        raise ModelError(f"{folder}: a model for {saved.task!r} has no use as one for {task!r}")
    model_class = (pruned_class if is_pruned else full_class)(architecture.model_type, task)
    tokenizer = _read_tokenizer(folder)
    if not architecture.token_types:
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]
    with _seeded(head_seed), _quiet(progress=not _is_local(folder)):
        try:
            model, report = cast(Any, model_class).from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                output_loading_info=True,
                attn_implementation=attn_implementation,
                ignore_mismatched_sizes=True,  # to name them in an error of ours
                dtype=torch.float32,
                trust_remote_code=False,
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise ModelError(_explain(folder, error)) from error
    check_weights(folder, model, report, saved=saved)
    if task == "natural_questions":
        _add_markup(model, tokenizer, head_seed)
    if layers is None and packaged is not None:
        layers = packaged.layers
    if layers is not None:
        if is_pruned:
            raise ModelError("layers= chooses among the layers of an unpruned model only")
        _keep_layers(model, layers)
    model.tokenizer, model.compute_dtype = tokenizer, compute_dtype
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return cast(QuestionAnsweringModel, model.eval())


def _saved_head(
    config: PretrainedConfig, architecture: Architecture, is_pruned: bool
) -> Head | None:
    """The head that a source says it has; a pruned model has one in any case."""
    names = [name.removeprefix("Pruned") for name in config.architectures or ()]
    for head in HEADS.values():
        if head.class_name(architecture.question_answering) in names:
            return head
    return HEADS["squad"] if is_pruned else None


def _add_markup(
    model: QuestionAnsweringModel, tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    """Ids and embeddings for the markup tokens of Natural Questions, where there are none."""
    from qaprune_lib.data.natural_questions.documents import MARKUP, markup_ids

    try:
        markup_ids(tokenizer.backend_tokenizer)
    except SettingsError:
        tokenizer.add_tokens(list(MARKUP))
        with _seeded(seed):
            n_tokens = max(model.config.vocab_size, len(tokenizer))
            model.resize_token_embeddings(n_tokens, mean_resizing=False)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers of the CPU from a seed; those of a GPU, which torch.manual_seed takes along,
    stay where they are."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def _quiet(*, progress: bool) -> Iterator[None]:
    """Silence the loading report, whose findings become errors here, and the progress bar."""
    verbosity, had_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not progress:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_progress:
            logging.enable_progress_bar()


def _is_local(source: str | os.PathLike[str]) -> bool:
    name = os.fspath(source)
    return (
        isinstance(source, Path)
        or Path(source).exists()
        or name.startswith((".", "/", "~"))
        or name.count("/") > 1
    )


def _explain(source: str | os.PathLike[str], error: Exception, what: str = "model") -> str:
    reason = str(error).strip() or type(error).__name__
    if _is_local(source):
        return f"{source}: the {what} cannot be loaded: {reason}"
    return (
        f"{source!r} is neither a folder here nor a model that the Hub gave: {reason}. Without a "
        "network, download the model elsewhere (config.json, model.safetensors and tokenizer.json)"
        f" and pass its folder, or use one of {', '.join(map(repr, PACKAGED))}"
    )


def _read_config(source: str | os.PathLike[str]) -> PretrainedConfig:
    if _is_local(source):
        folder = Path(source)
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder; a model is a folder with a config.json")
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder}: config.json is missing")
        try:
            json.loads((folder / "config.json").read_text())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ModelError(f"{folder / 'config.json'}: not valid JSON: {error}") from error
        if not list(folder.glob("*.safetensors")):
            raise ModelError(
                f"{folder}: no model.safetensors; other weight files (pytorch_model.bin) are "
                "pickles and are never loaded, convert them first"
            )
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise ModelError(_explain(source, error, "configuration")) from error


def _read_tokenizer(source: str | os.PathLike[str]) -> PreTrainedTokenizerFast:
    if _is_local(source) and not (Path(source) / "tokenizer.json").is_file():
        raise ModelError(
            f"{source}: tokenizer.json is missing; save the model's tokenizer into the same folder"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise ModelError(_explain(source, error, "tokenizer")) from error
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: only a slow tokenizer, which gives no character offsets")
    return cast(PreTrainedTokenizerFast, tokenizer)


def _keep_layers(model: QuestionAnsweringModel, layers: int | Sequence[int]) -> None:
    names = architecture_of(model.config)
    stack = list(model.base_model.get_submodule(names.layers).children())
    chosen = list(range(layers)) if isinstance(layers, int) else list(layers)
    fits = all(0 <= index < len(stack) for index in chosen)
    if not chosen or not fits or len(set(chosen)) < len(chosen):
        raise ModelError(f"layers={layers} does not fit a model of {len(stack)} layers")
    model.base_model.set_submodule(names.layers, nn.ModuleList(stack[index] for index in chosen))
    for position, index in enumerate(chosen):
        for module in stack[index].modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position  # type: ignore[assignment]
    setattr(model.config, names.n_layers, len(chosen))


def weights_digest(model: nn.Module) -> str:
    """A sha256 over names, shapes and values of all weights: the identity of a teacher.

    A model that computes in bfloat16 is another one.
    """
    is_exact = getattr(model, "compute_dtype", "float32") == "float32"
    digest = hashlib.sha256(b"" if is_exact else b"bfloat16")
    for name, weights in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def parameter_count(model: nn.Module) -> int:
    """Number of weights of a model, embeddings included."""
    return sum(weights.numel() for weights in model.parameters())
