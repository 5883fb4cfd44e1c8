"""Scorers of gates: functions that return `GateScores`, higher means keep (paper section 3.2)."""

from qaprune_lib.scorers.fisher import fisher
from qaprune_lib.scorers.gain import gain
from qaprune_lib.scorers.l0 import GateSettings, l0
from qaprune_lib.scorers.leave_one_out import leave_one_out
from qaprune_lib.scorers.random import random
from qaprune_lib.scorers.scores import GateScores

__all__ = ["GateScores", "GateSettings", "fisher", "gain", "l0", "leave_one_out", "random"]
