"""Gates: masks applied to a running model, and the hard-concrete gates that learn them."""

from qaprune_lib.gates.hard_concrete import HardConcrete, PenaltyOn
from qaprune_lib.gates.masks import Masks, apply_masks

__all__ = ["HardConcrete", "Masks", "PenaltyOn", "apply_masks"]
