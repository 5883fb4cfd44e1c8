"""The paper's own numbers: those of its running text that a figure, a table or a claim needs.

Only what is printed: where the text reads a point off a figure, `figure` says which.
"""

from __future__ import annotations

from study.paper.published import Number


def _number(
    value: float,
    unit: str,
    section: str,
    words: str,
    *,
    sd: float | None = None,
    figure: int | None = None,
) -> Number:
    return Number(value=value, unit=unit, section=section, words=words, sd=sd, figure=figure)


_FIVE_SEEDS = "Averaging across five different initializations (random seeds) of gate parameters"
_LARGE = "a sample operating point for large pr(dist)"
_BASE = "a sample operating point for base+dist+pr(x-ent)"
_ENCODER = "Sizes are for (BERT-base, BERT-large)"
_SQUAD_LOSS = "nearly doubles the decoding speed, with a loss of less than 1.5 F1 points"
_NQ_LOSS = "almost doubles the inference speed … while losing less than 0.5 F1-point"

TEXT: dict[str, Number] = {
    # what the abstract promises
    "squad_loss_below": _number(1.5, "F1 points", "4.2.3", _SQUAD_LOSS),
    "nq_loss_below": _number(0.5, "F1 points", "Abstract", _NQ_LOSS),
    "bert_parameters": _number(340, "millions", "1", "BERT: 340 × 10^6"),
    # sizes of the gates
    "base_heads": _number(12, "heads a layer", "3.1", _ENCODER),
    "large_heads": _number(16, "heads a layer", "3.1", _ENCODER),
    "base_embedding": _number(768, "dimensions", "3.1", _ENCODER),
    "large_embedding": _number(1024, "dimensions", "3.1", _ENCODER),
    "base_activations": _number(3072, "activations a layer", "3.1", _ENCODER),
    "large_activations": _number(4096, "activations a layer", "3.1", _ENCODER),
    # SQuAD 2.0: setup
    "seeds": _number(5, "seeds", "4.1", "we report numbers as an average of 5 seeds"),
    "train_share": _number(90, "percent", "4.2.1", "90% … for training gates"),
    "heldout_share": _number(10, "percent", "4.2.1", "report results on the remaining 10%"),
    "base_f1": _number(75.0, "F1 points", "4.2.1", "F1 = 75.0 on the 10% dataset"),
    "large_f1": _number(84.6, "F1 points", "4.2.1", "F1 = 84.6 on the official dev set"),
    "gate_epochs": _number(1, "epochs", "4.2.1", "trained for one epoch"),
    "gate_rate_low": _number(1e-3, "learning rate", "4.2.1", "learning rates of 10^-3"),
    "gate_rate_middle": _number(1e-2, "learning rate", "4.2.1", "10^-2"),
    "gate_rate": _number(1e-1, "learning rate", "4.2.1", "and chose 10^-1"),
    "batch_size": _number(24, "examples", "4.2.1", "a minibatch size of 24"),
    "large_accumulation": _number(3, "steps", "4.2.1", "gradient accumulation of 3 steps"),
    # SQuAD 2.0: results
    "heads_removable": _number(
        48, "percent", "4.2.2", "48% pruning at a cost under 5 F1-points", figure=1
    ),
    "activations_removable": _number(
        70, "percent", "4.2.2", "70% pruning at cost under 5 F1-points", figure=2
    ),
    "operating_loss_below": _number(
        5, "F1 points", "4.2.3", "the largest values of λ^attn and λ^ff with < 5 F1-point loss"
    ),
    "squad_decoding_runs": _number(5, "runs", "4.2.3", "timings are medians of 5 decoding runs"),
    "squad_decoding_batch": _number(1, "examples", "4.2.3", "Nvidia K80 with batch size 1"),
    "retrain_epochs": _number(1, "epochs", "4.2.3", "training for an additional epoch"),
    # Natural Questions
    "bert_nq_short_f1": _number(54.7, "F1 points", "4.3.2", "BERT-large …, which achieved 54.7"),
    "roberta_nq_short_f1": _number(
        58.8, "F1 points", "4.3.2", "our RoBERTa-large model achieves 58.8"
    ),
    "roberta_lead_above": _number(4, "F1 points", "4.3.2", "over 4 F1-points better"),
    "nq_gate_share": _number(20, "percent", "4.3.2", "approximately 20% of the NQ training data"),
    "distillation_gain_x2": _number(
        2.9, "F1 points", "4.3.3", "The 2.9 F1-point gain of pruned × 2 is especially notable"
    ),
    "rounding_below": _number(
        1, "percentage points", "4.3.3", "small changes (< 1%) in reported pruning fractions"
    ),
    "nq_decoding_runs": _number(5, "runs", "4.3.3", "median of 5 decoding runs"),
    "nq_decoding_batch": _number(64, "examples", "4.3.3", "NVidia V100 … batch size 64"),
    "distilbert_nq_short_f1": _number(50.46, "F1 points", "4.3.3", "DistilBERT (50.46)", figure=4),
    "tinybert_nq_short_f1": _number(44.64, "F1 points", "4.3.3", "TinyBERT (44.64)", figure=4),
    # Natural Questions: five seeds
    "gate_seeds": _number(5, "seeds", "4.3.3", _FIVE_SEEDS),
    "large_dist_attn_removed": _number(60.0, "percent", "4.3.3", _LARGE, sd=1.0, figure=4),
    "large_dist_ff_removed": _number(71.9, "percent", "4.3.3", _LARGE, sd=0.1, figure=4),
    "large_dist_long_f1": _number(68.2, "F1 points", "4.3.3", _LARGE, sd=0.2, figure=4),
    "large_dist_short_f1": _number(56.2, "F1 points", "4.3.3", _LARGE, sd=0.2, figure=4),
    "base_pruned_attn_removed": _number(20.3, "percent", "4.3.3", _BASE, sd=1.7, figure=4),
    "base_pruned_ff_removed": _number(17.7, "percent", "4.3.3", _BASE, sd=0.4, figure=4),
    "base_pruned_long_f1": _number(68.0, "F1 points", "4.3.3", _BASE, sd=0.2, figure=4),
    "base_pruned_short_f1": _number(57.0, "F1 points", "4.3.3", _BASE, sd=0.2, figure=4),
}
"""Each printed number of the running text by a name of ours; `Number.section` says where it is."""


def of_figure(figure: int) -> dict[str, Number]:
    """What the text prints of a figure's points; empty for a figure of which it prints none."""
    return {name: number for name, number in TEXT.items() if number.figure == figure}
