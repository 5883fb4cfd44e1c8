"""Wherever packages and versions are named, they are named alike."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import qaprune_lib

REPOSITORY = Path(__file__).resolve().parents[1]


def read(file: str) -> str:
    return (REPOSITORY / file).read_text(encoding="utf-8")


def lock_lines(file: str) -> list[str]:
    return [line for line in read(file).splitlines() if line and not line.startswith("#")]


def read_lock(file: str) -> dict[str, Version]:
    pairs = (line.split("==") for line in lock_lines(file))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


PROJECT = tomllib.loads(read("pyproject.toml"))["project"]
LOCK = read_lock("requirements.lock")
BOOK_LOCK = read_lock("requirements-book.lock")
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


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-book.lock"])
def test_lock_holds_only_exact_public_versions(file: str) -> None:
    """No registry, no path, no local label such as +cpu, which no registry serves."""
    for line in lock_lines(file):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert len(read_lock(file)) == len(lock_lines(file))
    assert not INSTALLER & set(read_lock(file))


@pytest.mark.parametrize("requirement", DECLARED, ids=lambda requirement: requirement.name)
def test_lock_meets_every_declared_dependency(requirement: Requirement) -> None:
    assert LOCK[canonicalize_name(requirement.name)] in requirement.specifier


def test_book_lock_has_the_versions_of_the_lock() -> None:
    assert BOOK_LOCK.items() <= LOCK.items()
    assert {canonicalize_name(Requirement(text).name) for text in EXTRAS["book"]} <= set(BOOK_LOCK)
    assert not {"torch", "transformers"} & set(BOOK_LOCK)


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
    environment = yaml.safe_load(read("environment.yml"))
    *conda, pip = environment["dependencies"]
    (python,) = [item for item in conda if item.startswith("python")]
    wanted = SpecifierSet(PROJECT["requires-python"])
    assert SpecifierSet(python.removeprefix("python").strip()) == wanted
    assert "pip" in conda
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert ".".join(map(str, sys.version_info[:3])) in wanted
    minors = [f"3.{minor}" for minor in range(100) if f"3.{minor}" in wanted]
    tests = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]["test"]
    assert tests["strategy"]["matrix"]["python"] == minors
    stem = "Programming Language :: Python :: "
    assert [f"{stem}{minor}" for minor in minors] == [
        text for text in PROJECT["classifiers"] if text.startswith(f"{stem}3.")
    ]


def test_pre_commit_has_the_ruff_of_the_lock() -> None:
    config = yaml.safe_load(read(".pre-commit-config.yaml"))
    (ruff,) = [repo["rev"] for repo in config["repos"] if "ruff" in repo["repo"]]
    assert ruff == f"v{LOCK['ruff']}"


def test_citation_names_this_version() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["version"] == qaprune_lib.__version__
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "McCarley",
        "Chakravarti",
        "Sil",
    ]


@pytest.mark.slow
def test_a_wheel_holds_the_library_and_an_editable_one_finds_the_study_too(tmp_path: Path) -> None:
    """So a notebook that is opened in its own folder can import both."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("qaprune_lib", "study", "notebooks"):
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(REPOSITORY / name, copy / name, ignore=ignored)
    made = {}
    for kind in ("wheel", "editable"):
        build = f"import setuptools.build_meta as b; b.build_{kind}({str(tmp_path / kind)!r})"
        (tmp_path / kind).mkdir()
        subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
        [made[kind]] = (tmp_path / kind).glob("*.whl")
    with zipfile.ZipFile(made["wheel"]) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"qaprune_lib"}
    with zipfile.ZipFile(made["editable"]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = f"import site; site.addsitedir({str(tmp_path / 'site')!r}); import study; print(study)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],  # without the packages of the one that runs this
        cwd=copy / "notebooks",
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert str(copy / "study") in found.stdout
