"""From model to score: decoding answers, SQuAD metrics. Imports without torch."""

from qaprune_lib.evaluation.decode import Answer, Prediction, ask, predict
from qaprune_lib.evaluation.logits import stream_logits, window_logits
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    NaturalQuestionsResult,
    score_natural_questions,
    word_overlap,
    write_predictions,
)
from qaprune_lib.evaluation.natural_questions_decode import WindowLogits, decode_natural_questions
from qaprune_lib.evaluation.natural_questions_predict import (
    evaluate_natural_questions,
    predict_natural_questions,
)
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
    "NaturalQuestionsPrediction",
    "NaturalQuestionsResult",
    "Prediction",
    "Scores",
    "SquadResult",
    "Timing",
    "WindowLogits",
    "ask",
    "decode_natural_questions",
    "evaluate",
    "evaluate_natural_questions",
    "fit_threshold",
    "normalize_answer",
    "per_question_f1",
    "predict",
    "predict_natural_questions",
    "score_natural_questions",
    "score_predictions",
    "stream_logits",
    "time_decoding",
    "window_logits",
    "word_overlap",
    "write_predictions",
]
