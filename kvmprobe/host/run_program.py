"""Running the system's own programs: modprobe and rmmod.

Not by subprocess, whose import takes as long as modprobe itself.
"""

from __future__ import annotations

import os
import select
import signal
import time

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_DEADLINE_S = 120.0
_KILL_S = 2.0  # after that it hangs in the kernel, as a module can whose init does


def run(program: str, *arguments: str) -> tuple[int | None, str]:
    """Runs a program of the system (no shell): its exit status, None when it could not be run, and what it said."""
    path = next((path for path in (f"{folder}/{program}" for folder in _PATH.split(":")) if os.path.exists(path)), None)
    if path is None:
        return None, f"there is no {program} in {_PATH}"
    said, saying = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, saying, 1),
        (os.POSIX_SPAWN_DUP2, saying, 2),
    ]
    try:
        pid = os.posix_spawn(path, [program, *arguments], {"PATH": _PATH, "LC_ALL": "C"}, file_actions=actions)
    except OSError as error:
        os.close(said)
        return None, f"{path} cannot be run: {error.strerror}"
    finally:
        os.close(saying)
    output = None
    try:
        output = _read(said)
    finally:
        os.close(said)
        if output is None:  # too late, or we are being ended
            is_gone = _kill(pid)
    if output is None:
        return None, f"{program} did not end within {_DEADLINE_S:.0f} s" + ("" if is_gone else ", nor by SIGKILL")
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), output.decode("utf-8", "replace").strip()


def _kill(pid: int) -> bool:
    """Ends a child, and waits for that, but not for ever: False where it is in the kernel and stays there."""
    os.kill(pid, signal.SIGKILL)
    ends = time.monotonic() + _KILL_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


def _read(fd: int) -> bytes | None:
    """All that comes from a pipe; None when it does not end in time."""
    ends = time.monotonic() + _DEADLINE_S
    output = b""
    while select.select([fd], [], [], max(0.0, ends - time.monotonic()))[0]:
        part = os.read(fd, 65536)
        if not part:
            return output
        output += part
    return None
