"""What figures, tables and claims read: the records of a sweep joined into frames.

A row says all that tells it from its neighbours, so whoever draws filters and groups. Imports
neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from study.linked import SETTINGS, Runs
from study.names import counted
from study.records.record import Record

KINDS = {"attn": "attention heads", "ff": "feed-forward activations", "emb": "embedding dimensions"}
"""The three kinds of gates in words."""

SCORERS = {
    "random": "random",
    "gain": "gain",
    "leave_one_out": "leave-one-out",
    "l0": "L0",
    "fisher": "Fisher",
}
"""Scorers by their names in records, as the paper writes them, in the order of its section 3.2."""

SERIES = ("profile", "provenance", "data", "model")
"""Columns that no table row and no line of a figure ever mixes."""

PLACE = (*SERIES, "data_digest", "finetune", "commit", "run")
"""Columns of every row: where its numbers come from."""

CURVE_COLUMNS = (
    *PLACE,
    *("scorer", "label", "variant", "kind", "seed", "penalty", "learning_rate", "objective"),
    *("removed", "f1", "f1_at_zero", "has_answer_f1", "own_threshold", "unpruned_f1", "loss", "n"),
    *("floor", "gate_epochs", "embedding_norm", "scored_on", "articles", "unpruned_articles"),
)

MODEL_COLUMNS = (
    *PLACE,
    *("stage", "then", "point", "kinds", "choice", "choice_seed", "scorer", "fraction"),
    *("gate_objective", "variant", "penalty_attn", "penalty_ff", "multiple", "gate_seed"),
    *("retrain_seed", "teacher", "gates_from", "weights_from", "gate_epochs", "retrain_epochs"),
    *("attn_removed", "ff_removed", "kept_attn", "kept_ff", "n_heads", "d_intermediate"),
    *("parameters", "encoder_parameters", "f1", "floor", "exact", "has_answer_f1"),
    *("no_answer_f1", "long_f1", "short_f1", "n", "articles", "seconds", "speedup"),
    *("speedup_low", "speedup_high", "macs_ratio", "size_mib", "timed_on"),
)

LAYER_COLUMNS = (*PLACE, "multiple", "gate_seed", "kind", "layer", "n_layers", "remaining")

L0_PLACE = (*SERIES, "finetune", "kind", "penalty", "seed")
L0_COLUMNS = (*L0_PLACE, *SETTINGS, "variant", "steps", "reach", "removed", "f1", "loss", "floor")
L0_COLUMNS += ("run",)

_TEXTS = {"label", "variant", "objective", "choice", "scorer", "gate_objective", "teacher"}
_TEXTS |= {"gates_from", "weights_from", "timed_on", "embedding_norm"}
"""Columns of text: what is missing there is empty."""

_NOT_NUMBERS = {*PLACE, *_TEXTS, "kind", "kinds", "seed", "own_threshold", "articles", "stage"}
_NOT_NUMBERS |= {"unpruned_articles", "then", "point", "kept_attn", "kept_ff"}
_NOT_NUMBERS |= {"parameters", "encoder_parameters"}
"""In all other columns what is missing is NaN."""


def curve_points(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each point of each sparsity curve (Figures 1 and 2), columns `CURVE_COLUMNS`.

    Shares and F1 are in percent. `f1` is the attainable F1 on `n` held-out questions, `loss` what
    it lacks of the unpruned model's, and `floor` what answering nothing scores on all held-out
    questions. `own_threshold` marks L0 at its own threshold, the paper's points; all other rows are
    cuts of one ranking. `variant` is "" for the sweep itself and names what a study changes. `seed`
    is of the gates' initial values, or of random's draw. `gate_epochs` counts the passes over all
    training questions in which L0's gates were trained, `scored_on` the questions that scored.
    """
    runs = Runs(records)
    rows = [row for record in runs.of("score") for row in points_of(runs, record)]
    return _frame(rows, CURVE_COLUMNS)


def scored_models(records: Iterable[Record], dev_set: str = "dev") -> pd.DataFrame:
    """One row for each model that was scored on dev questions, columns `MODEL_COLUMNS`.

    `dev_set` may be one of `other_dev_sets`; models without scores on it are then left out.
    `then` is "fine-tuned", "not retrained", "cross-entropy" or "distillation"; `kinds` says which
    gates were pruned ("attn", "ff", "both", "none"), `gates_from` the questions that they were
    scored on, and `weights_from` those that the weights were fine-tuned on before that; `multiple`
    is λ over the selected λ. `gate_epochs` and `retrain_epochs` count passes over all training
    questions; of gates of both kinds the fewer. On Natural Questions `f1` is that of short answers.
    `floor` is the F1 of answering nothing. Sizes are numbers of weights, removed shares and scores
    percent, `seconds` the decoding time of the model's topology at the smallest batch that was
    timed, `speedup` over the same model before it was pruned. Cells that do not apply are missing.
    Fine-tuning runs that only settings were chosen from are left out.
    """
    runs = Runs(records)
    passed_over = runs.passed_over()
    scored = [r for r in runs.of("finetune", "prune", "retrain") if r.id not in passed_over]
    rows = [_model(runs, r, dev_set) for r in scored if dev_set in _dev_sets(r)]
    return _frame(rows, MODEL_COLUMNS)


