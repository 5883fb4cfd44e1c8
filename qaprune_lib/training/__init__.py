"""Training: fine-tuning, and continued training with cross-entropy or distillation."""

from qaprune_lib.training.objectives import CrossEntropy, Distillation
from qaprune_lib.training.settings import TrainingSettings
from qaprune_lib.training.train import finetune, retrain

__all__ = ["CrossEntropy", "Distillation", "TrainingSettings", "finetune", "retrain"]
