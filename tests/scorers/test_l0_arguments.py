"""Arguments of L0 that make no sense are named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from qaprune_lib.errors import DataError, GateError, ModelError, QapruneError, SettingsError
from qaprune_lib.scorers import GateSettings, l0
from qaprune_lib.training import Distillation, TrainingSettings
from tests.models.tiny import tiny_model
from tests.training.toy import WINDOWS, small_bert, toy_questions

MODEL, QUESTIONS = small_bert(), toy_questions(6)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"penalty": {"attn": math.nan}}, SettingsError, "nan"),
        ({"penalty": {"attn": math.inf}}, SettingsError, "inf"),
        ({"penalty": {"ff": -1e-3}}, SettingsError, "-0.001"),
        ({"penalty": {"attn": "1e-2"}}, SettingsError, "'1e-2'"),
        ({"penalty": {"heads": 0.1}}, SettingsError, "heads"),
        ({"penalty": {}}, SettingsError, "no kind"),
        ({"learning_rte": 0.1}, SettingsError, "learning_rte"),
        ({"learning_rate": math.nan}, SettingsError, "learning_rate"),
        ({"penalty_on": "both"}, SettingsError, "both"),
        ({"optimizer": "sgd"}, SettingsError, "sgd"),
        ({"initial_mean": math.inf}, SettingsError, "initial_mean"),
        ({"embedding_norm": "none", "penalty": {"emb": 0.1}}, GateError, "none"),
        ({"seed": -1}, SettingsError, "seed"),
        ({"distillation": Distillation()}, SettingsError, "teacher"),
        ({"teacher": tiny_model("bert", task="natural_questions")}, ModelError, "teacher is one"),
        ({"batch_size": 6, "accumulation": 4}, SettingsError, "multiple"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: dict[str, Any], error: type[QapruneError], words: str
) -> None:
    with pytest.raises(error, match=words):
        l0(MODEL, QUESTIONS, **{"penalty": {"attn": 0.1}, **WINDOWS, **arguments})


def test_an_empty_data_set_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        l0(MODEL, QUESTIONS.select([]), penalty={"attn": 0.1}, **WINDOWS)


def test_the_defaults_are_the_paper_s() -> None:
    settings = GateSettings()
    assert settings.training.learning_rate == 0.1
    assert settings.training.batch_size == TrainingSettings().batch_size == 24
    assert settings.training.epochs == 1
    assert (settings.penalty_on, settings.optimizer) == ("nonzero", "adam")
