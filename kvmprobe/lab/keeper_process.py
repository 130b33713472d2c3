"""Ends what a lab leaves behind when it is killed: its programs and its folders in /tmp.

It runs as a process of its own, because nothing in a process runs after SIGKILL. Standard input has one JSON list in
each line: [true, KIND, VALUE] for something that exists from now on, [false, KIND, VALUE] when the lab has ended it.
KIND is "program" (VALUE: its PID) or "folder" (VALUE: its path). The kernel closes the other end however the lab ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_SETTLE_S = 0.01  # a stopped process may still finish its fork
_DEADLINE_S = 10.0  # for killed programs to end


def kill_tree(leader: int) -> None:
    """Kills the process `leader` and all its descendants, in whatever session or namespace they are.

    It stops every process before it searches for children, so that none can start another one unseen.
    """
    found: list[int] = []
    new = [leader]
    while new:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        found += new
        time.sleep(_SETTLE_S)
        new = [pid for pid, parent in _parents().items() if parent in found and pid not in found]
    for pid in found:
        _send(pid, signal.SIGKILL)


def remove_tree(top: Path) -> None:
    """Removes the folder `top`, however deep it is. A missing folder is no error. Raises OSError.

    A guest may nest folders deeper than Python can recurse and than a path can be long. So the content of each folder
    moves up to `top` before the folder is removed.
    """
    unique, number = secrets.token_hex(8), 0  # a name that a guest cannot have given to anything
    folders = top.exists()
    while folders:
        folders = False
        for entry in list(os.scandir(top)):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            folders = True
            for child in list(os.scandir(entry.path)):
                number += 1
                os.rename(child.path, top / f"{unique}-{number}")
            os.rmdir(entry.path)
    if top.exists():
        os.rmdir(top)


def _parents() -> dict[int, int]:
    """Each process and its parent."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path("/proc", name, "stat").read_text("utf-8", "replace")
            except OSError:  # it has ended
                continue
            found[int(name)] = int(text.rpartition(")")[2].split()[1])
    return found


def _send(pid: int, signum: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def main() -> None:
    """Waits for the end of the lab, then ends what it left."""
    left: set[tuple[str, str]] = set()
    for line in sys.stdin:
        exists, kind, value = json.loads(line)
        (left.add if exists else left.discard)((kind, str(value)))
    for kind, value in left:
        if kind == "program":
            kill_tree(int(value))
    folders = [Path(value) for kind, value in left if kind == "folder"]
    ends = time.monotonic() + _DEADLINE_S
    while any(map(os.path.exists, folders)) and time.monotonic() < ends:
        for folder in folders:
            with suppress(OSError):  # a killed program may still write to it
                remove_tree(folder)
        time.sleep(_SETTLE_S)


if __name__ == "__main__":
    main()
