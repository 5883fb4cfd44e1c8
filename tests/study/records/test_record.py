"""Records: what is written is read back, at its place, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qaprune_lib.errors import RecordError
from study.records.environment import environment
from study.records.record import (
    Record,
    hash_of,
    read_record,
    read_records,
    record_path,
    to_frame,
    write_record,
)


def a_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "name": "figure1/l0",
        "stage": "score",
        "profile": "embedded",
        "parameters": {"method": "l0", "penalty": {"attn": 0.02}, "seed": 3},
        "metrics": {"f1": 81.25, "by_layer": [3, 4]},
        "started": "2024-05-06T07:08:09+00:00",
        "seconds": 1.5,
        "device": "a device",
        "packages": {"torch": "2.13.0"},
        "commit": "0123abc",
        "dirty": True,
        "source": "embedded",
        "data_digest": "cd" * 32,
        "provenance": "embedded",
    }
    return Record(**(fields | changes))


NO_WORDS = ("", "..", "../x", "/x", ".a", "-a", "a b", "$(touch x)", "a;b", "a\n", "é", "a" * 101)
"""What no part of a path may be called, nor the path of a run."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(), json_values, max_size=4)


@given(parameters=json_objects, metrics=json_objects, seconds=st.floats(0, 1e9))
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    parameters: dict[str, Any],
    metrics: dict[str, Any],
    seconds: float,
) -> None:
    root = tmp_path_factory.mktemp("results")
    record = a_record(parameters=parameters, metrics=metrics, seconds=seconds)
    path = write_record(root, record)
    assert path == record_path(root, record)
    assert read_record(path) == record
    assert read_records(root) == [record]
    assert (record.parameters, record.metrics) == (parameters, metrics)


@given(parameters=json_objects, other=json_objects)
def test_paths_are_equal_exactly_if_the_parameters_are(
    parameters: dict[str, Any], other: dict[str, Any]
) -> None:
    def typed(value: Any) -> Any:  # True == 1 in Python, but not in JSON
        match value:
            case bool():
                return ("bool", value)
            case dict():
                return {key: typed(item) for key, item in value.items()}
            case list():
                return [typed(item) for item in value]
        return value

    one, two = (record_path(Path(), a_record(parameters=p)) for p in (parameters, other))
    assert (one == two) == (typed(parameters) == typed(other))
    shuffled = dict(reversed(parameters.items()))
    assert record_path(Path(), a_record(parameters=shuffled)) == one


def test_a_path_is_readable_and_hashes_stage_and_parameters_as_canonical_json() -> None:
    canonical = b'["score",{"method":"l0","penalty":{"attn":0.02},"seed":3}]'
    digest = hashlib.sha256(canonical).hexdigest()[:10]
    assert record_path(Path("results"), a_record()) == Path(
        f"results/embedded/embedded/figure1/l0-{digest}.json"
    )
    whole = {"method": "l0", "penalty": {"attn": 0.02}, "seed": 3.0}
    assert a_record(parameters=whole).id == a_record().id == f"figure1/l0-{digest}"
    assert hash_of(a_record().id) == digest != hash_of(a_record(stage="prune").id)


def test_what_a_run_is_called_is_no_part_of_its_hash_nor_of_those_that_build_on_it() -> None:
    named = [a_record(name=name) for name in ("l0", "figure1/l0", "a-b/c+d.e_f")]
    assert len({hash_of(record.id) for record in named}) == 1
    later = [a_record(parameters={"models": ["minilm", f"run:{record.id}"]}) for record in named]
    assert len({hash_of(record.id) for record in later}) == 1
    other = a_record(parameters={"models": ["minilm", f"run:{later[0].id}"]})
    assert hash_of(other.id) != hash_of(later[0].id)


def test_a_repeated_run_replaces_its_record(tmp_path: Path) -> None:
    first = a_record(metrics={})
    assert write_record(tmp_path, first) == write_record(tmp_path, a_record())
    assert read_records(tmp_path) == [a_record()]


def test_numpy_scalars_and_tuples_become_json() -> None:
    record = a_record(metrics={"a": np.float32(0.5), "b": np.int64(7), "c": (1, np.float64(2.5))})
    assert record.metrics == {"a": 0.5, "b": 7, "c": [1, 2.5]}
    assert type(record.metrics["a"]) is float
    assert type(record.metrics["b"]) is int


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"dev": {"f1": math.nan}}}, r"metrics\.dev\.f1 is nan"),
        ({"metrics": {"times": [1.0, math.inf]}}, r"metrics\.times\[1\] is inf"),
        ({"metrics": {"f1": np.float32("-inf")}}, r"metrics\.f1 is -inf"),
        ({"parameters": {"penalty": math.nan}}, r"parameters\.penalty is nan"),
        ({"metrics": {"a": {1: 2}}}, r"metrics\.a has the key 1"),
        ({"metrics": {"scores": np.zeros(2)}}, r"metrics\.scores is of .*ndarray"),
        ({"seconds": math.nan}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"started": "2024-05-06T07:08:09"}, "started: not a time in UTC"),
        ({"started": "2024-05-06T07:08:09+02:00"}, "started: not a time in UTC"),
        ({"started": "yesterday"}, "started: .*yesterday"),
        ({"provenance": "guessed"}, "provenance"),
        ({"provenance": "measured"}, "comes from a commit: commit the changes of the tree first"),
        ({"commit": "not one"}, "commit"),
        *(({"name": f"figure1/{word}"}, "name") for word in NO_WORDS),
        *(({"profile": word}, "profile") for word in NO_WORDS),
        *(({"stage": word}, "stage") for word in NO_WORDS),
        ({"f1": 80.0}, "f1: Extra inputs"),
    ],
)
def test_what_a_record_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        a_record(**changes)


