"""pyproject.toml, requirements.lock, environment.yml and CITATION.cff say the same."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK_LINES = [
    line
    for line in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCK = {
    canonicalize_name(name): Version(version)
    for name, version in (line.split("==") for line in LOCK_LINES)
}
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [
    Requirement(text)
    for text in PROJECT["dependencies"] + [text for extra in EXTRAS.values() for text in extra]
]
# pip and what it builds with come with the environment, not with the project
INSTALLER = {"pip", "setuptools", "wheel"}
in_locked_environment = pytest.mark.skipif(
    Path(sys.prefix).resolve() != REPOSITORY / ".venv",
    reason="not the environment that make installs from the lock",
)


def test_lock_holds_only_exact_public_versions() -> None:
    """No registry, no path, no local label such as +cpu, which no registry serves."""
    for line in LOCK_LINES:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert len(LOCK) == len(LOCK_LINES)
    assert not INSTALLER & set(LOCK)


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_lock_meets_every_declared_dependency(requirement: Requirement) -> None:
    assert LOCK[canonicalize_name(requirement.name)] in requirement.specifier


def needed(requirements: list[Requirement]) -> Iterator[str]:
    """Names of all that the requirements pull in, by the metadata of what is installed."""
    queue, seen = list(requirements), set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, extras := frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, extras))
        yield name
        for inner in map(Requirement, metadata.requires(name) or []):
            extra_names = extras | {""}
            if inner.marker is None or any(
                inner.marker.evaluate({"extra": extra}) for extra in extra_names
            ):
                queue.append(inner)


@in_locked_environment
@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info[:2] != (3, 11),
    reason="the lock was made on Linux with Python 3.11; markers differ elsewhere",
)
def test_lock_is_exactly_what_the_declared_dependencies_need() -> None:
    # torch's CUDA build brings its own libraries, which the CPU build does not know
    names = {
        name for name in needed(DECLARED) if not re.match(r"nvidia-|cuda-|triton$", name)
    } - INSTALLER
    assert names == set(LOCK)


@in_locked_environment
def test_this_environment_is_the_locked_one() -> None:
    installed = {name: Version(Version(metadata.version(name)).public) for name in LOCK}
    assert installed == LOCK


def test_python_versions_agree() -> None:
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    (python,) = [item for item in conda if item.startswith("python")]
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert SpecifierSet(python.removeprefix("python").strip()) == wanted
    assert "pip" in conda
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert ".".join(map(str, sys.version_info[:3])) in wanted


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "McCarley",
        "Chakravarti",
        "Sil",
    ]
