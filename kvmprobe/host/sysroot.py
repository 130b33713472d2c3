"""Small files of /proc, /sys and /dev, read below a root: "/", or a folder with copies of them (--sysroot)."""

from __future__ import annotations

import errno
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.host.sysroot_folder import SysrootFolder
    from kvmprobe.model.evidence import Reading


_MAX_BYTES = 64 << 20  # of a file; /proc/cpuinfo of the largest machines has a few MiB
_MAX_ALL_BYTES = 256 << 20  # of all files of another root together


def close_fd(fd: int) -> None:
    """Close a descriptor. Errors are ignored: Linux releases the descriptor in any case (close(2))."""
    try:
        os.close(fd)
    except OSError:
        pass


def write_setting(path: str, value: str) -> str | None:
    """Write to a file of /sys that exists; return None where the kernel took it, else the errno name."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            close_fd(fd)
    except OSError as error:
        return failure(error)["error"]
    return None


class Sysroot:
    """A folder that stands for "/". `is_real` is True where it is "/" itself. No link leads out of another root."""

    def __init__(self, path: str = "/") -> None:
        self.is_real = os.path.realpath(path) == "/"
        self._prefix = "" if self.is_real else path.rstrip("/")
        self._folder: SysrootFolder | None = None
        self._left = _MAX_ALL_BYTES
        if not self.is_real:
            from kvmprobe.host.sysroot_folder import SysrootFolder

            self._folder = SysrootFolder(path)

    def path(self, name: str) -> str:
        """Return the name of a file as a user of this machine writes it. Whoever opens it follows links anywhere."""
        return self._prefix + name

    def stat(self, name: str) -> os.stat_result:
        """Return the status of a file, folder or device. Raises OSError."""
        return self._folder.stat(name) if self._folder else os.stat(name)

    def read_link(self, name: str) -> str:
        """Return the text of a link. Raises OSError."""
        return self._folder.read_link(name) if self._folder else os.readlink(name)

    def exists(self, name: str) -> bool:
        """Return whether there is a file, folder or device with this name."""
        if self._folder is None:
            return os.path.exists(name)
        try:
            self._folder.stat(name)
            return True
        except (OSError, ValueError):
            return False

    def open(self, name: str, flags: int = os.O_RDONLY | os.O_NONBLOCK) -> int:
        """Open a file or device and return the descriptor. Raises OSError.

        O_NONBLOCK: a named pipe in the place of a file must not block.
        """
        if self._folder is None:
            return os.open(name, flags | os.O_CLOEXEC)
        return self._folder.open(name, flags)

    def read_text(self, name: str) -> str:
        """Return the content of a file without white space at its ends; undecodable bytes are replaced.

        Raises OSError.
        """
        fd = self.open(name)
        try:
            parts = []
            size = 0
            while size < _MAX_BYTES and (part := os.read(fd, 1 << 20)):
                parts.append(part)
                size += len(part)
                if self._folder:
                    self._count(len(part))
        finally:
            close_fd(fd)
        return b"".join(parts).decode("utf-8", "replace").strip()

    def _count(self, size: int) -> None:
        """Raise OSError where the files of another root have more in all than any machine's."""
        self._left -= size
        if self._left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    def read_value(self, name: str) -> Reading:
        """Return the content of a file, None where it does not exist, {"error": …} where it cannot be read."""
        try:
            return self.read_text(name)
        except OSError as error:
            return None if error.errno in (errno.ENOENT, errno.ENOTDIR) else failure(error)

    def read_text_or_none(self, name: str) -> str | None:
        """Return the content of a file, None where it cannot be read for whatever reason."""
        value = self.read_value(name)
        return value if isinstance(value, str) else None

    def list_folder(self, name: str) -> list[str]:
        """Return the sorted names in a folder, [] where it cannot be listed."""
        try:
            return sorted(self._folder.list(name) if self._folder else os.listdir(name))
        except (OSError, ValueError):
            return []

    def read_register(self, fd: int, number: int, size: int) -> bytes:
        """Return the `size` bytes of register `number` from an open /dev/cpu/N/msr or cpuid.

        Raises OSError, also for a short read. The kernel takes the number as the offset. Below another root the
        device is a file, where such offsets would overlap: there the register is at number * size.
        """
        data = os.pread(fd, size, number if self.is_real else number * size)
        if len(data) != size:
            raise OSError(0, f"short read: {len(data)} of {size} bytes")
        return data
