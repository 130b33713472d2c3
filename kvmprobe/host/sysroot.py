"""Reading the kernel's small files below a root: "/" or, for tests, a copy of the interesting parts."""

from __future__ import annotations

import errno
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Reading


_LIMIT = 64 << 20  # /proc/cpuinfo of the largest machines has a few MiB


def close(fd: int) -> None:
    """Closes a descriptor. Linux has let go of it whatever it answers (close(2)), so an error changes nothing."""
    try:
        os.close(fd)
    except OSError:
        pass


class Sysroot:
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
