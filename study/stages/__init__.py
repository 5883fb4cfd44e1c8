"""The stages of an experiment: what their notebooks call."""
