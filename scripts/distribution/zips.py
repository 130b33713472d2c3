"""Zip files that are identical to the byte for every user, folder and Python."""

from __future__ import annotations

import os
import stat
import time
import zipfile
from pathlib import Path

from scripts.distribution import BuildError

Files = dict[str, bytes]
Time = tuple[int, int, int, int, int, int]

_FIRST = 315532800  # 1980-01-01, the first time that a zip file can store
_END = 4354819200  # 2108-01-01


def read(path: Path) -> Files:
    """The files in a zip file, by name."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def write(path: Path, files: Files, when: Time, prefix: bytes = b"") -> None:
    """Writes `files`, each with the time `when`, to the zip file `path`, with `prefix` before it.

    Not compressed: compressed data differs between versions of zlib, and Python starts faster without.
    """
    with path.open("wb") as file:
        file.write(prefix)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files, key=lambda name: (".dist-info/" in name, name)):  # the wheel format wants it last
                info = zipfile.ZipInfo(name, when)
                info.create_system = 3  # Unix
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, files[name])


def time_of_files() -> Time:
    """SOURCE_DATE_EPOCH, or 1980 without it, so that only the content counts. Raises BuildError."""
    text = os.environ.get("SOURCE_DATE_EPOCH") or str(_FIRST)
    if not (text.isascii() and text.isdecimal() and int(text) < _END):
        raise BuildError(f"SOURCE_DATE_EPOCH={text}: is not a time in seconds that a zip file can store")
    return time.gmtime(max(int(text), _FIRST))[:6]
