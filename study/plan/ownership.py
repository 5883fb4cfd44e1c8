"""Whose runs are being made: one call at a time, wherever it runs, and its jobs end with it.

Who makes runs holds a lease in their folder and renews its time stamp. So a call from another
folder, container or host that shares the disk sees it, where a look at processes would not. A lease
that has not been renewed for long belongs to a call that was killed: the next call takes it over,
and waits until the jobs of that call, which watch the lease, have ended themselves.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from qaprune_lib.errors import SettingsError, short
from study.command import note

LOCK = ".running"
_GIVEN = os.environ.get("QAPRUNE_STALE_SECONDS") or "30"
try:
    STALE = float(_GIVEN)
except ValueError:
    STALE = math.nan  # which `own` names
"""A lease that was not renewed for so long may be taken over, and jobs end. All machines that share
the folder need the same value."""
BEAT = STALE / 10
OWNER = "QAPRUNE_OWNER"
"""Environment variable that jobs inherit: the path of their call's lease, and its token."""


def own(folders: Sequence[str | os.PathLike[str]]) -> None:
    """Hold the leases of these folders until this process ends; an error if another call has one.

    Waits where a lease may be that of a call that was killed. Should another call take one over
    all the same (after this one has stood still for long), this process ends.
    """
    if not 1 <= STALE < math.inf:
        raise SettingsError(
            f"QAPRUNE_STALE_SECONDS={short(_GIVEN)} must be a number of seconds, 1 or more"
        )
    locks = sorted({Path(folder).resolve() / LOCK for folder in folders})
    tokens = [_take(lock) for lock in locks]
    os.environ[OWNER] = json.dumps([str(locks[0]), tokens[0]])


def watch_owner() -> None:
    """In a job: end this process and its children once the call that started it is no more."""
    if OWNER in os.environ:
        path, token = json.loads(os.environ[OWNER])
        seen = _look(Path(path))
        if seen is None or seen[0] != token:
            _end(f"{path} is no longer held by the call that started this run")
        threading.Thread(target=_watch, args=(Path(path), token), daemon=True).start()


def _take(lock: Path) -> str | None:
    """Hold a lease, or one that has not been renewed for long; returns its token."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"{lock.parent}: a file stands where a folder must be") from error
    if lock.is_symlink() or (lock.exists() and not lock.is_file()):
        raise SettingsError(f"{lock}: no file, so no call has left it: delete it")
    lease = SoftFileLease(
        lock,
        lease_duration=STALE,
        heartbeat_interval=BEAT,
        on_compromise=lambda _: _end(f"{lock} was taken over or deleted"),
        thread_local=False,
    )
    owner, known = lease.owner, _look(lock)
    whose = f"process {owner.pid} on {owner.hostname}" if owner else "a call that has left no name"
    if known is not None:
        note(f"{lock}: {whose} makes these runs, or was killed: looking if it lives")
    began = time.monotonic()
    while not lease.is_locked:
        try:
            lease.acquire(timeout=2 * BEAT)
        except LeaseSettingsMismatch as error:
            raise SettingsError(f"{error}: give both the same QAPRUNE_STALE_SECONDS") from None
        except Timeout:
            if (seen := _look(lock)) not in (known, None):
                raise SettingsError(
                    f"{lock}: {whose} makes these runs: wait for its end, or end it"
                ) from None
            if seen and not seen[0] and time.monotonic() - began > STALE:
                lease.force_break()  # of an empty file the library thinks that its owner lives
    atexit.register(lease.release)
    if known is not None:
        note(f"{lock}: {whose} was killed: going on from what it left")
        time.sleep(2 * BEAT)  # its jobs see that, and end
    return lease.token


def _watch(lock: Path, token: str) -> None:
    known, unchanged = _look(lock), 0
    while unchanged < STALE / BEAT:
        try:
            seen = _look(lock)
        except OSError:  # of a shared disk that is out of reach
            seen = known
        if seen is None or seen[0] not in (token, ""):
            break
        unchanged = unchanged + 1 if seen == known else 0  # not seconds: all may have stood still
        known = seen
        time.sleep(BEAT)
    _end(f"{lock} is no longer held by the call that started this run")


def _end(why: str) -> None:
    note(f"ended: {why}")
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def _look(lock: Path) -> tuple[str, int] | None:
    """The token of a lease ("" if it is not to be read) and when it was renewed; None without one.

    Opened, as an NFS client asks the server then.
    """
    owner = SoftFileLease(lock, lease_duration=STALE).owner
    try:
        return (owner.token if owner else None) or "", lock.stat().st_mtime_ns
    except FileNotFoundError:
        return None
