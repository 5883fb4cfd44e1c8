"""Distillation of hidden states: each layer's output is pulled to the unpruned model's.

Beyond the paper; after TinyBERT (Jiao et al. 2020) and CoFi (Xia et al. 2022), without their maps
between layers: a pruned model has as many layers as its teacher, each in the place of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qaprune_lib.errors import SettingsError
from qaprune_lib.models import Encoder, QuestionAnsweringModel, Topology
from qaprune_lib.models.adopt import check_own
from qaprune_lib.models.sharing import frozen_copy
from qaprune_lib.training.objectives import model_inputs


class HiddenStates:
    """What the layers of a student and of its teacher give for the same windows.

    Args:
        student: pruned from the teacher.
        teacher: stays as it is; reads each batch anew, as its states are too many to keep.

    Raises:
        SettingsError: the teacher is no model that the student can have been pruned from.
        ModelError: one of them is a stock model, or a wrapped one.
    """

    def __init__(self, student: QuestionAnsweringModel, teacher: QuestionAnsweringModel) -> None:
        check_own(student)
        check_own(teacher)
        ours, theirs = Topology.of(student), Topology.of(teacher)
        same_tokens = student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
        if ours.shape != theirs.shape or ours.combine(theirs) != ours or not same_tokens:
            raise SettingsError(
                "hidden states are distilled from the model that was pruned, with the same "
                f"tokenizer: the teacher has {theirs.shape}, the model {ours.shape}"
            )
        self.student, self.teacher = student, frozen_copy(teacher)
        self.at = torch.tensor(ours.embedding_places(theirs))
        self.seen: list[Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[HiddenStates]:
        """Inside of the block each forward pass of the student leaves its states."""
        with _kept(self.student, self.seen):
            yield self

    def distance(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean over layers of Σ(student − teacher)² / Σ teacher², of each window: [batch].

        Of the student's latest forward pass, which was of this batch.
        """
        inputs = model_inputs(batch)
        device = inputs["input_ids"].device
        wanted: list[Tensor] = []
        self.teacher.to(device)  # type: ignore[arg-type]
        with torch.no_grad(), _kept(self.teacher, wanted):
            self.teacher(**inputs)
        is_token = inputs["attention_mask"][..., None].bool()
        at = self.at.to(device)
        shares = []
        for ours, theirs in zip(self.seen, wanted, strict=True):
            goal = theirs[..., at].float()
            missed = (ours.float() - goal).square().masked_fill(~is_token, 0.0).sum((1, 2))
            shares.append(missed / goal.square().masked_fill(~is_token, 0.0).sum((1, 2)))
        return torch.stack(shares).mean(0)


@contextmanager
def _kept(model: QuestionAnsweringModel, states: list[Tensor]) -> Iterator[None]:
    """A forward pass of the model leaves what each layer returns, [batch, length, d_embedding]."""

    def store(_: nn.Module, __: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(lambda *_: states.clear()).remove)
        for layer in Encoder(model).layers:
            hooks.callback(layer.register_forward_hook(store).remove)
        yield
