"""The errors a user can meet: each names what is wrong, where, and what to do."""

from __future__ import annotations


class QapruneError(ValueError):
    """Base of every error this library raises on purpose."""


class DataError(QapruneError):
    """Data that cannot be read or does not say what it claims to say."""


class ModelError(QapruneError):
    """A model or a model folder that is damaged, unsupported or out of reach."""


class GateError(QapruneError):
    """Masks or gate scores of the wrong shape, or masks that a model did not use."""


class TopologyError(QapruneError):
    """A topology that is malformed or belongs to a model of another shape."""


class RecordError(QapruneError):
    """A record of a run that is damaged or contradicts another."""


class SettingsError(QapruneError):
    """A parameter of a run that has no meaning: out of range, NaN, or contradictory."""


class QapruneWarning(UserWarning):
    """Done as asked, though it is likely not what was meant: the message says so in numbers."""


def check_counts(**values: object) -> None:
    """Raise SettingsError for a value that is neither None nor an integer of at least 1."""
    for name, value in values.items():
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            raise SettingsError(f"{name}={value!r} must be an integer of at least 1")
