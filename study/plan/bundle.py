"""Everything that runs need on a machine without a network, in one folder.

`python -m study bundle profiles/measured.yml --source FOLDER --runs 'figure1/*' --to bundle`

For air-gapped clusters, and for GPUs that are at hand for minutes. The folder holds the files of
this commit, data, packages with weights, models and scores that the runs build on, and wheels;
`./run.sh --minutes 9 --jobs 8` there runs what it can in that time, side by side, and leaves
records and small models in `out`, in parts, for `python -m study merge` here.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from qaprune_lib.cache import DIGESTS
from qaprune_lib.errors import SettingsError
from study.command import command, parser, say
from study.plan.parameters import StageParameters
from study.plan.plan import Planner
from study.plan.select import selected_points
from study.plan.strict_yaml import read_yaml
from study.records.lineage import ROOT, commit
from study.records.merge import PART
from study.records.record import FINISHED

RUN = Path(__file__).with_suffix(".sh")
"""What is called there."""


def bundle(
    planner: Planner,
    folder: Path,
    profile: Path,
    patterns: Sequence[str],
    *,
    wheels: Sequence[str] = (),
    python: str = "3.12",
    platforms: Sequence[str] = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64"),
) -> list[StageParameters]:
    """Fill a folder that is not there yet; returns the runs that can be made from it.

    What runs of these patterns build on is carried if it is here, and else made there. `wheels` are
    requirements to download for the other machine, of this `python` on `platforms`.
    """
    head, dirty = commit()
    if head is None or dirty:
        raise SettingsError("a bundle is made of a commit: commit the changes of the tree first")
    if folder.exists():
        raise SettingsError(f"{folder} is there already: name another folder, or delete it")
    every = {run.id: run for run in planner.plan(selected_points(planner))}
    wanted = [run for run in every.values() if any(fnmatchcase(run.id, p) for p in patterns)]
    if not wanted:
        called = " or ".join(patterns)
        raise SettingsError(f"no run is called {called}; see `python -m study status`")
    project = folder / "project"
    project.mkdir(parents=True)
    shutil.copy(RUN, folder / "run.sh")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", head], capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(project, filter="data")
    shutil.rmtree(project / "results", ignore_errors=True)
    (project / "COMMIT").write_text(f"{head}\n")
    (project / "profile.yml").write_text(_pinned(planner, profile))
    here, missing = _upstream(planner, every, wanted)
    for name in here:
        _copy(planner, name, folder)
    made = [*(every[name] for name in missing), *wanted]
    for run in made:
        for file in planner.profile.data[run.data].files():
            target = folder / "data" / planner.profile.data[run.data].folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(file, target)
        for model in run.references():
            _copy_package(model, folder / "packages")
    if wheels:
        _download(wheels, folder / "wheels", python, platforms)
    return made


def pack(folder: Path, target: Path, *, part: int = 16 * 2**20, most: int = 8) -> list[Path]:
    """A tar file, in parts, of all records and scores, and of as many models as fit."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{PART}*"):
        old.unlink()
    small = [p for p in (folder / "results").rglob("*") if p.is_file()]
    marks = sorted((folder / "runs").rglob(FINISHED))
    beside = (FINISHED, DIGESTS, "scores.json")
    small += [p for mark in marks for p in map(mark.with_name, beside) if p.is_file()]
    models = [mark.parent / "model" for mark in marks if (mark.parent / "model").is_dir()]
    sizes = {model: sum(path.stat().st_size for path in model.iterdir()) for model in models}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in small:
            archive.add(path, path.relative_to(folder))
        for model in sorted(models, key=sizes.__getitem__):
            if buffer.tell() + sizes[model] > 0.95 * part * most:
                break
            archive.add(model, model.relative_to(folder))
    content = buffer.getvalue()
    starts = range(0, len(content), part)
    parts = {target / f"{PART}{number}": start for number, start in enumerate(starts)}
    for path, start in parts.items():
        path.write_bytes(content[start : start + part])
    return list(parts)


