"""The heads that stand on an encoder, one for each task.

All that a task changes in a model stands here: its layers, and the logits they give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from qaprune_lib.data.natural_questions.example import AnswerType

Task = Literal["squad", "natural_questions"]
_STOCK = "ForQuestionAnswering"


@dataclass(frozen=True)
class Head:
    """Linear layers on the encoder's hidden states, and what the model calls its logits.

    Attributes:
        task: what it answers.
        suffix: how the names of its model classes end.
        others: its layers beside the one for spans; they take what that one takes.
        positions: logits over the tokens of a window, [batch, length].
        classes: logits of a window as a whole, [batch, n_classes].
    """

    task: Task
    suffix: str
    others: tuple[str, ...] = ()
    positions: tuple[str, ...] = ("start_logits", "end_logits")
    classes: tuple[str, ...] = ()

    @property
    def logits(self) -> tuple[str, ...]:
        """All that the model gives for a window."""
        return (*self.positions, *self.classes)

    def class_name(self, question_answering: str) -> str:
        """Name of the model class, beside transformers' class for question answering."""
        return question_answering.removesuffix(_STOCK) + self.suffix


HEADS: Mapping[Task, Head] = {
    "squad": Head("squad", _STOCK),
    "natural_questions": Head(
        "natural_questions",
        "ForNaturalQuestions",
        ("answer_type_outputs",),
        classes=("answer_type_logits",),
    ),
}


def head_of(model: PreTrainedModel) -> Head:
    """The head of a model; one that transformers made has the span head alone."""
    return getattr(model, "task_head", HEADS["squad"])


@dataclass
class NaturalQuestionsOutput(QuestionAnsweringModelOutput):
    """Start and end logits [batch, length] and answer-type logits [batch, 5]."""

    answer_type_logits: Tensor | None = None


class NaturalQuestionsHead(PreTrainedModel):
    """Adds an answer-type layer on the first token to a stock model with a span layer.

    As Alberti et al. (2019): both layers read the last hidden states, there is no pooler. The
    classes are those of `AnswerType`, in its order.
    """

    task_head = HEADS["natural_questions"]
    span_layer: ClassVar[str]
    before_head: ClassVar[tuple[str, ...]]

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        spans = cast(nn.Linear, self.get_submodule(self.span_layer))
        self.answer_type_outputs = nn.Linear(spans.in_features, len(AnswerType))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any
    ) -> NaturalQuestionsOutput:
        """Logits of each window; a loss is not computed here."""
        hidden = self.base_model(input_ids, attention_mask=attention_mask, **inputs)[0]
        for name in self.before_head:
            hidden = self.get_submodule(name)(hidden)
        start, end = torch.unbind(self.get_submodule(self.span_layer)(hidden), dim=-1)
        # three axes: ONNX Runtime fails to quantise the Gemm that two of them become
        answer_type = self.answer_type_outputs(hidden[:, :1]).squeeze(1)
        return NaturalQuestionsOutput(
            start_logits=cast(Any, start.contiguous()),
            end_logits=cast(Any, end.contiguous()),
            answer_type_logits=answer_type,
        )
