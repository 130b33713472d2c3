"""Writes initramfs archives: newc cpio (Documentation/driver-api/early-userspace/buffer-format.rst).

The kernel accepts several archives one after the other. So the part that is the same in every boot of a kernel
(`base`) is made once.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

from kvmprobe.lab import elf, external_programs
from kvmprobe.model.errors import Problem

# init.sh calls these. They are links, because busybox may be built without its own search for applets.
_APPLETS = ("cat", "chroot", "echo", "grep", "mkdir", "modprobe", "mount", "mv", "poweroff", "sh", "sync")


class Archive:
    """A cpio archive under construction. Paths are below "/"; parent folders are added automatically; root owns all."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._paths: set[PurePosixPath] = {PurePosixPath("/")}

    def directory(self, path: str | PurePosixPath) -> None:
        """Adds a folder, unless the archive has it already."""
        path = PurePosixPath("/", path)
        if path not in self._paths:
            self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str | PurePosixPath, data: bytes, mode: int = 0o644) -> None:
        """Adds a regular file with the content `data`."""
        self._add(PurePosixPath("/", path), stat.S_IFREG | mode, data)

    def symlink(self, path: str | PurePosixPath, target: str) -> None:
        """Adds a symbolic link to `target`."""
        self._add(PurePosixPath("/", path), stat.S_IFLNK | 0o777, target.encode())

    def finish(self) -> bytes:
        """Returns the complete archive. Another one may follow it."""
        return bytes(self._data + _entry(0, "TRAILER!!!", 0, b""))

    def _add(self, path: PurePosixPath, mode: int, data: bytes) -> None:
        self.directory(path.parent)
        self._paths.add(path)
        self._data += _entry(len(self._paths), str(path.relative_to("/")), mode, data)


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    links, owner, mtime, device, check = 1, 0, 0, 0, 0
    fields = (inode, mode, owner, owner, links, mtime, len(data), device, device, device, device, len(encoded), check)
    return _padded(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def base(modules_root: Path) -> bytes:
    """Returns the archive with busybox and the modules below `modules_root`/lib/modules.

    Raises a Problem if there is no static busybox.
    """
    archive = Archive()
    archive.file("bin/busybox", _busybox(), 0o755)
    for applet in _APPLETS:
        archive.symlink(f"bin/{applet}", "busybox")
    lib = modules_root / "lib"
    for path in sorted(lib.rglob("*")):
        if path.is_file():
            archive.file(str(path.relative_to(modules_root)), path.read_bytes())
    return archive.finish()


def _busybox() -> bytes:
    path = Path(external_programs.find("busybox", "busybox-static"))
    data = path.read_bytes()
    if not elf.is_x86_64(data) or any(elf.segments(data, elf.PT_INTERP)):
        raise Problem(
            f"{path} is not a static x86-64 program, so an initramfs cannot run it",
            "Install it: apt-get install busybox-static.",
        )
    return data
