"""The root of a guest that runs this machine's programs, and all that the guest can read of this machine.

That is the folders of programs and libraries, the links of Debian's alternatives, and the index of libraries. The rest
of the root (/etc, /tmp, /root ...) is the guest's own and nearly empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from kvmprobe.lab.initramfs import Archive
from kvmprobe.model.errors import Problem

# Where /usr is not merged, the others are folders, too; else they are links.
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ALTERNATIVES = "etc/alternatives"  # some links in /usr/bin lead there
_LIBRARY_INDEX = "etc/ld.so.cache"

_OWN_FOLDERS = ("etc/modprobe.d", "home", "mnt", "opt", "root", "run", "tmp", "var/lib", "var/log", "var/tmp")
_OWN_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}

_SHARES = "lab/shares"  # for init.sh: a share's tag and its folder in the guest, in each line
_SKELETON = "lab/root"  # for init.sh: what is in the root besides the shares


def shares(root: Path, more: Sequence[Path]) -> dict[str, tuple[Path, Path]]:
    """Returns the folders that a guest can read: by the share's tag the folder here, and its path in the guest.

    `root` is a folder with the guest's programs, or an image, which is no share. The guest has the folders `more` at
    the same path as this machine. Raises a Problem for a path that init.sh cannot read.
    """
    folders = list(_folders(root)) + [(path, path) for path in dict.fromkeys(more)]
    for _, target in folders:
        if "\n" in str(target) or not target.is_absolute():
            raise Problem(f"the guest cannot have {str(target)!r}", "Give an absolute path without a newline.")
    return {f"share{number}": pair for number, pair in enumerate(folders)}


def archive(root: Path, more: Sequence[Path]) -> bytes:
    """Returns the archive for init.sh, which has the list of the shares and the rest of the root."""
    made = Archive()
    lines = (f"{tag} {target}\n" for tag, (_, target) in shares(root, more).items())
    made.file(_SHARES, "".join(lines).encode())
    if root.is_dir():
        for name in _OWN_FOLDERS:
            made.directory(f"{_SKELETON}/{name}")
        for name, text in _OWN_FILES.items():
            made.file(f"{_SKELETON}/{name}", text.encode())
        for name in _PROGRAMS:
            if (root / name).is_symlink():
                made.symlink(f"{_SKELETON}/{name}", str((root / name).readlink()))
        if (root / _LIBRARY_INDEX).is_file():
            made.file(f"{_SKELETON}/{_LIBRARY_INDEX}", (root / _LIBRARY_INDEX).read_bytes())
    return made.finish()


def _folders(root: Path) -> Iterator[tuple[Path, Path]]:
    if root.is_dir():
        for name in (*_PROGRAMS, _ALTERNATIVES):
            if (root / name).is_dir() and not (root / name).is_symlink():
                yield root / name, Path("/", name)