def other_dev_sets(records: Iterable[Record]) -> list[str]:
    """Names of the dev sets of Natural Questions that were scored beside the first one."""
    scored = Runs(records).of("finetune", "prune", "retrain")
    names = dict.fromkeys(name for record in scored for name in _dev_sets(record))
    return [name for name in names if name != "dev"]


def l0_runs(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each L0 run and kind of gates, at its own threshold, columns `L0_COLUMNS`.

    `variant` names the settings that most runs of the sweep do not share; `steps` were done;
    `reach` is learning rate · steps / 2, about how far Adam carries log_alpha where all gradients
    agree; `loss` is in points of F1 below the unpruned model. A joint run has a row for each kind.
    """
    runs = Runs(records)
    points = (point for record in runs.of("score") for point in points_of(runs, record))
    return pd.DataFrame([p for p in points if p["own_threshold"]], columns=list(L0_COLUMNS))


def readings(runs: pd.DataFrame, setting: str) -> pd.DataFrame:
    """The rows of `l0_runs` that have a partner equal in all but one setting, partners together."""
    if setting not in runs:
        raise KeyError(f"{setting!r} is no setting of L0; there are {', '.join(SETTINGS)}")
    others = [name for name in (*L0_PLACE, *SETTINGS) if name != setting]
    values = runs.groupby(others, dropna=False)[setting].transform("nunique", dropna=False)
    return runs[values > 1].sort_values([*L0_PLACE, setting]).reset_index(drop=True)


def by_l0(models: pd.DataFrame) -> pd.Series[bool]:
    """Which models were pruned by L0 at its own threshold."""
    return models["scorer"].eq("l0") & models["choice"].eq("scores") & models["fraction"].isna()


def own_sweep(models: pd.DataFrame) -> pd.Series[bool]:
    """Those with gates of their own questions."""
    return by_l0(models) & models["gates_from"].eq(models["data"])


def layer_shares(records: Iterable[Record]) -> pd.DataFrame:
    """The percentage remaining of each kind and layer of each pruned model (Figure 3).

    Of models of the `own_sweep`, both kinds together, no variants; layers count from 1, the one
    next to the embeddings.
    """
    models = scored_models(records)
    models = models[own_sweep(models) & models["variant"].eq("") & models["n_heads"].notna()]
    models = models[models["stage"].eq("prune") & models["kinds"].eq("both")]
    parts = []
    for kind, size in (("attn", "n_heads"), ("ff", "d_intermediate")):
        rows = models.assign(kind=kind, n_layers=models[f"kept_{kind}"].str.len())
        rows = rows.explode(f"kept_{kind}")
        share = 100 * rows[f"kept_{kind}"].astype(float) / rows[size]
        parts.append(rows.assign(layer=rows.groupby(level=0).cumcount() + 1, remaining=share))
    layers = pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)
    return layers[list(LAYER_COLUMNS)]


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame as named tuples, whose fields type checkers take as they come."""
    return iter(cast(Any, frame).itertuples(index=False))


def points_of(runs: Runs, record: Record) -> Iterator[dict[str, Any]]:
    """The points of one score run; those of L0 with the settings that it was trained with."""
    parameters, metrics = record.parameters, record.metrics
    unpruned, variant = metrics["unpruned"], runs.variant_of(record)
    is_l0, steps = parameters["scorer"] == "l0", metrics.get("training", {}).get("steps")
    tuned = runs.find(runs.finetune_of(record), record)
    label = metrics["label"]
    common = {
        **_place(runs, record),
        **({name: parameters[name] for name in SETTINGS} if is_l0 else {}),
        "steps": steps,
        "reach": parameters["learning_rate"] * steps / 2 if is_l0 else None,
        "scorer": parameters["scorer"],
        "label": label,
        "variant": variant,
        "gate_epochs": runs.epochs_of(record) if is_l0 else None,
        "scored_on": metrics["scoring"].get("questions"),
        "floor": 0.0 if tuned is None else _floor(tuned.metrics.get("heldout", {})),
        "unpruned_f1": unpruned["f1"],
        "unpruned_articles": unpruned["articles"],
    }
    for curve in metrics["curves"]:
        kind = {"kind": curve["kind"], "seed": curve["seed"]}
        if is_l0:
            penalty = parameters[f"penalty_{curve['kind']}"]
            name = f"{label} λ={penalty:g}" + (f", {variant}" if variant else "")
            kind |= {"penalty": penalty, "label": name}
        for point in curve["points"]:
            yield {
                **point,
                **common,
                **kind,
                "has_answer_f1": point.get("has_answer_f1_answered"),
                "loss": unpruned["f1"] - point["f1"],
                "n": point.get("questions") or sum(n for n, _ in point["articles"]),
            }


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    frame = frame.astype({name: float for name in columns if name not in _NOT_NUMBERS})
    texts = {name: frame[name].astype(object).fillna("") for name in columns if name in _TEXTS}
    return frame.assign(**{name: values.astype(str) for name, values in texts.items()})


def _place(runs: Runs, record: Record) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in ("profile", "provenance", "commit")},
        "data": record.parameters["data"],
        "data_digest": record.data_digest,
        "model": runs.model_of(record),
        "finetune": runs.finetune_of(record),
        "run": record.id,
    }


