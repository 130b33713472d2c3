"""Zip files that are the same to the byte whoever makes them, wherever, with whatever Python."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from pathlib import Path

Files = dict[str, bytes]

_FIRST = 315532800  # 1980-01-01, the first time that a zip file can tell


def read(path: Path) -> Files:
    """The files in a zip file, by their names."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def write(path: Path, files: Files, prefix: bytes = b"") -> None:
    """Makes the zip file `path` of `files`, with `prefix` before it.

    Not compressed: what comes out of that differs from one zlib to the next, and a Python starts quicker from it. The
    time of all files is SOURCE_DATE_EPOCH, else 1980: it depends on nothing but the content, with git or without.
    """
    when = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", _FIRST)), _FIRST))[:6]
    with path.open("wb") as file:
        file.write(prefix)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):  # a wheel's end, says its format
                info = zipfile.ZipInfo(name, when)
                info.create_system = 3  # Unix
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, files[name])
