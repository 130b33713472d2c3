"""Programs and folders that end with the lab, even where SIGKILL ends it. See keeper_process."""

from __future__ import annotations

import atexit
import json
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from kvmprobe.lab import keeper_process

PREFIX = "kvmprobe-lab-"  # of each folder in /tmp

_lock = threading.Lock()
_pipes: list[IO[bytes]] = []  # the standard input of the process that outlives the lab, once it is started


@contextmanager
def program(pid: int) -> Iterator[None]:
    """The program `pid`, a child of this process, ends with the lab. An exception in the `with` block kills it.

    Its descendants end with it. The caller waits for it.
    """
    _report(True, "program", pid)
    try:
        yield
    except BaseException:
        keeper_process.kill_tree(pid)
        raise
    finally:
        _report(False, "program", pid)


@contextmanager
def folder(path: Path | None = None, mode: int = 0o700) -> Iterator[Path]:
    """A new folder with this `mode`: `path`, else one in /tmp (or $TMPDIR). Raises OSError.

    It is removed at the end of the `with` block, if it is still there.
    """
    path = path or Path(tempfile.gettempdir(), PREFIX + secrets.token_hex(8))
    _report(True, "folder", str(path))  # before it exists: nothing is left at any moment
    try:
        path.mkdir(mode=mode)
        yield path
    finally:
        with suppress(OSError):  # mmdebstrap without root leaves files of other users
            keeper_process.remove_tree(path)
        _report(False, "folder", str(path))


def _report(exists: bool, kind: str, value: int | str) -> None:
    """Reports to the process that outlives the lab, which is started with the first report."""
    with _lock:
        if not _pipes:
            _pipes.append(_start())
        with suppress(BrokenPipeError):  # somebody killed it; the lab still cleans up unless it is killed, too
            _pipes[0].write(json.dumps([exists, kind, value]).encode() + b"\n")


def _start() -> IO[bytes]:
    """Starts the process and returns its standard input. At the exit of the lab it ends."""
    process = subprocess.Popen(  # noqa: S603  (no shell; our own program)
        [sys.executable, "-I", "-S", keeper_process.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        start_new_session=True,  # Ctrl-C on the terminal is for the lab
    )
    atexit.register(process.communicate)
    return cast("IO[bytes]", process.stdin)
