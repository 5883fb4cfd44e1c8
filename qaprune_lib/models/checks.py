"""Checks of what was loaded: a damaged or edited folder must not become a working model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.utils.hub import cached_file

from qaprune_lib.errors import ModelError, TopologyError
from qaprune_lib.models.heads import Head
from qaprune_lib.models.pruned import TOPOLOGY_FILE, QuestionAnsweringModel
from qaprune_lib.models.topology import Topology


def check_topology(source: str | os.PathLike[str], config: PretrainedConfig) -> None:
    """Check that topology.json and the configuration of a pruned model agree and make sense.

    Raises:
        ModelError: the file is missing or damaged, or contradicts the configuration.
    """
    if config.topology is None:
        raise ModelError(f"{source}: config.json holds no topology")
    try:
        file = cached_file(os.fspath(source), TOPOLOGY_FILE)
        saved, in_config = Topology.load(file or TOPOLOGY_FILE), Topology.of(config)
    except OSError as error:
        raise ModelError(f"{source}: {TOPOLOGY_FILE} is missing from the pruned model") from error
    except TopologyError as error:
        raise ModelError(f"{source}: malformed topology: {error}") from error
    if saved != in_config:
        raise ModelError(f"{source}: {TOPOLOGY_FILE} and the topology in config.json differ")


def check_weights(
    source: str | os.PathLike[str],
    model: QuestionAnsweringModel,
    report: Mapping[str, Any],
    *,
    saved: Head | None,
) -> None:
    """Check what transformers reports after loading, which it lets pass with a line in the log.

    Args:
        source, model, report: what was loaded, as what, and transformers' loading information.
        saved: the head that the source has, None of a bare encoder; what the model's head has
            beside it may be new.

    Raises:
        ModelError: weights are missing, unexpected, of a wrong shape or not finite.
    """
    missing = sorted(report["missing_keys"])
    saved_layers = () if saved is None else saved.layers
    new_layers = [layer for layer in model.head.layers if layer not in saved_layers]
    new_head = sorted(f"{layer}.{name}" for layer in new_layers for name in ("weight", "bias"))
    if missing and missing != new_head:
        lost = [name for name in missing if name not in new_head] or missing
        raise ModelError(f"{source}: {len(lost)} weights are missing, the first {lost[0]}")
    if report["mismatched_keys"]:
        name, found, expected = min(report["mismatched_keys"])
        raise ModelError(
            f"{source}: {len(report['mismatched_keys'])} weights of a wrong shape, the first "
            f"{name}: {list(found)}, where the configuration needs {list(expected)}"
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
    for name, weights in model.named_parameters():
        if not torch.isfinite(weights).all():
            raise ModelError(f"{source}: weight {name} holds values that are not finite")
