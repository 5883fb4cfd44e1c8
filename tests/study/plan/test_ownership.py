"""One process at a time owns a folder, and what it started ends with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from qaprune_lib.errors import SettingsError
from study.plan import ownership
from study.plan.ownership import LOCK, own
from tests.study.plan.graph_folder import REPOSITORY

STALE = 2.0
OWN = "from study.plan.ownership import own; own([FOLDER, FOLDER]); "
HOLD = "print('held', flush=True); time.sleep(99)"
JOB = "from study.plan.ownership import watch_owner; watch_owner(); import time; time.sleep(99)"
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a process that owns the folder, and then does something else."""
    started: list[subprocess.Popen[str]] = []

    def of(then: str = HOLD) -> subprocess.Popen[str]:
        # started in the background, a process would ignore the key that interrupts
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        code += f"import sys, time, subprocess; FOLDER = {str(tmp_path)!r}; {OWN}{then}"
        environment = {"PYTHONPATH": str(REPOSITORY), "QAPRUNE_STALE_SECONDS": str(STALE)}
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield of
    for process in started:
        process.kill()
        process.communicate()


def held(process: subprocess.Popen[str]) -> bool:
    """Whether it came to own the folder; waits until that is known."""
    assert process.stdout is not None
    return process.stdout.readline() == "held\n"


def test_who_lives_is_named_and_keeps_what_it_has(start: Start, tmp_path: Path) -> None:
    first = start()
    assert held(first)
    second = start()
    assert not held(second)
    assert f"process {first.pid} on " in second.communicate()[1].splitlines()[-1]
    assert second.returncode == 1
    first.send_signal(signal.SIGINT)
    first.wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "{", "\0\0", '{"process": 1}'])
def test_a_lock_that_is_not_renewed_is_taken_over(
    start: Start, tmp_path: Path, content: str | None
) -> None:
    first = start()
    assert held(first)
    first.kill()
    first.wait()
    if content is not None:  # it was torn
        (tmp_path / LOCK).write_text(content)
    began = time.monotonic()
    second = start("print('held', flush=True)")
    assert held(second)
    assert "was killed: going on" in second.communicate()[1]
    assert time.monotonic() - began < 5 * STALE + 5
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_an_owner_is_no_loss(start: Start, tmp_path: Path) -> None:
    """As a race: the lock goes while its time stamp is being renewed."""
    busy = "import study.plan.ownership as o; o.BEAT = 0.001; "
    for then in ("time.sleep(0.1)", "sys.exit(3)"):
        process = start(f"{busy}time.sleep(2 * {STALE} / 10); {then}")
        assert process.wait(20) == (3 if "exit" in then else 0), process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_of_several_one_takes_it_over(start: Start, tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    assert sum([held(process) for process in [start() for _ in range(4)]]) == 1


def with_a_job(start: Start) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A call that owns its runs, and a job of it."""
    spawn = f"job = subprocess.Popen([sys.executable, '-c', {JOB!r}]); print(job.pid, flush=True); "
    first = start(spawn + HOLD)
    assert first.stdout is not None
    job = psutil.Process(int(first.stdout.readline()))
    assert held(first)
    return first, job


def test_a_job_ends_before_another_call_begins(start: Start) -> None:
    first, job = with_a_job(start)
    time.sleep(2 * STALE)
    assert job.is_running()
    first.kill()
    first.wait()
    second = start()
    assert held(second)
    assert not job.is_running() or job.status() == psutil.STATUS_ZOMBIE


def test_a_job_ends_without_another_call(start: Start) -> None:
    first, job = with_a_job(start)
    first.kill()
    psutil.wait_procs([job], timeout=5 * STALE)
    assert not job.is_running() or job.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("what", ["folder", "pipe", "dangling link", "a file for its folder"])
def test_what_is_no_lock_is_named(what: str, tmp_path: Path) -> None:
    lock = tmp_path / "runs" / LOCK
    lock.parent.mkdir()
    ways: dict[str, Callable[[], object]] = {
        "folder": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "dangling link": lambda: lock.symlink_to("nowhere"),
        "a file for its folder": lambda: (lock.parent.rmdir(), lock.parent.touch()),
    }
    ways[what]()
    with pytest.raises(SettingsError, match=r"no file, so no call|a file stands where a folder"):
        own([lock.parent])


def test_a_job_that_waited_too_long_does_nothing(start: Start, tmp_path: Path) -> None:
    """As one in a cluster's queue, whose call was killed and followed by another."""
    owner = json.dumps([str(tmp_path / LOCK), "of the call before"])
    late = f"import os; os.environ['QAPRUNE_OWNER'] = {owner!r}; "
    late += "from study.plan.ownership import watch_owner; watch_owner(); print('began')"
    assert held(start())
    process = subprocess.run(
        [sys.executable, "-c", late],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert "is no longer held by the call that started this run" in process.stderr


@pytest.mark.parametrize("given", ["abc", "0", "-3", "nan", "inf", "1,5", "0.5", "9" * 400])
def test_what_is_no_time_of_staleness_is_named(given: str, tmp_path: Path) -> None:
    code = f"from study.plan.ownership import own; own([{str(tmp_path / 'runs')!r}])"
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "QAPRUNE_STALE_SECONDS": given},
        capture_output=True,
        text=True,
    )
    said = process.stderr.splitlines()[-1]
    assert said.startswith("qaprune_lib.errors.SettingsError: QAPRUNE_STALE_SECONDS="), said
    assert said.endswith("must be a number of seconds, 1 or more")
    assert not list(tmp_path.iterdir())


def test_a_disk_out_of_reach_for_a_while_ends_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([("token", 1), None, ("token", 2), None, None, ("token", 3), ("another", 4)])

    def look(_: Path) -> tuple[str, int]:
        if (seen := next(looks)) is None:
            raise OSError
        return seen

    class Ended(BaseException):
        pass

    def end(_: str) -> None:
        raise Ended

    monkeypatch.setattr(ownership, "_look", look)
    monkeypatch.setattr(ownership, "_end", end)
    monkeypatch.setattr(ownership, "STALE", 0.05)
    monkeypatch.setattr(ownership, "BEAT", 0.01)
    with pytest.raises(Ended):
        ownership._watch(Path(LOCK), "token")
    assert not list(looks)


def test_two_times_of_staleness_are_named(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert held(start())
    monkeypatch.setattr("study.plan.ownership.STALE", 9.0)
    monkeypatch.setattr("study.plan.ownership.BEAT", 0.9)
    with pytest.raises(SettingsError, match="give both the same QAPRUNE_STALE_SECONDS"):
        own([tmp_path])


@pytest.mark.parametrize("is_deleted", [False, True])
def test_who_has_lost_its_lock_ends(start: Start, tmp_path: Path, is_deleted: bool) -> None:
    first = start()
    assert held(first)
    if is_deleted:
        (tmp_path / LOCK).unlink()
    else:
        first.send_signal(signal.SIGSTOP)  # as a machine that sleeps
        second = start()
        assert held(second)
        content = (tmp_path / LOCK).read_text()
        first.send_signal(signal.SIGCONT)
    assert first.wait(10) == 1
    assert "was taken over or deleted" in first.communicate()[1]
    if not is_deleted:
        time.sleep(STALE)
        assert (tmp_path / LOCK).read_text() == content
