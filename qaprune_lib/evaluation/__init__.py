"""From model to score: logits of windows, answers, metrics and times.

What is imported here scores predictions wherever numpy and pydantic are, without torch.
"""

from qaprune_lib.evaluation.n_best import RankedSpan
from qaprune_lib.evaluation.natural_questions import (
    NaturalQuestionsPrediction,
    NaturalQuestionsResult,
    score_natural_questions,
    word_overlap,
    write_predictions,
)
from qaprune_lib.evaluation.squad import (
    Prediction,
    Scores,
    SquadResult,
    fit_threshold,
    normalize_answer,
    per_question_f1,
    score_predictions,
)

__all__ = [
    "NaturalQuestionsPrediction",
    "NaturalQuestionsResult",
    "Prediction",
    "RankedSpan",
    "Scores",
    "SquadResult",
    "fit_threshold",
    "normalize_answer",
    "per_question_f1",
    "score_natural_questions",
    "score_predictions",
    "word_overlap",
    "write_predictions",
]
