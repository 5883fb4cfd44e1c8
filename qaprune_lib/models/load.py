"""One call that loads any model: embedded, from the Hub, from a stock or from a pruned folder."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args

import torch
from pydantic import ValidationError
from torch import nn
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import logging

from qaprune_lib.cache import file_digest
from qaprune_lib.data.sources import first_error
from qaprune_lib.device import device_name, has_bfloat16
from qaprune_lib.errors import ModelError, SettingsError, counts, integer, short, warn
from qaprune_lib.models.architecture import PRUNED_PREFIX, Architecture, architecture_of, shape_of
from qaprune_lib.models.checks import check_tokenizer, check_topology, check_weights
from qaprune_lib.models.folder import count_weights, is_local, local_folder, read_folder
from qaprune_lib.models.heads import HEADS, Head, Task
from qaprune_lib.models.packaged import PACKAGED
from qaprune_lib.models.pruned import ComputeDtype, QuestionAnsweringModel, full_class, pruned_class
from qaprune_lib.progress import without_bars_of_transformers

# in config.json: a span head has 2 outputs, and the arguments say how a model runs
_IGNORED = {
    *("num_labels", "id2label", "label2id", "attn_implementation", "experts_implementation"),
    *("chunk_size_feed_forward", "dtype", "torch_dtype", "name_or_path"),
    *("return_dict", "use_return_dict", "output_hidden_states", "output_attentions"),
}
_NEW_WEIGHTS = 2**24  # that a model may have beside those of its files


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
            "mpnet-base"), which are encoders whose head is new, a folder (stock or pruned) or a
            Hub id. Only safetensors are read, and files that lie in the folder; no pickle is
            loaded and no code of the source is run.
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
            has instructions for it (most GPUs, a CPU with AMX or AVX512_BF16), slower elsewhere.
        device: by default the GPU if there is one.

    Raises:
        ModelError: nothing there, packages of a named model not installed, the Hub out of reach, an
            unsupported architecture, or a damaged folder: missing or truncated file, link to
            another place, wrong shapes, absurd sizes, missing, unexpected or non-finite weights, a
            tokenizer that is not the model's.

    Warns:
        QapruneWarning: the head is new, or weights were left out: their names and number; or the
            device has no instructions for bfloat16.
    """
    if not isinstance(source, str | os.PathLike):
        raise ModelError(f"a model is loaded from a folder or by a name, not from {source!r:.80}")
    (head_seed,) = counts(least=0, most=2**63 - 1, head_seed=head_seed)
    packaged = PACKAGED.get(os.fspath(source))
    try:
        folder = packaged.locate(os.fspath(source)) if packaged else local_folder(source)
    except ModelError:
        raise
    except Exception as error:  # the Hub's client raises those of several libraries
        raise ModelError(_explain(source, error)) from error
    raw, files = read_folder(folder)
    architecture, config = _configuration(folder, raw)
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
    if saved is not None and not set(saved.others) <= set(HEADS[task].others):
        raise ModelError(f"{folder}: a model for {saved.task!r} has no use as one for {task!r}")
    model_class = (pruned_class if is_pruned else full_class)(architecture.model_type, task)
    tokenizer = _read_tokenizer(folder, config)
    with _seeded(head_seed), _quiet():
        try:
            _check_size(folder, model_class, config, files)
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
        except ModelError:
            raise
        except Exception as error:  # transformers raises all kinds for what is no model
            raise ModelError(_explain(folder, error)) from error
    new, dropped = check_weights(folder, model, report, saved=saved)
    check_tokenizer(folder, model, tokenizer)
    if packaged is None and (new or dropped):
        _say(folder, new, dropped, head_seed)
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
    if compute_dtype == "bfloat16" and not has_bfloat16(model.device):
        warn(
            f"{device_name(model.device)} has no instructions for bfloat16, so that it is several "
            'times slower than compute_dtype="float32"'
        )
    return cast(QuestionAnsweringModel, model.eval())


