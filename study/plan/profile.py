"""Profiles: which models, questions and settings fill in the experiments; one YAML file each."""

from __future__ import annotations

import json
import os
import re
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from qaprune_lib.errors import SettingsError
from study.plan.origin import check_origin, files_of, origin_of
from study.plan.parameters import STAGES, Count, Share, TaskName, Version
from study.plan.recipe import Changes, Recipe, Settings, changed, explain
from study.plan.strict_yaml import read_yaml
from study.records.record import Provenance, Word, read_text

LARGEST = 2**17
"""Bytes of a profile's file."""


def _inside(folder: str) -> str:
    """A path that leads nowhere else, wherever it begins."""
    if Path(folder).is_absolute() or ".." in Path(folder).parts or "\0" in folder:
        raise ValueError(f"{folder!r} leads out of the folder of the questions")
    return folder


_HERE = ("embedded", "embedded-small", "embedded-roberta", "minilm", "mpnet-base")
_HUB = ("bert-base-uncased", "bert-large-uncased", "roberta-base", "roberta-large")
POSITIONS = dict.fromkeys((*_HERE, *_HUB), 512)
"""How many tokens the models of the profiles here take: to be known without loading them."""


class Resources(BaseModel, frozen=True, extra="forbid"):
    """What one run of a stage needs; the graph hands it to the machine or to the cluster.

    A run with as many `threads` as the machine has cores runs alone there: timing asks for that.
    """

    threads: Count = 1
    gpu: int = Field(default=0, ge=0)
    mem_mb: Count = 6000
    minutes: Count = 120


class Data(BaseModel, frozen=True, extra="forbid"):
    """Questions of one name; counts are drawn at random (seed 0) where the data has more.

    Attributes:
        after: name of the data that models are trained on before.
        source: may be left out of the file and given where the graph is run; `folder` is a part of
            that folder.
        origin: digest of the files, as `origin_of` gives it: other files are an error then, and
            the profile's runs can be named where the files are not at hand.
        about: what has to be said beside every number that comes from them.
        recipe: what these data change of the profile's recipe.
    """

    task: TaskName = "squad"
    after: Word | None = None
    source: str | None = None
    origin: str = ""
    folder: Annotated[str, AfterValidator(_inside)] = ""
    about: str = ""
    version: Version | None = None
    train_files: list[str] = []
    dev_files: list[str] = []
    null_rate: Share | None = None
    train_questions: Count | None = None
    heldout_questions: Count | None = None
    dev_questions: Count | None = None
    recipe: Settings = {}

    def located(self, place: str | None) -> Data:
        """With its source, and the origin of that; without one if only a pinned origin is known."""
        source = self.source
        if source is None and place is not None:
            source = str(Path(place) / self.folder)
            if not os.path.exists(Path(source).expanduser()):
                if self.origin:
                    return self
                raise SettingsError(f"{source}: no such file or folder of questions")
        if source is None:
            return self
        here = self.model_copy(update={"source": source})
        origin = origin_of(source, here.files())
        check_origin(source, origin, self.origin)
        return here.model_copy(update={"origin": origin})

    def files(self) -> list[Path]:
        """The files of the source; see `files_of`."""
        named = [*self.train_files, *self.dev_files]
        return files_of(str(self.source), self.task, version=self.version, files=named)

    def parameters(self) -> dict[str, Any]:
        """As parameters of a stage."""
        return self.model_dump(exclude={"after", "folder", "about", "recipe"})


