"""What figures, tables and claims read: the records of a sweep joined into frames.

A row says all that tells it from its neighbours, so whoever draws filters and groups. Failed runs
are left out. Imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from study.linked import Runs, id_of
from study.names import counted
from study.records.record import Record

if TYPE_CHECKING:
    import pandas as pd

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

CURVE_COLUMNS = (
    *("profile", "provenance", "data", "data_digest", "model", "finetune", "scorer", "label"),
    *("variant", "kind", "seed", "penalty", "learning_rate", "objective", "removed", "f1"),
    *("f1_at_zero", "has_answer_f1", "own_threshold", "unpruned_f1", "loss", "n", "articles"),
    *("unpruned_articles", "run"),
)

MODEL_COLUMNS = (
    *("profile", "provenance", "data", "data_digest", "model", "finetune", "stage", "then"),
    *("point", "kinds", "choice", "choice_seed", "scorer", "fraction", "gate_objective"),
    *("variant", "penalty_attn", "penalty_ff", "multiple", "gate_seed", "retrain_seed", "teacher"),
    *("gates_from", "weights_from"),
    *("attn_removed", "ff_removed", "kept_attn", "kept_ff", "parameters", "encoder_parameters"),
    *("f1", "exact", "has_answer_f1", "no_answer_f1", "long_f1", "short_f1", "n", "articles"),
    *("speedup", "speedup_low", "speedup_high", "seconds", "macs_ratio", "size_mib"),
    *("timed_on", "run"),
)

LAYER_COLUMNS = (
    *("profile", "provenance", "data", "model", "multiple", "gate_seed", "kind", "layer"),
    *("n_layers", "remaining", "run"),
)

TIMING_COLUMNS = (
    *("profile", "provenance", "data", "time_run", "model", "batch_size", "questions", "device"),
    *("rounds", "seconds", "speedup", "speedup_low", "speedup_high", "macs_ratio", "parameters"),
    "size_mib",
)

_NUMBERS = {
    *("penalty", "learning_rate", "removed", "f1", "f1_at_zero", "has_answer_f1", "unpruned_f1"),
    *("loss", "fraction", "penalty_attn", "penalty_ff", "multiple", "gate_seed", "retrain_seed"),
    *("choice_seed", "attn_removed", "ff_removed", "exact", "no_answer_f1", "long_f1", "short_f1"),
    *("speedup", "speedup_low", "speedup_high", "seconds", "macs_ratio", "size_mib", "questions"),
    *("remaining", "n"),
}
"""Columns of numbers: what is missing there is NaN."""

_TEXTS = {"label", "variant", "objective", "choice", "scorer", "gate_objective", "teacher"}
_TEXTS |= {"gates_from", "weights_from", "timed_on"}
"""Columns of text: what is missing there is empty."""


def curve_points(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each point of each sparsity curve (Figures 1 and 2), columns `CURVE_COLUMNS`.

    Shares and F1 are in percent. `f1` is the attainable F1 on `n` held-out questions, and `loss`
    what it lacks of the unpruned model's. `own_threshold` marks L0 at its own threshold, the
    paper's points; all other rows are cuts of one ranking. `variant` is "" for the sweep itself
    and names what a study changes. `seed` is of the gates' initial values, or of random's draw.
    """
    runs = Runs(records)
    rows = [row for record in runs.of("score") for row in _points(runs, record)]
    return _frame(rows, CURVE_COLUMNS)


def scored_models(records: Iterable[Record], dev_set: str = "dev") -> pd.DataFrame:
    """One row for each model that was scored on dev questions, columns `MODEL_COLUMNS`.

    Args:
        records: of any sweeps.
        dev_set: name of one of `other_dev_sets`: scores are on that, and models without are left
            out.

    `then` is "fine-tuned", "not retrained", "cross-entropy" or "distillation"; `kinds` says which
    gates were pruned ("attn", "ff", "both", "none"), `gates_from` the questions that they were
    scored on, and `weights_from` those that the weights were fine-tuned on before that; `multiple`
    is λ over the selected λ. On Natural Questions `f1` is that of short answers. Sizes
    are numbers of weights, removed shares and scores percent, `seconds` the decoding time of the
    model's topology at the smallest batch that was timed, `speedup` over the same model before it
    was pruned. Cells that do not apply are missing.
    """
    runs = Runs(records)
    scored = runs.of("finetune", "prune", "retrain")
    rows = [_model(runs, r, dev_set) for r in scored if dev_set in _dev_sets(r)]
    return _frame(rows, MODEL_COLUMNS)


