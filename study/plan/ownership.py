"""Whose runs are being made: one call at a time, wherever it runs, and its jobs end with it.

Who makes runs holds a lock file in their folder and renews its time stamp. So a call from another
folder, container or host that shares the disk sees it, where a look at processes would not. A lock
that has not been renewed for long belongs to a call that was killed: the next call takes it over.
By then the jobs of that call, which watch the lock, have ended themselves.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import psutil

from qaprune_lib.errors import SettingsError

LOCK = ".running"
STALE = float(os.environ.get("QAPRUNE_STALE_SECONDS", 30))
"""Jobs end when their call's lock has not been renewed for so long; half as long after that, the
lock may be taken over. All machines that share the folder need the same value."""
BEAT = STALE / 10
OWNER = "QAPRUNE_OWNER"
"""Environment variable that jobs inherit: the content of their call's lock, and its path."""


_NO_OWNER = "{} is no longer held by the call that started this run"


def own(folders: Sequence[str | os.PathLike[str]]) -> None:
    """Hold the locks of these folders until this process ends, whichever way.

    Waits where a lock may be that of a call that was killed. Should another call take one over
    all the same (after this one has stood still for long), this process ends.

    Raises:
        SettingsError: another call makes runs there; says which. Or something else than a folder
            or a lock stands there.
    """
    content = json.dumps(
        {"process": os.getpid(), "host": socket.gethostname(), "folder": os.getcwd()}
        | {"token": uuid4().hex}
    )
    locks = sorted({Path(folder).resolve() / LOCK for folder in folders})
    held, is_over = list[Path](), threading.Event()
    atexit.register(_release, held, content, os.getpid(), is_over)
    for lock in locks:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise SettingsError(f"{lock.parent}: a file stands where a folder must be") from error
        _take(lock, content)
        held.append(lock)
        threading.Thread(target=_renew, args=(lock, content, is_over), daemon=True).start()
    os.environ[OWNER] = json.dumps([str(locks[0]), content])


def watch_owner() -> None:
    """In a job: end this process and its children once the call that started it is no more."""
    if OWNER in os.environ:
        lock, content = json.loads(os.environ[OWNER])
        if (seen := _look(Path(lock))) is None or seen[0] != content:
            _end(_NO_OWNER.format(lock))
        threading.Thread(target=_watch, args=(Path(lock), content), daemon=True).start()


def _take(lock: Path, content: str) -> None:
    """Create a lock, or replace one that has not been renewed for long."""
    known, looks = None, 0
    while True:
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(content)
            return
        except FileExistsError:
            if lock.is_symlink() or (lock.exists() and not lock.is_file()):
                raise SettingsError(f"{lock}: no file, so no call has left it: delete it") from None
            seen = _look(lock)
        if seen is None:
            continue
        if known is None:
            known = seen
            _say(f"{lock}: {_whose(seen[0])} makes these runs, or was killed: looking if it lives")
        if seen != known:
            raise SettingsError(
                f"{lock}: {_whose(seen[0])} makes these runs: wait for its end, or end it"
            )
        if looks >= 2 and _age(lock) > 1.5 * STALE:
            break
        looks += 1
        time.sleep(BEAT)
    _say(f"{lock}: {_whose(known[0])} was killed: going on from what it left")
    mine = lock.with_name(f"{LOCK}-{uuid4().hex}")
    mine.write_text(content, encoding="utf-8")
    os.replace(mine, lock)
    time.sleep(2 * BEAT)
    if (seen := _look(lock)) is None or seen[0] != content:
        raise SettingsError(f"{lock}: another call was faster: wait for its end, or end it")


def _renew(lock: Path, content: str, is_over: threading.Event) -> None:
    while True:
        try:
            found = lock.read_text(encoding="utf-8", errors="replace")
            if found == content:
                os.utime(lock)
        except FileNotFoundError:
            found = ""
        except OSError:  # of a shared disk that is out of reach
            found = content
        if is_over.is_set():
            return
        if found != content:
            _end(f"{lock} was taken over or deleted")
        time.sleep(BEAT)


def _watch(lock: Path, content: str) -> None:
    known, unchanged = None, 0
    while unchanged < STALE / BEAT:
        try:
            seen = _look(lock)
        except OSError:
            seen = known
        if seen is None or seen[0] != content:
            break
        unchanged = unchanged + 1 if seen == known else 0  # not seconds: all may have stood still
        known = seen
        time.sleep(BEAT)
    _end(_NO_OWNER.format(lock))


def _end(why: str) -> None:
    _say(f"ended: {why}")
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(1)


def _release(held: Sequence[Path], content: str, process: int, is_over: threading.Event) -> None:
    is_over.set()
    for lock in held if process == os.getpid() else ():  # not in a fork
        seen = _look(lock)
        if seen is not None and seen[0] == content:
            lock.unlink(missing_ok=True)


def _look(lock: Path) -> tuple[str, int] | None:
    """The content of a lock and when it was renewed; None if there is none.

    Opened, as an NFS client asks the server then.
    """
    try:
        with lock.open(encoding="utf-8", errors="replace") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _age(lock: Path) -> float:
    """Seconds since it was renewed, by the clock of its disk: those of hosts may differ."""
    now = lock.with_name(f"{LOCK}-{uuid4().hex}")
    now.touch()
    try:
        return now.stat().st_mtime - lock.stat().st_mtime
    except FileNotFoundError:
        return 0.0
    finally:
        now.unlink(missing_ok=True)


def _whose(content: str) -> str:
    try:
        owner = json.loads(content)
        return f"process {owner['process']} on {owner['host']} in {owner['folder']}"
    except (ValueError, KeyError, TypeError):
        return "a call that has left no name"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201
