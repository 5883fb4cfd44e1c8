"""Profiles: which model, data and settings fill in the experiments; one YAML file each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qaprune_lib.errors import SettingsError


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(_Part):
    """Which questions: counts are drawn at random (seed 0) where the data has more.

    `source` may be left out of the file and given on the command line.
    """

    source: str | None = None
    version: Literal["1.1", "2.0"] | None = None
    train_questions: int | None = Field(default=None, gt=0)
    heldout_questions: int | None = Field(default=None, gt=0)
    dev_questions: int | None = Field(default=None, gt=0)


class WindowSizes(_Part):
    """Sizes of windows in tokens."""

    max_length: int = Field(default=384, gt=0)
    doc_stride: int = Field(default=128, gt=0)


class CurveSettings(_Part):
    """Sparsity curves (Figures 1 and 2): scorers, shares removed, and questions that score them."""

    fractions: tuple[float, ...]
    random_seeds: int = Field(gt=0)
    score_questions: int = Field(gt=0)
    heldout_questions: int = Field(gt=0)
    leave_one_out_questions: int = Field(default=0, ge=0)
    gain_at_zero_questions: int = Field(default=0, ge=0)


class Profile(_Part):
    """One profile; see the comments in the files under `profiles/`."""

    name: str
    provenance: Literal["embedded", "measured"]
    model: str
    data: DataSettings
    windows: WindowSizes
    finetune: dict[str, Any]
    gates: dict[str, Any]
    gate_questions: int | None = None
    penalties: dict[Literal["attn", "ff"], tuple[float, ...]]
    curves: CurveSettings | None = None
    operating_points: tuple[dict[Literal["attn", "ff"], float], ...]
    retrain: dict[str, Any]
    retrain_questions: int | None = None
    timing: dict[str, Any]


def read_profile(path: str | Path, *, source: str | None = None) -> Profile:
    """Read and check a profile.

    Args:
        path: a YAML file.
        source: where the data is, in place of what the file says.

    Raises:
        SettingsError: no such file, not YAML, an unknown or missing key, a value of a wrong type.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such profile") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SettingsError(f"{path}: {where}: {first['msg']}") from error
    if source is not None:
        profile = profile.model_copy(
            update={"data": profile.data.model_copy(update={"source": source})}
        )
    if profile.data.source is None:
        raise SettingsError(f"{path}: names no data; say where it is with --data FOLDER")
    return profile