def _floor(scores: Mapping[str, Any]) -> float:
    """F1 of answering nothing, in percent; on Natural Questions, where F1 counts answers, 0."""
    totals = scores.get("fitted") or {}
    return 100 * totals.get("NoAns_total", 0) / totals.get("total", 1)


def _dev_sets(record: Record) -> dict[str, Any]:
    return {"dev": record.metrics["dev"], **record.metrics.get("other_dev", {})}


def _model(runs: Runs, record: Record, dev_set: str) -> dict[str, Any]:
    parameters, metrics = record.parameters, record.metrics
    place, retrained = _place(runs, record), record.stage == "retrain"
    tuned = runs.find(place["finetune"], record)
    cut = runs.find(parameters["model"], record) if retrained else record
    then = {"finetune": "fine-tuned", "prune": "not retrained"}.get(record.stage)
    dev, timing = _dev_sets(record)[dev_set], runs.timing_of(record)
    scores = dev.get("fitted") or {}
    times = ("seconds", "speedup", "speedup_low", "speedup_high", "macs_ratio", "size_mib")
    return {
        **place,
        "stage": record.stage,
        "then": then or parameters["objective"].replace("_", "-"),
        "retrain_seed": parameters["seed"] if retrained else None,
        "retrain_epochs": runs.epochs_of(record) if retrained else None,
        "teacher": (parameters["teacher"] or "").removeprefix("run:") if retrained else None,
        "weights_from": None if tuned is None else tuned.parameters["data"],
        **({} if tuned is None else tuned.metrics.get("shape", {})),
        **(_gates(runs, cut) if cut is not None and cut.stage == "prune" else _NO_GATES),
        **{name: metrics[name] for name in ("parameters", "encoder_parameters")},
        **{name: dev.get(name) for name in ("f1", "articles")},
        **{f"{name}_f1": dev.get(name, {}).get("f1") for name in ("long", "short")},
        "floor": _floor(dev),
        "exact": scores.get("exact"),
        "has_answer_f1": scores.get("HasAns_f1"),
        "no_answer_f1": scores.get("NoAns_f1"),
        "n": scores.get("total", dev.get("n_examples")),
        **{name: timing.get(name) for name in times},
        "timed_on": _timed_on(timing) if timing else None,
    }


def _timed_on(timing: Mapping[str, Any]) -> str:
    threads = counted(timing["threads"], "thread")
    windows = f"{timing['windows']:,} windows, batch size {timing['batch_size']}"
    rounds = counted(len(timing["rounds"]), "round")
    return f"{timing['device']}, {threads}, {timing['compute_dtype']}, {windows}, {rounds}"


_NO_GATES = {"point": "", "kinds": "none", "attn_removed": 0.0, "ff_removed": 0.0, "variant": ""}


def _gates(runs: Runs, pruned: Record) -> dict[str, Any]:
    parameters, metrics = pruned.parameters, pruned.metrics
    selected = runs.selected(pruned)
    kinds = [kind for kind in ("attn", "ff") if parameters[kind] is not None]
    runs_of = {kind: runs.find(parameters[kind], pruned) for kind in kinds}
    found = {kind: run for kind, run in runs_of.items() if run is not None}
    penalties = {kind: run.parameters[f"penalty_{kind}"] for kind, run in found.items()}
    multiples = {
        round(penalty / selected[kind], 4)
        for kind, penalty in penalties.items()
        if penalty is not None and selected.get(kind)
    }
    one = next((run.parameters for run in found.values()), {})
    epochs = [runs.epochs_of(run) for run in found.values()]
    return {
        "point": pruned.id,
        "kinds": "both" if len(kinds) == 2 else "".join(kinds) or "none",
        **{name: parameters[name] for name in ("choice", "choice_seed", "fraction")},
        "scorer": one.get("scorer"),
        "gate_objective": one.get("objective") if one.get("scorer") == "l0" else None,
        "gate_seed": one.get("seed"),
        "gates_from": one.get("data"),
        "gate_epochs": min((n for n in epochs if n is not None), default=None),
        "variant": next(filter(None, map(runs.variant_of, found.values())), ""),
        "multiple": multiples.pop() if len(multiples) == 1 else None,
        **{f"penalty_{kind}": penalties.get(kind) for kind in ("attn", "ff")},
        **{f"{kind}_removed": metrics["removed"][kind] for kind in ("attn", "ff")},
        **{f"kept_{kind}": metrics["kept"][kind] for kind in ("attn", "ff")},
    }