def test_frozen_and_checked_again_when_written(tmp_path: Path) -> None:
    record = a_record()
    with pytest.raises(ValueError, match="frozen"):
        record.seconds = 2.0  # type: ignore[misc]
    record.metrics["f1"] = math.nan
    with pytest.raises(RecordError, match=r"metrics\.f1 is nan"):
        write_record(tmp_path, record)
    assert not list(tmp_path.iterdir())


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = write_record(tmp_path, a_record())
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is the newline
        path.write_bytes(whole[:length])
        with pytest.raises(RecordError, match="not JSON, or cut short") as caught:
            read_record(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda fields: fields | {"colour": "red"}, "colour: Extra inputs"),
        (lambda fields: {k: v for k, v in fields.items() if k != "device"}, "device: Field req"),
        (lambda fields: fields | {"parameters": {"seed": 4}}, "belong at embedded/embedded/fig"),
        (lambda fields: fields | {"stage": "prune"}, "belong at embedded/embedded/fig"),
        (lambda fields: fields | {"name": "figure2/l0"}, "belong at embedded/embedded/figure2/l0"),
        (lambda fields: fields | {"profile": "other"}, "belong at embedded/other/figure1/l0"),
        (lambda fields: fields | {"metrics": {"f1": math.nan}}, r"metrics\.f1 is nan"),
        (lambda fields: [fields], "holds a list"),
    ],
)
def test_an_edited_record_is_refused_by_name(tmp_path: Path, edit: Any, message: str) -> None:
    path = write_record(tmp_path, a_record())
    path.write_text(json.dumps(edit(json.loads(path.read_text(encoding="utf-8")))))
    for read in (lambda: read_record(path), lambda: read_records(tmp_path)):
        with pytest.raises(RecordError, match=message) as caught:
            read()
        assert str(path) in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nothing\.json: cannot be read"):
        read_record(tmp_path / "nothing.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match=r"binary\.json: not JSON"):
        read_record(tmp_path / "binary.json")
    with pytest.raises(RecordError, match="no such folder of records"):
        read_records(tmp_path / "none")


ABSURD = {
    "deep": "[" * 900 + "]" * 900,
    "deeper": "[" * 10**5 + "]" * 10**5,
    "long number": "1" * 4000,
    "longer number": "1" * 5000,
    "infinite": "-1e400",
    "surrogate": '"\\ud800"',
    "key": '{"\\ud800": 1}',
    "word": json.dumps("x" * 10**6),
}


@pytest.mark.parametrize("field", Record.model_fields)
@pytest.mark.parametrize("how", ABSURD)
def test_absurd_values_are_refused_in_a_few_words(tmp_path: Path, field: str, how: str) -> None:
    path = write_record(tmp_path, a_record())
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, field: "HERE"}).replace('"HERE"', ABSURD[how]))
    if (field, how) in (("device", "word"), ("source", "word")):
        assert read_record(path).device
        return
    with pytest.raises(RecordError, match=path.name) as caught:
        read_record(path)
    assert len(str(caught.value)) < 1000


def test_a_pipe_is_no_record(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(RecordError, match=r"a\.json: cannot be read: not a plain file"):
        read_records(tmp_path)


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_a_writer_killed_midway_leaves_the_old_record(tmp_path: Path, moment: str) -> None:
    old = a_record(metrics={"f1": 1.0})
    path = write_record(tmp_path, old)
    new = a_record(metrics={"f1": 2.0})
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from study.records.record import Record, write_record\n"
        f"{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_record(Path(sys.argv[1]), Record.model_validate_json(sys.argv[2]))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), new.model_dump_json()], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    leftovers = [file for file in path.parent.iterdir() if file != path]
    assert len(leftovers) == 1  # under a name by which no record is read
    assert read_records(tmp_path) == [old]
    write_record(tmp_path, new)
    assert read_records(tmp_path) == [new]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        write_record(tmp_path, a_record())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_writers_of_one_record_never_show_half_of_it(tmp_path: Path) -> None:
    versions = [a_record(metrics={"values": [n] * 5000}) for n in range(4)]
    path = write_record(tmp_path, versions[0])

    def rewrite(version: Record) -> None:
        for _ in range(10):
            write_record(tmp_path, version)

    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(rewrite, version) for version in versions]
        while not all(job.done() for job in jobs):
            assert read_record(path) in versions
        for job in jobs:
            job.result()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_frame_has_one_row_a_record() -> None:
    other = a_record(
        parameters={"method": "random", "seed": 1}, metrics={"dev": {"f1": 50, "exact": 40}}
    )
    frame = to_frame([a_record(), other])
    assert len(frame) == 2
    assert frame["parameters.penalty.attn"][0] == 0.02
    assert frame["parameters.method"].tolist() == ["l0", "random"]
    assert frame["metrics.dev.f1"][1] == 50
    assert frame["metrics.f1"].isna().tolist() == [False, True]
    assert frame["stage"].tolist() == ["score", "score"]
    assert not [name for name in frame.columns if name.startswith("packages")]


def test_empty_frame_has_the_common_columns() -> None:
    empty = to_frame([])
    assert len(empty) == 0
    assert set(empty.columns) <= set(to_frame([a_record()]).columns)
    assert {"stage", "profile", "provenance", "seconds"} <= set(empty.columns)


def test_environment_fills_a_record() -> None:
    found = environment()
    record = a_record(**found)
    assert record.device
    assert record.packages["python"] == sys.version.split()[0]
    assert record.packages["torch"].startswith("2.")


def test_records_are_read_without_torch() -> None:
    program = "import sys, study.records.record; print({'torch', 'datasets'} & set(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"
