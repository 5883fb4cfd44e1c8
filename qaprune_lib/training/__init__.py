"""Training: fine-tuning, and continued training with cross-entropy or distillation."""

from qaprune_lib.training.finetune import finetune, retrain
from qaprune_lib.training.objectives import CrossEntropy, Distillation
from qaprune_lib.training.settings import TrainingSettings

__all__ = ["CrossEntropy", "Distillation", "TrainingSettings", "finetune", "retrain"]
