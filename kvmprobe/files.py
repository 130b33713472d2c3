"""Reading the kernel's small files below a root: "/" or, for tests, a copy of the interesting parts."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.evidence import failure

if TYPE_CHECKING:
    from typing import BinaryIO

    from kvmprobe.shape import Reading


_LIMIT = 64 << 20  # /proc/cpuinfo of the largest machines has a few MiB


def close(fd: int) -> None:
    """Closes a descriptor. Linux has let go of it whatever it answers (close(2)), so an error changes nothing."""
    try:
        os.close(fd)
    except OSError:
        pass


def parts_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """What is in `file`, unbuffered or compressed, up to `size` bytes at a time. Raises OSError.

    Somebody else may have made standard input non-blocking: None is then what has not come yet, not the end.
    """
    read = getattr(file, "read1", file.read)  # of a .gz: nothing is lost when the next part is damaged
    while (part := read(size)) != b"":
        if part is None:
            select.select([file], [], [])
        else:
            yield part


def read_regular(path: str, limit: int) -> bytes:
    """A file's content. Raises OSError, and ValueError where it is no regular file (which is not even opened: a pipe
    would be waited for, a watchdog set going) or larger than `limit`."""
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        close(found)
    try:
        text = b""
        while len(text) <= limit and (part := os.read(fd, max(status.st_size + 1 - len(text), 1 << 16))):
            text = text + part if text else part
    finally:
        close(fd)
    if len(text) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB: not a report")
    return text


class Root:
    """A folder that stands for "/" (what lscpu calls --sysroot)."""

    def __init__(self, path: str = "/") -> None:
        self.is_real = os.path.realpath(path) == "/"
        self._prefix = "" if self.is_real else path.rstrip("/")

    def path(self, name: str) -> str:
        """Where the file with the absolute name `name` is."""
        return self._prefix + name

    def text(self, name: str) -> str:
        """A file's content, stripped; undecodable bytes replaced. Raises OSError."""
        fd = os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            parts = []
            size = 0
            while size < _LIMIT and (part := os.read(fd, 1 << 20)):
                parts.append(part)
                size += len(part)
        finally:
            close(fd)
        return b"".join(parts).decode("utf-8", "replace").strip()

    def reading(self, name: str) -> Reading:
        """The same as a value: None where there is no such file, {"error": ...} where it cannot be read."""
        try:
            return self.text(name)
        except OSError as error:
            return None if error.errno in (errno.ENOENT, errno.ENOTDIR) else failure(error)

    def text_or_none(self, name: str) -> str | None:
        reading = self.reading(name)
        return reading if isinstance(reading, str) else None

    def listdir(self, name: str) -> list[str]:
        """The names in a folder, sorted; none where it cannot be listed."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def read_slot(self, fd: int, number: int, size: int) -> bytes:
        """What a register device (/dev/cpu/N/msr, cpuid) answers for `number`; OSError for a short answer too.

        The kernel takes the number itself as offset. In files below another root that would overlap, so there each
        number has a slot of its own, at number * size.
        """
        data = os.pread(fd, size, number if self.is_real else number * size)
        if len(data) != size:
            raise OSError(0, f"short read: {len(data)} of {size} bytes")
        return data

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))
