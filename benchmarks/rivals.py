"""Torch-Pruning and this library on one model, at the same share of the arithmetic: F1 and speed.

Torch-Pruning ranks heads and activations by its first-order Taylor importance, all layers together,
from the gradients of the same training questions as this library takes. Hidden dimensions stay.
What it kept is read off its sliced matrices, sliced here too, and checked to give the same logits,
so that both are scored and timed by the same code. With `retraining_steps`, Torch-Pruning's model
and ours are distilled too, both from the unpruned one and in the same steps.

The embedded model is fine-tuned first. For a model and questions of your own:
`python -m benchmarks.rivals --model FOLDER --questions FOLDER --training-steps 0`
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

import qaprune_lib as qp
from benchmarks.shared import Measured, Row, load, main
from qaprune_lib.data.tasks import task_of
from qaprune_lib.evaluation.logits import collator_of, features_for
from qaprune_lib.models import Encoder, weights_digest

TOLERANCE = 1e-4
"""Largest difference of a logit between Torch-Pruning's sliced model and the one sliced here."""


def add_gradients(model: Any, rows: Any, windows: qp.Windows, batch_size: int = 8) -> None:
    """Add up the gradients of the loss over the questions' windows in the weights."""
    features = features_for(model, rows, windows, training=True)
    collate = collator_of(model)
    for first in range(0, len(features), batch_size):
        rows = features.select(range(first, min(first + batch_size, len(features))))
        batch = collate(rows.to_list()).items()
        model(**{name: values.to(model.device) for name, values in batch}).loss.backward()


def torch_pruning(model: Any, whole: qp.Topology, share: float, length: int) -> qp.Topology:
    """What Torch-Pruning keeps of a model with gradients, at most this share of the arithmetic."""
    low, high = 0.0, 1.0
    kept = whole
    while high - low > 0.002 or kept is whole:
        ratio = (low + high) / 2
        found = _at_ratio(model, ratio)
        if found.macs(length) <= share * whole.macs(length):
            kept, high = found, ratio
        else:
            low = ratio
    return kept


def _at_ratio(model: Any, ratio: float) -> qp.Topology:
    """What stays where this share of the heads goes, and of the activations."""
    import torch_pruning as tp

    sliced = copy.deepcopy(model)
    for ours, theirs in zip(model.parameters(), sliced.parameters(), strict=True):
        theirs.grad = ours.grad
    layers = Encoder(sliced).layers
    heads = {
        projection: model.config.num_attention_heads
        for layer in layers
        for projection in (
            layer.attention.self.query,
            layer.attention.self.key,
            layer.attention.self.value,
        )
    }
    wide = [layer.intermediate.dense for layer in layers]
    others = [
        module
        for module in sliced.modules()
        if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm)
        and module not in {*heads, *wide}
    ]
    ids = torch.arange(1000, 1016, device=model.device)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            sliced,
            example_inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            importance=tp.importance.TaylorImportance(),
            global_pruning=True,
            pruning_ratio=ratio,
            head_pruning_ratio=ratio,
            prune_num_heads=True,
            prune_head_dims=False,
            num_heads=heads,
            ignored_layers=others,
            output_transform=lambda output: output.start_logits.sum() + output.end_logits.sum(),
        )
        pruner.step()
    kept = _kept(model, sliced)
    same = qp.prune(model, kept)
    with torch.inference_mode():
        ours, theirs = (each(input_ids=ids).start_logits for each in (same, sliced))
    if not (ours - theirs).abs().max() <= TOLERANCE * max(1.0, float(theirs.abs().max())):
        raise AssertionError("Torch-Pruning's model and its topology, sliced here, differ")
    return kept


