"""Errors that show what this process may have, not a defect of kvmprobe: the limit that was reached, and what to do.

They can come from any call: os.pipe(), os.fork(), the import of a module. So they are judged where the process ends.
"""

from __future__ import annotations

import errno
import os

_MEMORY = ("out of memory", "Free some memory, or raise the limit (ulimit, cgroup).")
_TASKS = (
    "no more processes or threads can be started",
    "Raise the limit of processes (ulimit -u, pids.max of the cgroup, TasksMax= of systemd).",
)
_BY_ERRNO = {
    errno.EMFILE: ("this process has too many open files", "Raise the limit of open files, such as ulimit -n 1024."),
    errno.ENFILE: ("this machine has too many open files", "Raise fs.file-max, or end what has so many files open."),
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _TASKS,
}


def limit_reached(error: BaseException) -> tuple[str, str] | None:
    """Return the limit that `error` shows and what to do, None where it shows none."""
    if isinstance(error, MemoryError):
        return _MEMORY
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return _TASKS
    if isinstance(error, ImportError) and (error.path or "").endswith(".so"):
        return f"a library of Python cannot be loaded: {error}", "Raise the limits of memory and open files (ulimit)."
    if not isinstance(error, OSError):
        return None
    if error.filename == os.devnull:
        return f"{os.devnull} cannot be opened: {error.strerror}", "Mount /dev, which other programs need, too."
    return _BY_ERRNO.get(error.errno or 0)
