"""Models that come from elsewhere: a stock one is taken in, a wrapped one is refused."""

from __future__ import annotations

import copy
from typing import Any, cast

import transformers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from qaprune_lib.errors import ModelError
from qaprune_lib.models.architecture import architecture_of
from qaprune_lib.models.checks import check_finite, check_tokenizer
from qaprune_lib.models.pruned import QuestionAnsweringModel, full_class

_PARALLEL = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel")


def adopt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> QuestionAnsweringModel:
    """A stock question-answering model of transformers as one of this library, with its tokenizer.

    Weights, modules and configuration are shared, not copied: to train one trains the other.

    Args:
        model: of transformers' own class, such as `BertForQuestionAnswering`, or pruned.
        tokenizer: the model's fast tokenizer; a copy is kept.

    Raises:
        ModelError: another class or architecture, a head without 2 outputs, weights that are not
            finite, a wrapped model, or a tokenizer that is not the model's.

    >>> from transformers import BertForQuestionAnswering
    >>> from qaprune_lib import load_model
    >>> ours = load_model("embedded-small", device="cpu")
    >>> stock = BertForQuestionAnswering(ours.config)
    >>> adopt(stock, ours.tokenizer).get_input_embeddings() is stock.get_input_embeddings()
    True
    """
    check_unwrapped(model)
    adopted = model
    if not isinstance(model, QuestionAnsweringModel):
        name = architecture_of(model.config).question_answering
        if type(model) is not getattr(transformers, name):
            raise ModelError(
                f"a {type(model).__name__} is not a {name}: save it and its tokenizer into a "
                "folder, and load_model takes its encoder from there"
            )
        target = full_class(model.config.model_type)
        adopted = target.__new__(target)
        shared = {k: copy.copy(v) for k, v in vars(model).items() if k.startswith("_")}
        vars(adopted).update({**vars(model), **shared})
    assert isinstance(adopted, QuestionAnsweringModel)
    span_layer = architecture_of(model.config).span_layer
    n_outputs = adopted.get_parameter(f"{span_layer}.weight").shape[0]
    if n_outputs != 2:
        raise ModelError(f"the model's head has {n_outputs} outputs, and a span head has 2")
    check_finite("the model", adopted)
    adopted.tokenizer = copy.deepcopy(tokenizer)
    check_tokenizer("the model", adopted, adopted.tokenizer)
    return adopted


def check_unwrapped(model: Any) -> None:
    """Refuse what stands around a model, where hooks, slices and gradients would miss it.

    Raises:
        ModelError: no model, an adapter (peft), a compiled or a parallel one.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{model!r:.80} is not a model; load_model makes one from a folder or name"
        )
    for name, module in model.named_modules():
        place = f" (at {name})" if name else ""
        if _is_of_peft(cast(Any, type(module))):
            raise ModelError(f"the model has an adapter{place}: merge it with merge_and_unload()")
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None):
            raise ModelError(f"the model is compiled{place}: pass the uncompiled model")
        if type(module).__name__ in _PARALLEL:
            raise ModelError(
                f"the model is wrapped{place} by {type(module).__name__}: pass .module"
            )


def _is_of_peft(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "peft" for base in kind.__mro__)


def check_own(model: Any) -> None:
    """Refuse all but this library's models, which carry their tokenizer.

    Raises:
        ModelError: also as `check_unwrapped`.
    """
    check_unwrapped(model)
    if not isinstance(model, QuestionAnsweringModel):
        raise ModelError(f"a {type(model).__name__} of transformers: {ADOPT}")
    check_in_torch(model)


def check_in_torch(model: Any) -> None:
    """Refuse a model whose logits come from an exported file, which knows no gates or gradients.

    Raises:
        ModelError: such a model.
    """
    if (file := getattr(model, "exported_file", None)) is not None:
        raise ModelError(f"{file} computes this model's logits: pass the model that was exported")


ADOPT = "pass qaprune_lib.adopt(model, tokenizer), or a model of load_model"
