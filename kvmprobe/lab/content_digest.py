"""Digests of files and of folders."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

_PART = 1 << 20  # bytes


def of(path: Path) -> str:
    """Returns the SHA-256 of a file, or of a folder: the names, types and content of everything in it.

    A file in a folder that this user cannot read counts with its name, type and size. Raises OSError.
    """
    digest = hashlib.sha256()
    if not path.is_dir():
        _add_file(digest, path)
        return digest.hexdigest()
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted((*folders, *files)):
            found = os.path.join(folder, name)
            state = os.lstat(found)
            digest.update(f"\0{os.path.relpath(found, path)}\0{state.st_mode}\0".encode("utf-8", "surrogateescape"))
            if stat.S_ISLNK(state.st_mode):
                digest.update(os.fsencode(os.readlink(found)))
            elif stat.S_ISREG(state.st_mode):
                digest.update(f"{state.st_size}\0".encode())
                with suppress(PermissionError):  # of another user of mmdebstrap without root
                    _add_file(digest, Path(found))
    return digest.hexdigest()


def _add_file(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
