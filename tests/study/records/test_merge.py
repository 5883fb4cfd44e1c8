"""What runs elsewhere have left is taken in whole, or not at all."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qaprune_lib.errors import RecordError
from study.plan.bundle import pack
from study.records import merge as merging
from study.records.merge import merge
from study.records.record import FINISHED, Record, read_records, record_path, write_record
from tests.quick import at_most
from tests.study.records.test_record import a_record


@pytest.fixture(scope="module", autouse=True)
def _every_commit_is_known() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "git", lambda *_: ["commit"])
        yield


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three records and the files of one run, and these packed in small parts."""
    folder = tmp_path_factory.mktemp("left")
    for seed in range(3):
        write_record(folder / "results", a_record(parameters={"seed": seed}))
    run = folder / "runs" / record_path(Path(), a_record(parameters={"seed": 0})).with_suffix("")
    (run / "model").mkdir(parents=True)
    (run / "model" / "weights").write_bytes(bytes(range(256)) * 9)
    (run / FINISHED).write_text("whole")
    assert len(pack(folder, folder / "out", part=400)) > 2
    return folder


def in_order(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.id)


@pytest.mark.parametrize("form", ["", "out"])
def test_all_is_taken_in_once(left: Path, tmp_path: Path, form: str) -> None:
    places = (tmp_path / "results", tmp_path / "runs")
    found = merge(left / form, *places)
    assert (len(found.new), len(found.known), len(found.files)) == (3, 0, 1)
    assert in_order(read_records(places[0])) == in_order(read_records(left / "results"))
    [weights] = places[1].rglob("weights")
    assert weights.read_bytes() == bytes(range(256)) * 9
    again = merge(left / form, *places)
    assert (len(again.new), len(again.known)) == (0, 3)


@settings(max_examples=at_most(30), deadline=None)
@given(part=st.integers(0, 99), where=st.integers(0, 399), cut=st.booleans(), bit=st.integers(0, 7))
def test_of_damaged_parts_nothing_is_taken_in(
    left: Path, part: int, where: int, cut: bool, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        copy = Path(shutil.copytree(left / "out", Path(root) / "out"))
        parts = sorted(copy.iterdir())
        file = parts[part % len(parts)]
        content = bytearray(file.read_bytes())
        where %= len(content)
        if cut:
            file.write_bytes(content[:where])
        else:
            content[where] ^= 1 << bit
            file.write_bytes(content)
        results = Path(root) / "results"
        try:
            merge(copy, results, Path(root) / "runs")
        except RecordError:
            assert not results.exists()
            assert not (Path(root) / "runs").exists()
        else:  # a bit of the header, or of the padding, that says nothing
            assert in_order(read_records(results)) == in_order(read_records(left / "results"))


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../evil", tarfile.REGTYPE, ""),
        ("results/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("results/link", tarfile.SYMTYPE, "../../elsewhere"),
        ("results/hard", tarfile.LNKTYPE, "../../elsewhere"),
        ("results/pipe", tarfile.FIFOTYPE, ""),
        ("results/device", tarfile.CHRTYPE, ""),
    ],
)
def test_parts_that_lead_out_are_refused(
    name: str, kind: bytes, target: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with tarfile.open(tmp_path / "out" / "part-0", "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    with pytest.raises(RecordError, match="its parts make no tar file"):
        merge(tmp_path / "out", tmp_path / "results", tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_parts_that_would_fill_the_disk_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with gzip.open(tmp_path / "out" / "part-0", "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    with pytest.raises(RecordError, match="unpack to more than 100 times their size"):
        merge(tmp_path / "out", tmp_path / "results", tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_record_of_the_same_run_is_refused(left: Path, tmp_path: Path) -> None:
    write_record(tmp_path, a_record(parameters={"seed": 1}, metrics={"f1": 3}))
    with pytest.raises(RecordError, match=r"differs from .*, of the same run: delete one"):
        merge(left, tmp_path, tmp_path / "runs")
    assert len(read_records(tmp_path)) == 1


def test_a_commit_that_is_not_known_is_named(
    left: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "git", lambda *_: None)
    with pytest.raises(RecordError, match="made at commit 0123abc, which git has not here"):
        merge(left, tmp_path / "results", tmp_path / "runs")
    assert not list(tmp_path.iterdir())
