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

from kvmprobe.lab import keeper_process

PREFIX = "kvmprobe-lab-"  # of each folder in /tmp

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


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
    global _process  # noqa: PLW0603  (one for all threads of the lab)
    with _lock:
        if _process is None:
            _process = subprocess.Popen(  # noqa: S603  (no shell; our own program)
                [sys.executable, "-I", "-S", keeper_process.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C on the terminal is for the lab
            )
            atexit.register(_end)
        try:
            assert _process.stdin is not None
            _process.stdin.write(json.dumps([exists, kind, value]).encode() + b"\n")
            _process.stdin.flush()
        except BrokenPipeError:
            pass  # somebody killed it; the lab itself still cleans up unless it is killed, too


def _end() -> None:
    if _process is not None:
        try:
            _process.communicate()
        except BrokenPipeError:
            pass
