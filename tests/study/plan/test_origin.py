"""Identities of sources; what follows from them for runs stands in test_profile."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from qaprune_lib.errors import SettingsError
from study.plan.origin import check_origin, described, files_of, origin_of


def test_the_corpus_and_the_hub_have_no_files() -> None:
    for source, origin in (("embedded", "embedded"), ("org/squad_v2", "hub:org/squad_v2")):
        assert files_of(source, "squad") == []
        assert origin_of(source, []) == origin
        assert described(source, []) == source


def test_files_are_known_by_their_bytes(tmp_path: Path) -> None:
    train, dev = tmp_path / "train.json", tmp_path / "dev.json"
    train.write_bytes(b"questions")
    dev.write_bytes(b"others")
    files = files_of(str(tmp_path), "squad")
    assert files == [dev, train]
    digests = [hashlib.sha256(content).digest() for content in (b"others", b"questions")]
    expected = f"files:{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}"
    assert origin_of("anything", files) == expected
    assert described("anything", files) == "dev.json, train.json"
    assert origin_of("", [train]) != origin_of("", [dev]) != expected
    assert files_of(str(train), "squad") == [train]
    dev.write_bytes(b"changed")
    assert origin_of("anything", files) != expected


def test_of_two_versions_in_one_folder_the_named_one_is_read(tmp_path: Path) -> None:
    for name in ("train-v1.1.json", "train-v2.0.json"):
        (tmp_path / name).touch()
    assert files_of(str(tmp_path), "squad", version="1.1") == [tmp_path / "train-v1.1.json"]


def test_named_files_are_read_in_their_order(tmp_path: Path) -> None:
    names = ["train.jsonl", "dev-b.jsonl", "dev-a.jsonl"]
    found = files_of(str(tmp_path), "natural_questions", files=names)
    assert [file.name for file in found] == names


def test_another_origin_than_the_expected_is_refused() -> None:
    check_origin("x", "files:1", "")
    check_origin("x", "files:1", "files:1")
    with pytest.raises(SettingsError, match=r"x: .*files:1.*files:2"):
        check_origin("x", "files:1", "files:2")