def other_dev_sets(records: Iterable[Record]) -> list[str]:
    """Names of the dev sets of Natural Questions that were scored beside the first one."""
    scored = Runs(records).of("finetune", "prune", "retrain")
    names = dict.fromkeys(name for record in scored for name in _dev_sets(record))
    return [name for name in names if name != "dev"]


def layer_shares(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each pruned model, kind and layer, with the percentage remaining (Figure 3).

    Of models pruned by L0 at its own threshold, both kinds together, with gates of their own
    questions as in the sweep; layers count from 1, the one next to the embeddings.
    """
    runs = Runs(records)
    rows = []
    for record in runs.of("prune"):
        model = _model(runs, record)
        finetune = runs.find(model["finetune"], record)
        at_own_threshold = model["fraction"] is None and model["choice"] == "scores"
        is_own = model["gates_from"] == model["data"] and not model["variant"]
        if finetune is None or model["kinds"] != "both" or not (at_own_threshold and is_own):
            continue
        shape: Any = finetune.metrics["shape"]
        for kind, size in (("attn", shape["n_heads"]), ("ff", shape["d_intermediate"])):
            for layer, kept in enumerate(model[f"kept_{kind}"], start=1):
                share = {"remaining": 100 * kept / size, "n_layers": shape["n_layers"]}
                rows.append({**model, **share, "kind": kind, "layer": layer})
    return _frame(rows, LAYER_COLUMNS)


def timings(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each model of each timing run, `model` being its run id."""
    runs = Runs(records)
    rows = [
        {
            **_where(record),
            **{name: record.parameters[name] for name in ("data", "batch_size")},
            "questions": record.parameters["max_questions"],
            "time_run": id_of(record),
            **timing,
            "rounds": len(timing["rounds"]),
            "model": name,
        }
        for record in runs.of("time")
        for name, timing in cast(Any, record.metrics).items()
    ]
    return _frame(rows, TIMING_COLUMNS)


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(columns))
    frame = frame.astype({name: float for name in columns if name in _NUMBERS})
    texts = {name: frame[name].astype(object).fillna("") for name in columns if name in _TEXTS}
    return frame.assign(**{name: values.astype(str) for name, values in texts.items()})


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame as named tuples, whose fields type checkers take as they come."""
    return iter(cast(Any, frame).itertuples(index=False))


def _points(runs: Runs, record: Record) -> Iterator[dict[str, Any]]:
    parameters: Any = record.parameters
    metrics: Any = record.metrics
    unpruned = metrics["unpruned"]
    is_l0 = parameters["scorer"] == "l0"
    for curve in metrics["curves"]:
        penalty = parameters[f"penalty_{curve['kind']}"] if is_l0 else None
        for point in curve["points"]:
            yield {
                **_where(record),
                "data": parameters["data"],
                "model": runs.model_of(record),
                "finetune": runs.finetune_of(record),
                "scorer": parameters["scorer"],
                "label": label_of(parameters, penalty, runs.variant_of(record)),
                "variant": runs.variant_of(record),
                "kind": curve["kind"],
                "seed": curve["seed"],
                "penalty": penalty,
                "learning_rate": parameters["learning_rate"] if is_l0 else None,
                "objective": parameters["objective"] if is_l0 else None,
                "removed": point["removed"],
                "f1": point["f1"],
                "f1_at_zero": point["f1_at_zero"],
                "has_answer_f1": point.get("has_answer_f1_answered"),
                "own_threshold": point["own_threshold"],
                "unpruned_f1": unpruned["f1"],
                "loss": unpruned["f1"] - point["f1"],
                "n": point.get("questions") or sum(n for n, _ in point["articles"]),
                "articles": point["articles"],
                "unpruned_articles": unpruned["articles"],
                "run": id_of(record),
            }


def label_of(parameters: Mapping[str, Any], penalty: float | None, variant: str) -> str:
    """Name of a curve: the scorer with what tells its curves apart."""
    name = SCORERS[parameters["scorer"]]
    if parameters["scorer"] == "l0":
        return f"{name} λ={penalty:g}" + (f", {variant}" if variant else "")
    if parameters["scorer"] == "gain":
        name += " at 0" if parameters["at"] == 0 else ""
        name += ", normalised" if parameters["normalize"] else ""
    return name


def _dev_sets(record: Record) -> dict[str, Any]:
    metrics: Any = record.metrics
    return {"dev": metrics["dev"], **metrics.get("other_dev", {})}


def _model(runs: Runs, record: Record, dev_set: str = "dev") -> dict[str, Any]:
    parameters: Any = record.parameters
    metrics: Any = record.metrics
    name = runs.finetune_of(record)
    tuned = runs.find(name, record)
    above = runs.find(parameters.get("model"), record) if record.stage == "retrain" else record
    pruned = above if above is not None and above.stage == "prune" else None
    dev = _dev_sets(record)[dev_set]
    scores = dev.get("fitted") or dev.get("at_zero") or {}
    retrained = record.stage == "retrain"
    then = {"finetune": "fine-tuned", "prune": "not retrained"}.get(record.stage)
    timing = runs.timing_of(record)
    return {
        **_where(record),
        "data": parameters["data"],
        "model": runs.model_of(record),
        "finetune": name,
        "stage": record.stage,
        "then": then or str(parameters["objective"]).replace("_", "-"),
        "retrain_seed": parameters["seed"] if retrained else None,
        "teacher": parameters["teacher"] if retrained else None,
        "weights_from": None if tuned is None else tuned.parameters["data"],
        **(_gates(runs, pruned) if pruned is not None else _NO_GATES),
        "parameters": metrics["parameters"],
        "encoder_parameters": metrics["encoder_parameters"],
        "f1": dev.get("f1"),
        "exact": scores.get("exact"),
        "has_answer_f1": scores.get("HasAns_f1"),
        "no_answer_f1": scores.get("NoAns_f1"),
        "long_f1": dev.get("long", {}).get("f1"),
        "short_f1": dev.get("short", {}).get("f1"),
        "n": scores.get("total", dev.get("n_examples")),
        "articles": dev.get("articles"),
        **{key: timing.get(key) for key in ("speedup", "speedup_low", "speedup_high")},
        **{key: timing.get(key) for key in ("seconds", "macs_ratio", "size_mib")},
        "timed_on": _timed_on(timing) if timing else None,
        "run": id_of(record),
    }


def _timed_on(timing: Mapping[str, Any]) -> str:
    threads = counted(timing["threads"], "thread")
    windows = f"{timing['windows']:,} windows, batch size {timing['batch_size']}"
    rounds = counted(len(timing["rounds"]), "round")
    return f"{timing['device']}, {threads}, {timing['compute_dtype']}, {windows}, {rounds}"


_NO_GATES = {"point": "", "kinds": "none", "attn_removed": 0.0, "ff_removed": 0.0, "variant": ""}


def _gates(runs: Runs, pruned: Record) -> dict[str, Any]:
    parameters: Any = pruned.parameters
    metrics: Any = pruned.metrics
    selected = runs.selected(pruned)
    scores: dict[str, Any] = {}
    variant = ""
    penalties: dict[str, float | None] = {"attn": None, "ff": None}
    for kind in penalties:
        found = runs.find(parameters[kind], pruned)
        if found is not None:
            scores[kind] = found.parameters
            variant = variant or runs.variant_of(found)
            penalties[kind] = scores[kind][f"penalty_{kind}"]
    multiples = {
        round(penalty / selected[kind], 4)
        for kind, penalty in penalties.items()
        if penalty is not None and selected.get(kind)
    }
    pruned_kinds = [kind for kind in penalties if parameters[kind] is not None]
    one: Any = next(iter(scores.values()), {})
    return {
        "point": id_of(pruned),
        "kinds": "both" if len(pruned_kinds) == 2 else "".join(pruned_kinds) or "none",
        "choice": parameters["choice"],
        "choice_seed": parameters["choice_seed"],
        "scorer": one.get("scorer"),
        "fraction": parameters["fraction"],
        "gate_objective": one.get("objective") if one.get("scorer") == "l0" else None,
        "variant": variant,
        "penalty_attn": penalties["attn"],
        "penalty_ff": penalties["ff"],
        "multiple": multiples.pop() if len(multiples) == 1 else None,
        "gate_seed": one.get("seed"),
        "gates_from": one.get("data"),
        "attn_removed": metrics["removed"]["attn"],
        "ff_removed": metrics["removed"]["ff"],
        "kept_attn": metrics["kept"]["attn"],
        "kept_ff": metrics["kept"]["ff"],
    }


def _where(record: Record) -> dict[str, Any]:
    return {
        "profile": record.profile,
        "provenance": record.provenance,
        "data_digest": record.data_digest,
    }
