"""From model to score: logits of windows, answers, metrics and times."""
