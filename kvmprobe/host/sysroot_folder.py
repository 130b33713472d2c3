"""A folder that stands for "/", whoever has written it: no link leads out of it.

It is walked part by part, as the kernel does after chroot(2): an absolute link and ".." start at the folder. openat2(2)
with RESOLVE_IN_ROOT does the same, but Python does not have it.
"""

from __future__ import annotations

import errno
import os
import stat

_FIND = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # found, not opened: a device does nothing
_MAX_LINKS = 40  # MAXSYMLINKS, include/linux/namei.h


class SysrootFolder:
    """Opens, lists and describes what is below the folder `path`. Names begin with "/". All raise OSError."""

    def __init__(self, path: str) -> None:
        self._path = path

    def open(self, name: str, flags: int) -> int:
        """Open a file and return the descriptor."""
        folder, last = self._find(name)
        try:
            return os.open(last, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        finally:
            os.close(folder)

    def stat(self, name: str) -> os.stat_result:
        """The status of a file; of a link, that of its target."""
        folder, last = self._find(name)
        try:
            return os.stat(last, dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def read_link(self, name: str) -> str:
        """The text of a link."""
        folder, last = self._find(name, follow_last=False)
        try:
            return os.readlink(last, dir_fd=folder)
        finally:
            os.close(folder)

    def list(self, name: str) -> list[str]:
        """The names in a folder."""
        fd = self.open(name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _find(self, name: str, follow_last: bool = True) -> tuple[int, str]:
        """The descriptor of the folder that a file is in, and the file's name there, which is no link."""
        left = name.split("/")[::-1]
        above = [os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
        links = 0
        last = "."
        try:
            while left:
                part = left.pop()
                if part in ("", "."):
                    continue
                if part == "..":
                    if len(above) > 1:
                        os.close(above.pop())
                    continue
                is_last = not any(left)
                try:
                    found = os.open(part, _FIND, dir_fd=above[-1])
                except FileNotFoundError:
                    if not is_last:
                        raise
                    last = part  # what is done with it raises this error
                    break
                above.append(found)
                mode = os.fstat(found).st_mode
                if stat.S_ISLNK(mode) and (follow_last or not is_last):
                    target = os.readlink("", dir_fd=found)
                    os.close(above.pop())
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    left += target.split("/")[::-1]
                    if target.startswith("/"):
                        while len(above) > 1:
                            os.close(above.pop())
                elif is_last:
                    os.close(above.pop())
                    last = part
                    break
                elif not stat.S_ISDIR(mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return above.pop(), last
        finally:
            for fd in above:
                os.close(fd)