def _upstream(
    planner: Planner, every: dict[str, StageParameters], wanted: Sequence[StageParameters]
) -> tuple[list[str], list[str]]:
    """Runs that the wanted ones build on: those whose records and files are here, and the rest."""
    here: dict[str, None] = {}
    missing: dict[str, None] = {}

    def visit(run: StageParameters) -> None:
        for name in run.upstream():
            whole = planner.run_folder / name / FINISHED
            if planner.record_file(name).is_file() and whole.is_file():
                here[name] = None
            elif name in every and name not in missing:
                visit(every[name])
                missing[name] = None

    for run in wanted:
        visit(run)
    chosen = [run.id for run in wanted]
    return list(here), [name for name in missing if name not in chosen]


def _pinned(planner: Planner, profile: Path) -> str:
    """The profile with its origins, so that runs on data that are not carried can be named too."""
    content = read_yaml(profile.read_text(encoding="utf-8"))
    for name, data in planner.profile.data.items():
        content["data"][name]["origin"] = data.origin
    return json.dumps(content, indent=1)  # which is YAML


def _copy(planner: Planner, name: str, folder: Path) -> None:
    there = Planner(planner.profile, str(folder / "results"), str(folder / "runs"))
    there.record_file(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(planner.record_file(name), there.record_file(name))
    shutil.copytree(planner.run_folder / name, there.run_folder / name)


def _copy_package(model: str, folder: Path) -> None:
    """The installed packages that hold a named model's weights."""
    from qaprune_lib.models.packaged import PACKAGED

    packaged = PACKAGED.get(model)
    for package in packages_of(packaged) if packaged is not None else ():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SettingsError(f"{model}: its package {package} is not installed here")
        if not (folder / package).exists():
            shutil.copytree(Path(spec.origin).parent, folder / package)


def packages_of(packaged: object) -> list[str]:
    """Import names of the packages that a model's weights come from."""
    if hasattr(packaged, "package"):
        return [packaged.package]
    if hasattr(packaged, "parts"):
        return [package for package, _ in packaged.parts]
    return packages_of(packaged.source)  # type: ignore[attr-defined]


def _download(wheels: Sequence[str], folder: Path, python: str, platforms: Sequence[str]) -> None:
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", python, "--implementation", "cp", "-d", str(folder)]
    words += [word for platform in platforms for word in ("--platform", platform)]
    done = subprocess.run([*words, *wheels], capture_output=True, text=True)
    if done.returncode:
        raise SettingsError(f"wheels for Python {python}: {done.stderr.strip().splitlines()[-1]}")


@command
def main(arguments: Sequence[str] | None) -> None:
    """Command line."""
    line = parser("bundle", __doc__, "source", "results")
    line.add_argument("profile", type=Path, nargs="?")
    line.add_argument("--runs", nargs="+", default=["*"], metavar="PATTERN", help="of run ids")
    line.add_argument("--to", type=Path, metavar="FOLDER", help="where to")
    line.add_argument("--models", default="runs", metavar="FOLDER", help="of models and scores")
    line.add_argument("--wheels", nargs="*", default=[], metavar="NAME==VERSION")
    line.add_argument("--python", default="3.12")
    line.add_argument("--platform", nargs="+", default=["manylinux_2_28_x86_64"])
    line.add_argument("--pack", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = line.parse_args(arguments)
    if options.pack:
        say("\n".join(map(str, pack(*options.pack))))
        return
    if options.profile is None or options.to is None:
        line.error("name a PROFILE, and a folder --to write to")
    folders = {"results": options.results, "runs": options.models}
    planner = Planner.read(options.profile, options.source, **folders)
    other = {"wheels": options.wheels, "python": options.python, "platforms": options.platform}
    runs = bundle(planner, options.to, options.profile, options.runs, **other)
    say("\n".join(run.id for run in runs))