def _kept(model: Any, sliced: Any) -> qp.Topology:
    """Which heads and activations a sliced copy of a model has left, by their rows of weights."""
    shape = Encoder(model).shape
    masks = {kind: np.zeros(shape.gates(kind), bool) for kind in ("attn", "ff")}
    layers = zip(Encoder(model).layers, Encoder(sliced).layers, strict=True)
    for number, (full, part) in enumerate(layers):
        for kind, of in (
            ("attn", lambda layer: layer.attention.self.query),
            ("ff", lambda layer: layer.intermediate.dense),
        ):
            before, after = (of(layer).weight.detach().cpu().numpy() for layer in (full, part))
            place = {row.tobytes(): at for at, row in enumerate(before)}
            rows = [place[row.tobytes()] for row in after]
            masks[kind][number, np.array(rows) // (len(before) // masks[kind].shape[1])] = True
    return qp.Topology.from_masks(shape, masks)


def measure(
    *,
    model: str = "embedded-small",
    questions: str = "embedded",
    version: str = "",
    training_steps: int = 300,
    retraining_steps: int = 0,
    learning_rate: float = 3e-4,
    compute_dtype: str = "float32",
    share: float = 0.5,
    scored: int = 1000,
    judged: int = 1000,
    length: int = 192,
    rounds: int = 5,
) -> Measured:
    """F1 lost and speed of models at one share of the multiply-accumulates."""
    windows = qp.Windows(384, 128)
    splits = qp.load_squad(questions, version=version or None)  # type: ignore[arg-type]
    train, heldout, dev = (splits[name] for name in ("train", "heldout", "dev"))
    some = task_of(dev).some
    whole = load(model, compute_dtype=compute_dtype)
    if training_steps:
        whole = qp.finetune(whole, train, max_steps=training_steps, windows=windows)
    few, judges, dev = some(train, scored), some(heldout, judged), some(dev, judged)
    topology = qp.Topology.of(whole)

    add_gradients(whole, few, windows)
    rival = torch_pruning(whole, topology, share, length)
    whole.zero_grad()
    budget = qp.MACs(share, length=length)
    fisher, surgeon = (
        qp.Topology.from_scores(score(whole, few, windows=windows), budget=budget)
        for score in (qp.scorers.fisher, qp.scorers.surgeon)
    )
    models = {
        "Torch-Pruning, Taylor": qp.prune(whole, rival),
        "Torch-Pruning, Taylor, and our reconstruction": qp.prune(whole, rival, reconstruct=few),
        "ours, Fisher": qp.prune(whole, fisher),
        "ours, Fisher and reconstruction": qp.prune(whole, fisher, reconstruct=few),
        "ours, brain surgeon": qp.prune(whole, surgeon),
        "ours, brain surgeon and reconstruction": qp.prune(whole, surgeon, reconstruct=few),
    }
    if retraining_steps:
        batch_size = 16
        taught = some(train, min(len(train), retraining_steps * batch_size))
        for name in ("Torch-Pruning, Taylor", "ours, brain surgeon and reconstruction"):
            models[f"{name}, distilled"] = qp.retrain(
                models[name], taught, teacher=whole, windows=windows, dropout=False,
                epochs=1000, max_steps=retraining_steps, batch_size=batch_size,
                learning_rate=learning_rate,
            )  # fmt: skip

    def f1(each: Any) -> float:
        fitted = qp.evaluate(each, dev, threshold_from=judges, windows=windows).fitted
        assert fitted is not None
        return fitted.f1

    before = f1(whole)
    times = qp.time_decoding([whole, *models.values()], dev, repeats=rounds, windows=windows)
    rows, found = [], {}
    for (name, each), time in zip(models.items(), times[1:], strict=True):
        at, of = qp.Topology.of(each), f"unpruned, F1 {before:.1f} on {len(dev)} questions"
        macs = at.macs(length) / topology.macs(length)
        found[name] = {
            "macs": macs,
            "f1": f1(each),
            **{kind: at.removed(kind) for kind in ("attn", "ff")},
        }
        what = f"{name}, {macs:.2f} of MACs"
        ratios = [a / b for a, b in zip(times[0].rounds, time.rounds, strict=True)]
        rows.append(Row(f"F1 lost: {what}", of, [before - found[name]["f1"]]))
        rows.append(Row(f"speed: {what}", "unpruned, batch 1", ratios, repeated=time.repeated))
    details = {"weights": weights_digest(whole), "f1": before, "models": found}
    return Measured(rows, details)


if __name__ == "__main__":
    main(measure)
