"""Scorers of gates: functions that return `GateScores`, higher means keep (paper section 3.2).

Each stands in a module of this package, under the decorator `scorer`: a new one is one new file. It
is then in `SCORERS`, and a name of this package. (Those that are imported by name here are so for
type checkers.)
"""

from importlib import import_module
from pkgutil import iter_modules

from qaprune_lib.scorers.fisher import fisher
from qaprune_lib.scorers.gain import gain
from qaprune_lib.scorers.l0 import GateSettings, l0
from qaprune_lib.scorers.leave_one_out import leave_one_out
from qaprune_lib.scorers.random import random
from qaprune_lib.scorers.registry import SCORERS, Scorer, scorer
from qaprune_lib.scorers.scores import GateScores
from qaprune_lib.scorers.surgeon import surgeon

__all__ = [
    "SCORERS",
    "GateScores",
    "GateSettings",
    "Scorer",
    "fisher",
    "gain",
    "l0",
    "leave_one_out",
    "random",
    "scorer",
    "surgeon",
]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
# functions, where modules of the same names would stand
globals().update({name: entry.function for name, entry in SCORERS.items()})
