"""Models, stock and pruned; importing this registers the pruned classes with transformers."""

from qaprune_lib.models.adopt import adopt
from qaprune_lib.models.architecture import ARCHITECTURES, Architecture, architecture_of, shape_of
from qaprune_lib.models.encoder import Encoder
from qaprune_lib.models.heads import HEADS, Head, Task, head_of
from qaprune_lib.models.load import load_model, parameter_count, weights_digest
from qaprune_lib.models.packaged import PACKAGED
from qaprune_lib.models.pruned import QuestionAnsweringModel, full_class, pruned_class
from qaprune_lib.models.shape import KINDS, ModelShape
from qaprune_lib.models.topology import Topology

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
    "Topology",
    "adopt",
    "architecture_of",
    "full_class",
    "head_of",
    "load_model",
    "parameter_count",
    "pruned_class",
    "shape_of",
    "weights_digest",
]
