"""Where the result goes: standard output, or a file that is either the old one or the whole new one."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.errors import Problem, UsageProblem
from kvmprobe.report.safe_write import find_special, open_folder, open_special, replace

if TYPE_CHECKING:
    pass


_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_DESCRIPTOR = re.compile(r"/dev/std(in|out|err)|(/dev|/proc/(self|thread-self|[0-9]+))/fd/[0-9]+")  # the caller's own


def check_target(path: str, option: str = "--output ") -> None:
    """Raises UsageProblem, before any work is done, where `path`, the value of `option`, can never be written."""
    name = f"{option}{path}"
    if not path:
        raise UsageProblem(f"{option.rstrip(' :')}: an empty name", "Name a file.")
    if path in _STDOUT:
        return
    try:
        folder = os.path.dirname(os.path.realpath(path))
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}: the current folder", "Give a full path.") from error
    if os.path.isdir(path) or path.endswith("/"):
        raise UsageProblem(f"{name}: is a folder", "Name a file.")
    if not os.path.isdir(folder):
        raise UsageProblem(f"{name}: there is no folder {folder}", "Make the folder first.")
    special = is_special(path)
    if not os.access(path if special else folder, os.W_OK):
        raise UsageProblem(f"{name}: not permitted to write there", "Choose another folder or user.")
    if _DESCRIPTOR.fullmatch(path):
        return
    try:
        os.close(find_special(path) if special else open_folder(path)[0])
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}", "Give a file's real path, in a folder of your own.") from error


def place(path: str | None) -> str | None:
    """The file that `path` leads to; None is standard output."""
    if path in _STDOUT:
        return None  # opened anew, it would be written from its beginning
    return path if path is None or is_special(path) else os.path.realpath(path)


def write(text: str, path: str | None, mode: int | None = None) -> None:
    """Writes the result to `path`, or to standard output. Raises Problem when it cannot be written.

    `mode`: what a file gets, whatever the umask is and whatever mode it had.
    """
    if path in _STDOUT:
        path = None
    try:
        if path is None:
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
            sys.stdout.write(text)
            sys.stdout.flush()
        elif is_special(path):
            with open(path if _DESCRIPTOR.fullmatch(path) else open_special(path), "a", encoding="utf-8") as file:
                file.write(text)
        else:
            replace(path, text, mode)
    except BrokenPipeError:
        # The reader has seen enough (kvmprobe | head). Python's own flush at exit must not complain either.
        if path is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise Problem(f"the result cannot be written to {path or 'standard output'}: {error.strerror}") from error


def wants_colour() -> bool:
    """Whether standard output is a terminal that may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


def is_special(path: str) -> bool:
    """A device or pipe is written to, never replaced; and /dev/fd/3, whatever it stands for."""
    if _DESCRIPTOR.fullmatch(path):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
