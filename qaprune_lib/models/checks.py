"""Checks of what was loaded: a damaged or edited folder must not become a working model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedTokenizerFast

from qaprune_lib.errors import ModelError, TopologyError
from qaprune_lib.models.architecture import architecture_of
from qaprune_lib.models.encoder import head_layers
from qaprune_lib.models.heads import Head
from qaprune_lib.models.pruned import TOPOLOGY_FILE, QuestionAnsweringModel
from qaprune_lib.models.topology import Topology


def check_topology(folder: Path, config: PretrainedConfig) -> None:
    """Check that topology.json and the configuration of a pruned model agree and make sense.

    Raises:
        ModelError: the file is missing or damaged, or contradicts the configuration.
    """
    if config.topology is None:
        raise ModelError(f"{folder}: config.json holds no topology")
    if not (folder / TOPOLOGY_FILE).is_file():
        raise ModelError(f"{folder}: {TOPOLOGY_FILE} is missing from the pruned model")
    try:
        saved, in_config = Topology.load(folder / TOPOLOGY_FILE), Topology.of(config)
    except TopologyError as error:
        raise ModelError(f"{folder}: malformed topology: {error}") from error
    if saved != in_config:
        raise ModelError(f"{folder}: {TOPOLOGY_FILE} and the topology in config.json differ")


def check_tokenizer(
    source: str | os.PathLike[str],
    model: QuestionAnsweringModel,
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Check that a tokenizer serves a model, and let it give what the model takes.

    Raises:
        ModelError: a slow tokenizer, one without a padding token, or one of more tokens than the
            model has embeddings.
    """
    if not tokenizer.is_fast:
        raise ModelError(f"{source}: only a slow tokenizer, which gives no character offsets")
    if tokenizer.pad_token_id is None:
        raise ModelError(f"{source}: the tokenizer has no pad token; set one and save it again")
    n_rows = len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= n_rows:
        raise ModelError(
            f"{source}: the tokenizer has ids up to {largest}, and the model embeddings for "
            f"{n_rows}: use the model's own tokenizer, or resize_token_embeddings({largest + 1})"
        )
    if not architecture_of(model.config).token_types:
        names = tokenizer.model_input_names
        tokenizer.model_input_names = [name for name in names if name != "token_type_ids"]


def check_weights(
    source: str | os.PathLike[str],
    model: QuestionAnsweringModel,
    report: Mapping[str, Any],
    *,
    saved: Head | None,
) -> tuple[list[str], list[str]]:
    """Check what transformers reports after loading, which it lets pass with a line in the log.

    Args:
        source, model, report: what was loaded, as what, and transformers' loading information.
        saved: the head that the source has, None of a bare encoder; what the model's head has
            beside it may be new.

    Returns:
        Names of weights that are new, and of those that were left out.

    Raises:
        ModelError: weights are missing, unexpected, of a wrong shape or not finite.
    """
    missing = sorted(report["missing_keys"])
    spans = architecture_of(model.config).span_layer
    saved_layers = () if saved is None else (spans, *saved.others)
    new_layers = [layer for layer in head_layers(model) if layer not in saved_layers]
    new_head = sorted(f"{layer}.{name}" for layer in new_layers for name in ("weight", "bias"))
    if missing and missing != new_head:
        lost = [name for name in missing if name not in new_head] or missing
        raise ModelError(f"{source}: {len(lost)} weights are missing, the first {lost[0]}")
    if report["mismatched_keys"]:
        name, found, expected = min(report["mismatched_keys"])
        raise ModelError(
            f"{source}: {len(report['mismatched_keys'])} weights of a wrong shape, the first "
            f"{name}: {list(found)}, where the configuration needs {list(expected)}"
            + " (a span head has 2 outputs)"
            * (name.split(".")[0] == spans)
        )
    # a bare or pretraining checkpoint brings a pooler and a language-model head, which QA drops
    encoder = tuple(f"{name}." for name, _ in model.base_model.named_children())
    unexpected = sorted(
        name
        for name in report["unexpected_keys"]
        if "pooler" not in name
        and (saved or name.removeprefix(f"{model.base_model_prefix}.").startswith(encoder))
    )
    if unexpected:
        raise ModelError(f"{source}: unexpected weights, the first {unexpected[0]}")
    check_finite(source, model)
    return missing, sorted(report["unexpected_keys"])


def check_finite(source: str | os.PathLike[str], model: nn.Module) -> None:
    """Raise ModelError for a weight that is NaN or infinite."""
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ModelError(f"{source}: weight {name} holds values that are not finite")