def _saved_head(
    config: PretrainedConfig, architecture: Architecture, is_pruned: bool
) -> Head | None:
    """The head that a source says it has; a pruned model has one in any case."""
    given = config.architectures
    listed = given if isinstance(given, list | tuple) else [given]
    names = [name.removeprefix("Pruned") for name in listed if isinstance(name, str)]
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
def _quiet() -> Iterator[None]:
    """Silence the loading report, whose findings become errors here, and the progress bar."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_bars_of_transformers():
            yield
    finally:
        logging.set_verbosity(verbosity)


def _explain(source: str | os.PathLike[str], error: BaseException, what: str = "model") -> str:
    reason = str(error).strip() or type(error).__name__
    if is_local(source):
        return f"{source}: the {what} cannot be loaded: {reason}"
    return (
        f"{source!r} is neither a folder here nor a model that the Hub gave: {reason}. Without a "
        "network, download the model elsewhere (config.json, model.safetensors and tokenizer.json)"
        f" and pass its folder, or use one of {', '.join(map(repr, PACKAGED))}"
    )


def _configuration(folder: Path, raw: dict[str, Any]) -> tuple[Architecture, PretrainedConfig]:
    """The configuration, without what says how to load and run it: that is the caller's to say."""
    refused = {"quantization_config", "transformers_weights", "per_layer_config"} & set(raw)
    if refused:
        raise ModelError(f"{folder}: config.json: {min(refused)} is not supported; save the model "
                         "in full precision, without it")  # fmt: skip
    kept = {k: v for k, v in raw.items() if k not in _IGNORED and not k.startswith("_")}
    try:
        architecture = architecture_of(str(kept.get("model_type", "without a model_type")))
        of_class = pruned_class if str(kept["model_type"]).startswith(PRUNED_PREFIX) else full_class
        config = of_class(architecture.model_type).config_class.from_dict(kept)
        shape_of(config)
    except Exception as error:  # transformers checks fields with errors of many kinds
        reason = str(error) or type(error).__name__
        if isinstance(error, ValidationError):
            reason = first_error(error)
        raise ModelError(f"{folder}: config.json: {reason}") from error
    return architecture, config


def _check_size(
    folder: Path,
    model_class: type[QuestionAnsweringModel],
    config: PretrainedConfig,
    files: list[Path],
) -> None:
    """Refuse a configuration of far more weights than the files hold, before memory is taken."""
    held = count_weights(files)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        needed = parameter_count(model_class(copy.deepcopy(config)))
    if needed > 2 * held + _NEW_WEIGHTS:
        raise ModelError(
            f"{folder}: config.json is of a model of {needed} weights, and the files hold {held}"
        )


def _read_tokenizer(folder: Path, config: PretrainedConfig) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, config=config, use_fast=True, trust_remote_code=False
        )
        tokenizer("a", "☃")
    except BaseException as error:  # the tokenizers library raises bare Exceptions, and panics
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ModelError(_explain(folder, error, "tokenizer")) from error
    return cast(PreTrainedTokenizerFast, tokenizer)


def _say(folder: Path, new: list[str], dropped: list[str], head_seed: int) -> None:
    """Warn of a head that is new and of weights that were left out."""
    said = []
    if new:
        said.append(
            f"{len(new)} weights of the head are new, drawn from head_seed={head_seed} "
            f"({', '.join(new)}): train it before you use or score it"
        )
    if dropped:
        more = ", …" * (len(dropped) > 3)
        said.append(f"{len(dropped)} weights were left out ({', '.join(dropped[:3])}{more})")
    warn(f"{folder}: {'; '.join(said)}")


def _keep_layers(model: QuestionAnsweringModel, layers: int | Sequence[int]) -> None:
    names = architecture_of(model.config)
    stack = list(model.base_model.get_submodule(names.layers).children())
    count = integer(layers)
    given: Any = layers if count is None else range(count)
    # no more than show that there are too many
    found = list(islice(given, len(stack) + 1)) if isinstance(given, Iterable) else []
    numbers = map(integer, found)
    chosen = [index for index in numbers if index is not None and 0 <= index < len(stack)]
    if not chosen or len(chosen) < len(found) or len(set(chosen)) < len(chosen):
        raise ModelError(f"layers={short(layers)} does not fit a model of {len(stack)} layers")
    model.base_model.set_submodule(names.layers, nn.ModuleList(stack[index] for index in chosen))
    for position, index in enumerate(chosen):
        for module in stack[index].modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position  # type: ignore[assignment]
    setattr(model.config, names.n_layers, len(chosen))


def weights_digest(model: nn.Module) -> str:
    """A sha256 over names, shapes and values of all weights: the identity of a teacher.

    A model that computes in bfloat16 is another one, and so is one that an exported file computes.
    """
    is_exact = getattr(model, "compute_dtype", "float32") == "float32"
    digest = hashlib.sha256(b"" if is_exact else b"bfloat16")
    for name, weights in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    if (exported := getattr(model, "exported_file", None)) is not None:
        digest.update(file_digest(Path(exported)).encode())
    return digest.hexdigest()


def parameter_count(model: nn.Module) -> int:
    """Number of weights of a model, embeddings included."""
    return sum(weights.numel() for weights in model.parameters())
