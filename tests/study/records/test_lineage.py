"""The commit that a record was made at, asked of real repositories in temporary folders."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qaprune_lib.errors import RecordError
from study.records import lineage


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one commit, which `lineage` takes for its own."""
    folder = tmp_path / "project"
    for name in ("qaprune_lib/a.py", "study/b.py", "notebooks/c.ipynb", "results/d.json", ".e"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    (folder / ".gitignore").write_text("*.pyc\n")
    git(tmp_path, "init", "-q", "project")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    use(folder, monkeypatch)
    return folder


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "ROOT", folder.resolve())
    monkeypatch.setattr(lineage, "COPIED", folder / "COMMIT")


@pytest.mark.parametrize(
    ("changed", "is_dirty"),
    [
        (None, False),
        ("qaprune_lib/a.py", True),
        ("study/b.py", True),
        ("notebooks/c.ipynb", True),
        ("qaprune_lib/deep/new.py", True),
        ("qaprune_lib/a.pyc", False),
        ("results/d.json", False),
        ("results/new.json", False),
        ("notes.md", False),
    ],
)
def test_a_tree_differs_from_its_commit_by_code_alone(
    project: Path, changed: str | None, is_dirty: bool
) -> None:
    if changed is not None:
        (project / changed).parent.mkdir(exist_ok=True)
        (project / changed).write_text("2")
    assert lineage.commit() == (git(project, "rev-parse", "HEAD"), is_dirty)


def test_what_is_staged_differs_until_it_is_committed(project: Path) -> None:
    first = git(project, "rev-parse", "HEAD")
    git(project, "mv", "study/b.py", "study/new.py")
    assert lineage.commit() == (first, True)
    git(project, "commit", "-qm", "second")
    assert lineage.commit() == (git(project, "rev-parse", "HEAD"), False)


def test_a_copy_without_a_repository_knows_its_commit_by_a_file(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".git"))
    use(copy, monkeypatch)
    assert lineage.commit() == (None, False)
    git(tmp_path, "init", "-q")  # another project's repository around it knows nothing of it
    git(tmp_path, "add", "copy")
    git(tmp_path, "commit", "-qm", "of others")
    assert lineage.commit() == (None, False)
    (copy / "COMMIT").write_text("0123456789abcdef\n")
    assert lineage.commit() == ("0123456789abcdef", False)
    (copy / "COMMIT").write_text("the newest\n")
    with pytest.raises(RecordError, match=f"{copy}/COMMIT: 'the newest' is no commit"):
        lineage.commit()


def test_a_repository_is_believed_before_such_a_file(project: Path) -> None:
    (project / "COMMIT").write_text("0123456789abcdef\n")
    assert lineage.commit() == (git(project, "rev-parse", "HEAD"), False)


def test_files_of_the_library_that_changed_since_are_counted(project: Path) -> None:
    first = git(project, "rev-parse", "HEAD")
    assert lineage.changed_since(first) == 0
    lineage.changed_since.cache_clear()
    for name in ("qaprune_lib/a.py", "qaprune_lib/new.py", "study/b.py"):
        (project / name).write_text("2")
    git(project, "add", ".")
    git(project, "commit", "-qm", "second")
    assert lineage.changed_since(first) == 2
    assert lineage.changed_since("0" * 40) is None
