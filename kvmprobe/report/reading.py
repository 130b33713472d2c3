"""Reads files that people name, and files in folders that other users may write to.

Whoever may write to a folder may put anything in place of a report: a link to another file, a pipe that nobody writes
to, a device that starts when it is opened. "Regular" by its mode is not "a file that ends": /proc/kmsg is regular and
waits for the next line. So a file is read up to the size that it has when it is opened, and files of /proc have none.
"""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.report.targets import is_descriptor

if TYPE_CHECKING:
    from typing import Any, BinaryIO

# What `kvmprobe lab matrix` writes beside its reports: a list of its results, and no report itself.
MATRIX_SUMMARY = "summary.json"
LIMIT = 16 << 20  # bytes of a report in a folder; one of 8,192 CPUs, the most that Linux supports, has 11 MiB

_KERNELS_OWN = ("/proc", "/sys")


class ReportFiles:
    """The files below the folder `top`, at any depth, whose names end in one of `suffixes`. To be iterated once.

    `bad`: each file or folder that is not read, and why. `ignored`: how many other files there are. A link is not
    followed. It is ignored where it leads to a file that is below `top` anyway, else it is bad.
    """

    def __init__(self, top: str, suffixes: tuple[str, ...]) -> None:
        self._top = top
        self._suffixes = suffixes
        self.bad: list[tuple[str, str]] = []
        self.ignored = 0

    def __iter__(self) -> Iterator[str]:
        inside = os.path.realpath(self._top).rstrip("/") + "/"
        for folder, folders, names in os.walk(self._top, onerror=self._unreadable):
            self.ignored += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
            for name in names:
                path = os.path.join(folder, name)
                if not name.endswith(self._suffixes) or name == MATRIX_SUMMARY:
                    self.ignored += 1
                elif why := self._refusal(path, inside):
                    self.bad.append((path, why))
                elif not os.path.islink(path):
                    yield path
                else:
                    self.ignored += 1

    def _refusal(self, path: str, inside: str) -> str | None:
        """Why a file is not read; None where it is, or where its target is."""
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if not stat.S_ISLNK(mode):
            return None if stat.S_ISREG(mode) else "is not a file"
        target = os.path.realpath(path)
        is_read_itself = target.startswith(inside) and target.endswith(self._suffixes) and os.path.isfile(target)
        return None if is_read_itself else _LINK

    def _unreadable(self, error: OSError) -> None:
        self.bad.append((str(error.filename), f"cannot be read: {error.strerror}"))


_LINK = "is a link, and links in a folder are not followed"


def open_in_folder(path: str) -> BinaryIO:
    """Open a file that was found in a folder. Raises OSError; ValueError where it is a link or no file that ends.

    Anything but a file is not even opened: a pipe would block, a watchdog would start.
    """
    return _open(path, os.O_NOFOLLOW)


def open_named(path: str) -> BinaryIO:
    """Open the file or pipe that the user named, without a buffer; "-" is standard input.

    A link is followed. Raises OSError; ValueError where it is a device, a file of the kernel, or the pipe of another
    user, whose owner decides for how long its readers wait.
    """
    if path == "-":
        if sys.stdin is None:
            raise ValueError("it is closed")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
    return _open(path, 0)


def _open(path: str, flags: int) -> BinaryIO:
    found = os.open(path, os.O_PATH | os.O_CLOEXEC | flags)
    try:
        status = os.fstat(found)
        if stat.S_ISREG(status.st_mode):
            if not status.st_size or (not status.st_blocks and _is_kernels_own(status.st_dev)):
                raise ValueError("is empty (files of /proc and /sys are not read)")
        elif flags or not (is_descriptor(path) or stat.S_ISFIFO(status.st_mode)):
            raise ValueError(_LINK if stat.S_ISLNK(status.st_mode) else "is not a file")
        elif not is_descriptor(path) and status.st_uid not in (0, os.geteuid()):
            raise ValueError(f"is a pipe of another user (uid {status.st_uid})")
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)
    if stat.S_ISREG(status.st_mode):
        return _Beginning(fd, status.st_size)  # type: ignore[return-value]
    return os.fdopen(fd, "rb", buffering=0)


def _is_kernels_own(device: int) -> bool:
    return any(os.path.ismount(place) and os.stat(place).st_dev == device for place in _KERNELS_OWN)


class _Beginning(io.RawIOBase):
    """The first `size` bytes of an open file, which is closed with this one."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def readinto(self, buffer: Any) -> int:
        data = os.read(self._fd, min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)


def parts_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the content of `file`, unbuffered or compressed, in parts of at most `size` bytes. Raises OSError.

    Another process may have made standard input non-blocking: read() then returns None for data that has not come yet.
    """
    read = getattr(file, "read1", file.read)  # of a .gz: what was read stays, even if the next part is damaged
    while (part := read(size)) != b"":
        if part is None:
            select.select([file], [], [])
        else:
            yield part


def read_all(file: BinaryIO, limit: int) -> bytes:
    """Return the content of `file` and close it. Raises OSError; ValueError where it is larger than `limit` bytes."""
    data = bytearray()
    with file:
        for part in parts_of(file, 1 << 20):
            data += part
            if len(data) > limit:
                raise ValueError(f"larger than {limit >> 20} MiB: not a report")
    return bytes(data)
