"""`GateScores`: what every scorer returns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import Any, cast

import numpy as np
from transformers import PreTrainedModel

from qaprune_lib.cache import write_atomically
from qaprune_lib.data.tasks import QuestionData, task_of
from qaprune_lib.errors import GateError, SettingsError, short, warn
from qaprune_lib.models import KINDS, ModelShape, Topology, architecture_of
from qaprune_lib.models.encoder import untrained_layers
from qaprune_lib.models.saved import read_json

_PLAIN = {  # fields as JSON has them
    "model_type": str,
    "method": str,
    "seed": int,
    "data_digest": str,
    "settings": dict,
    "additive": bool,
}


@dataclass(frozen=True)
class GateScores:
    """Scores of gates, higher means keep; any kind absent.

    Shapes as in `Masks`: attn [n_layers, n_heads], ff [n_layers, d_intermediate],
    emb [d_embedding], float64. Slices that an already pruned model lacks score −inf.

    Attributes:
        topology: of the model that was scored: what it had then.
        model_type: its architecture, of those in `ARCHITECTURES`.
        additive: scores are estimates of a loss (gain, Fisher, leave-one-out), so that a budget
            weighs them by what a slice costs; L0's log_alpha are log-odds, net of their penalty.
        open_mean: E[γ] of each gate where gates are random (L0), for folding into the weights.

    >>> from qaprune_lib import load_model, scorers
    >>> model = load_model("embedded-small", layers=1, device="cpu")
    >>> attn, ff = (scorers.random(model, kinds=[kind]) for kind in ("attn", "ff"))
    >>> both = attn.combine(ff)
    >>> both.get("attn").shape, both.get("ff").shape
    ((1, 12), (1, 1536))
    """

    topology: Topology
    model_type: str
    method: str
    seed: int
    data_digest: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    attn: np.ndarray | None = None
    ff: np.ndarray | None = None
    emb: np.ndarray | None = None
    additive: bool = True
    open_mean: Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        if not self.kinds():
            raise GateError("scores of no kind: at least one of attn, ff and emb is needed")
        for kind in self.kinds():
            scores, expected = self.get(kind), self.shape.gates(kind)
            if scores.shape != expected:
                raise GateError(
                    f"scores {kind!r} have shape {list(scores.shape)}, not {list(expected)}"
                )
            if not (scores < np.inf).all():
                raise GateError(f"scores {kind!r} of {self.method!r} hold NaN or infinity")

    @property
    def shape(self) -> ModelShape:
        """Of the unpruned model."""
        return self.topology.shape

    @classmethod
    def of(
        cls,
        method: str,
        model: PreTrainedModel,
        scores: Mapping[str, np.ndarray],
        data: QuestionData | None = None,
        **fields: Any,
    ) -> GateScores:
        """Scores of a model by kind, −inf where a pruned model has no such slice any more."""
        return cls(
            topology=Topology.of(model),
            model_type=architecture_of(model.config).model_type,
            method=method,
            data_digest="" if data is None else task_of(data).digest(data),
            **{"seed": 0, **fields, **without_absent(model, scores)},
        )

    def kinds(self) -> list[str]:
        """The kinds of gates that were scored."""
        return [kind for kind in KINDS if getattr(self, kind) is not None]

    def get(self, kind: str) -> np.ndarray:
        """Scores of one kind.

        Raises:
            GateError: this kind was not scored.
        """
        scores = getattr(self, kind)
        if scores is None:
            raise GateError(f"there are no scores of kind {kind!r}, only of {self.kinds()}")
        return np.asarray(scores)

    def only(self, kind: str) -> GateScores:
        """Scores of one kind alone; errors as `get`."""
        self.get(kind)
        return replace(self, **cast(Any, {other: None for other in KINDS if other != kind}))

    def lists(self, kind: str) -> list[Any]:
        """Scores of one kind as JSON has them: None for a slice that the model had lost."""
        return _to_lists(self.get(kind))

    def combine(self, other: GateScores) -> GateScores:
        """Scores of both: attn of one run, ff of another (paper section 4.2.3).

        Raises:
            GateError: models of different shape, methods of different kind, or a kind in both.
        """
        both = sorted(set(self.kinds()) & set(other.kinds()))
        if both:
            raise GateError(f"both runs scored {both}; combine runs of different kinds")
        if (self.shape, self.model_type) != (other.shape, other.model_type):
            raise GateError(
                f"scores of different models: {self.model_type} of {self.shape}, and "
                f"{other.model_type} of {other.shape}"
            )
        if self.additive != other.additive:
            raise GateError(f"scores of {self.method!r} and {other.method!r} have no common scale")
        means = {**(self.open_mean or {}), **(other.open_mean or {})}
        return replace(
            self,
            topology=self.topology.combine(other.topology),
            method=self.method if self.method == other.method else f"{self.method}+{other.method}",
            settings={"combined": [dict(self.settings), dict(other.settings)]},
            open_mean=means or None,
            **cast(Any, {kind: other.get(kind) for kind in other.kinds()}),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file, atomically."""
        content = {
            "topology": self.topology.model_dump(mode="json"),
            **{name: getattr(self, name) for name in _PLAIN},
            "scores": {kind: self.lists(kind) for kind in self.kinds()},
            "open_mean": {kind: _to_lists(m) for kind, m in (self.open_mean or {}).items()},
        }
        write_atomically(path, json.dumps(content, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GateScores:
        """Read what `save` wrote.

        Raises:
            GateError: not a file of gate scores, or a damaged one.
        """
        try:
            content = read_json(path)
            fields: dict[str, Any] = {name: content[name] for name in _PLAIN}
            for name, kind in _PLAIN.items():
                if type(fields[name]) is not kind:
                    raise ValueError(
                        f"{name} is {short(fields[name])}, not of type {kind.__name__}"
                    )
            fields |= {kind: _from_lists(scores) for kind, scores in content["scores"].items()}
            return cls(
                topology=Topology(**content["topology"]),
                open_mean={k: _from_lists(m) for k, m in content["open_mean"].items()} or None,
                **fields,
            )
        except FileNotFoundError as error:
            raise GateError(f"{path}: no such file of gate scores") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise GateError(f"{path}: not a file of gate scores: {error}") from error


def _to_lists(scores: np.ndarray) -> list[Any]:
    # JSON has no infinity: null stands for the −inf of a slice that is not there any more
    found = scores.astype(object)
    found[~np.isfinite(scores)] = None
    return found.tolist()


def _from_lists(scores: list[Any]) -> np.ndarray:
    given = np.array(scores, dtype=object)
    for value in given.flat:
        if type(value) not in (int, float, NoneType):
            raise ValueError(f"{short(value)} stands where a score must")
    found = given.astype(np.float64)
    return np.where(np.isnan(found), -np.inf, found)


def without_absent(model: PreTrainedModel, scores: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Scores with −inf where a pruned model has no such slice any more."""
    topology = Topology.of(model)
    return {k: np.where(topology.mask(k), values, -np.inf) for k, values in scores.items()}


def check_kinds(kinds: Iterable[str]) -> None:
    """Check the names of kinds of gates.

    Raises:
        SettingsError: none, or an unknown one.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise SettingsError(f"kinds of gates are {list(KINDS)}, not {list(kinds)}")


def warn_if_untrained(model: PreTrainedModel) -> None:
    """Say to the caller of a scorer that the loss it goes by is one of a head never trained."""
    layers = untrained_layers(model)
    if layers:
        warn(
            f"{len(layers)} layers of the head were never trained, their biases are 0 "
            f"({', '.join(layers)}): scores by its loss mean nothing; finetune the model first"
        )
