"""Where a result may go, checked before any work is done: standard output, a file, a pipe or a device."""

from __future__ import annotations

import os
import re
import stat

from kvmprobe.model.errors import UsageProblem
from kvmprobe.report import STANDARD_OUTPUT
from kvmprobe.report.safe_write import find_special, open_folder

# A descriptor that the caller has opened. Opening its name again would truncate the file behind it.
_DESCRIPTOR = r"/dev/std(in|out|err)|(/dev|/proc/(self|thread-self|[0-9]+))/fd/[0-9]+"


def check_target(path: str, option: str = "--output ") -> None:
    """Raise UsageProblem where `path`, the value of `option`, can never be written."""
    name = f"{option}{path}"
    if not path:
        raise UsageProblem(f"{option.rstrip(' :')}: an empty name", "Name a file.")
    if path in STANDARD_OUTPUT:
        return
    try:
        folder = os.path.dirname(os.path.realpath(path))
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}: the current folder", "Give a full path.") from error
    if os.path.isdir(path) or path.endswith("/"):
        raise UsageProblem(f"{name}: is a folder", "Name a file.")
    if not os.path.isdir(folder):
        raise UsageProblem(f"{name}: there is no folder {folder}", "Create the folder first.")
    special = is_special(path)
    if not os.access(path if special else folder, os.W_OK):
        raise UsageProblem(f"{name}: no permission to write there", "Name another file, or run as another user.")
    if is_descriptor(path):
        return
    try:
        os.close(find_special(path) if special else open_folder(path)[0])
    except OSError as error:
        raise UsageProblem(f"{name}: {error.strerror}", "Name a file in a folder of your own, not a link.") from error


def real_target(path: str | None) -> str | None:
    """The file that `path` leads to, so that two names of one file compare equal; None is standard output."""
    if path in STANDARD_OUTPUT:
        return None
    return path if path is None or is_special(path) else os.path.realpath(path)


def is_descriptor(path: str) -> bool:
    """Whether `path` names a descriptor that the caller has opened, such as /dev/fd/3."""
    return re.fullmatch(_DESCRIPTOR, path) is not None


def is_special(path: str) -> bool:
    """Whether `path` is a descriptor, device or pipe: written to, never replaced."""
    if is_descriptor(path):
        return True
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
