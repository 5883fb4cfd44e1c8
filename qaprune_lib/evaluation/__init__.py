"""From model to score: decoding answers, SQuAD metrics. Imports without torch."""

from qaprune_lib.evaluation.decode import Answer, Prediction, ask, predict, window_logits
from qaprune_lib.evaluation.squad import (
    Scores,
    SquadResult,
    evaluate,
    fit_threshold,
    normalize_answer,
    per_question_f1,
    score_predictions,
)
from qaprune_lib.evaluation.timing import Timing, time_decoding

__all__ = [
    "Answer",
    "Prediction",
    "Scores",
    "SquadResult",
    "Timing",
    "ask",
    "evaluate",
    "fit_threshold",
    "normalize_answer",
    "per_question_f1",
    "predict",
    "score_predictions",
    "time_decoding",
    "window_logits",
]