class Profile(BaseModel, frozen=True, extra="forbid"):
    """One profile: a sweep over models, data, scorers, penalties, objectives and seeds.

    Attributes:
        base: model on which gates are swept and the operating point is chosen.
        large: model that the operating points go to; None: base.
        others: further models that they go to as well, by name.
        resources: what a run of each stage needs.
        recipe: what is done; in the file its parts stand at the top.
    """

    name: Word
    provenance: Provenance
    data: dict[Word, Data] = Field(min_length=1)
    base: str
    large: str | None = None
    others: dict[str, Changes] = {}
    resources: dict[str, Resources] = {}
    recipe: Recipe

    @model_validator(mode="before")
    @classmethod
    def _recipe_stands_at_the_top(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "recipe" in content:
            return content
        recipe = {name: content[name] for name in Recipe.model_fields if name in content}
        rest = {name: value for name, value in content.items() if name not in recipe}
        return {**rest, "recipe": recipe}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, data in self.data.items():
            if data.after is not None and data.after not in self.data:
                raise ValueError(f"data.{name}.after: {data.after!r} is not in data")
        for name in self.data:
            if len(self.chain_of(name)) > len(self.data):
                raise ValueError(f"data.{name}.after: it comes after itself")
        if unknown := set(self.resources) - set(STAGES):
            raise ValueError(f"resources.{min(unknown)}: the stages are {', '.join(STAGES)}")
        named = {f"others.{model}": changes for model, changes in self.others.items()}
        for name, model in product(self.data, (self.base, self.target, *self.others)):
            recipe = self.recipe_of(name, model)
            check_windows(name, model, recipe)
            for smaller, changes in recipe.smaller.items():
                named[f"smaller.{smaller}"] = changes
                check_windows(name, smaller, changes.of(recipe, name))
            if model in (self.base, *self.models_of(name)):
                self._check(name, recipe)
        for where, changes in named.items():
            if strange := {*changes.data, *changes.by_data} - set(self.data):
                raise ValueError(f"{where}: {min(strange)!r} is not in data")
        return self

    def _check(self, name: str, recipe: Recipe) -> None:
        after = self.data[name].after
        for part in ("single_kinds", "random_choice"):
            if not set(getattr(recipe, part)) <= set(recipe.multiples):
                raise ValueError(f"{part} ({name}): each has to be one of multiples")
        carried = {*recipe.carried, *recipe.carried_models}
        if carried and after is None:
            raise ValueError(f"carried ({name}): it comes after no other data")
        if after is not None and not carried <= set(self.recipe_of(after, self.target).multiples):
            raise ValueError(f"carried ({name}): each has to be one of multiples of {after}")
        if after is None and recipe.multiples and not {"attn", "ff"} & set(recipe.penalties):
            raise ValueError(
                f"penalties ({name}): an operating point needs those of attn, of ff or of both; "
                "multiples: [] asks for none"
            )

    def chain_of(self, data: str) -> list[str]:
        """The data that others come after, first to last, and these: longer than all if endless."""
        chain = [data]
        while len(chain) <= len(self.data) and (after := self.data[chain[0]].after) is not None:
            chain.insert(0, after)
        return chain

    @property
    def target(self) -> str:
        """The model that is pruned at the operating points."""
        return self.large or self.base

    def models_of(self, data: str) -> list[str]:
        """Models that are pruned at the operating points on some data, the target first."""
        others = [name for name, other in self.others.items() if data in other.data]
        return [self.target, *others]

    def recipe_of(self, data: str, model: str) -> Recipe:
        """The recipe, with what the data change of it, and then the model if it is of `others`."""
        own = changed(self.recipe, self.data[data].recipe)
        return self.others.get(model, Changes()).of(own, data)

    def located(self, place: str | None) -> Profile:
        """With the source and the origin of all data; see `Data.located`."""
        data = {name: data.located(place) for name, data in self.data.items()}
        return self.model_copy(update={"data": data})

    def check_sources(self) -> None:
        """Raise SettingsError unless all data have a source, so that runs can be made."""
        for name, data in self.data.items():
            if data.source is None:
                raise SettingsError(
                    f"profile {self.name}: data {name!r} has no source: name the folder of its "
                    "files (--source FOLDER)"
                )

    def resources_of(self, stage: str) -> Resources:
        """What one run of a stage needs."""
        return self.resources.get(stage, Resources())


def check_windows(data: str, model: str, recipe: Recipe) -> None:
    """Raise ValueError for windows longer than a model that is known here has positions for."""
    positions = POSITIONS.get(model)
    file = Path(model) / "config.json"
    if positions is None and os.path.isfile(file):
        try:
            config = json.loads(read_text(file))
            # RoBERTa's and MPNet's positions start after their padding index
            is_later = config["model_type"] in ("roberta", "xlm-roberta", "mpnet")
            used = config.get("pad_token_id", 1) + 1 if is_later else 0
            positions = config["max_position_embeddings"] - used
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return  # what loads it says what is wrong
    if positions is not None and recipe.windows.max_length > positions:
        raise ValueError(
            f"windows ({data}): max_length={recipe.windows.max_length}, but {model} has positions "
            f"for {positions} tokens"
        )


def profile_content(path: str | Path) -> Any:
    """What a profile's file says; where it says `extends: NAME`, beside what NAME.yml says."""
    content = _parsed(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    name = content.pop("extends")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name):
        raise SettingsError(f"{path}: extends: {name!r:.80} is not the name of a profile")
    extended = _parsed(Path(path).with_name(f"{name}.yml"))
    if isinstance(extended, dict) and "extends" in extended:
        raise SettingsError(f"{path}: extends: {name} extends another profile itself")
    return _merged(extended, content)


def _parsed(path: str | Path) -> Any:
    try:
        return read_yaml(read_text(Path(path), LARGEST))
    except OSError as error:
        raise SettingsError(f"{path}: no such profile ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path}: not YAML: {error}") from error


def _merged(base: Any, more: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(more, dict)):
        return more
    return {**base, **{k: _merged(base.get(k), value) for k, value in more.items()}}


def read_profile(path: str | Path, *, source: str | None = None) -> Profile:
    """Read and check a profile; all questions are in `source` that the file gives no source for."""
    content = profile_content(path)
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error)}") from error
    return profile.located(source)
