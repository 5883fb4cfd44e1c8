"""Models, stock and pruned; importing this registers the pruned classes with transformers."""

from qaprune_lib.models.encoder import (
    ARCHITECTURES,
    Architecture,
    Encoder,
    architecture_of,
    kept_slices,
    shape_of,
)
from qaprune_lib.models.heads import HEADS, Head, Task, head_of
from qaprune_lib.models.packaged import PACKAGED
from qaprune_lib.models.pruned import QuestionAnsweringModel, full_class, pruned_class
from qaprune_lib.models.shape import KINDS, ModelShape
from qaprune_lib.models.zoo import load_model, parameter_count, weights_digest

__all__ = [
    "ARCHITECTURES",
    "HEADS",
    "KINDS",
    "PACKAGED",
    "Architecture",
    "Encoder",
    "Head",
    "ModelShape",
    "QuestionAnsweringModel",
    "Task",
    "architecture_of",
    "full_class",
    "head_of",
    "kept_slices",
    "load_model",
    "parameter_count",
    "pruned_class",
    "shape_of",
    "weights_digest",
]
