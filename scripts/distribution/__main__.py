"""Builds the files that are installed on hosts, into a folder: `scripts/build` runs it."""

from __future__ import annotations

import argparse
import base64
import bz2
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[0] = str(PROJECT)  # not this folder: its modules are scripts.distribution.…

from scripts.distribution import BuildError, compiled_code, wheels, zips  # noqa: E402
from scripts.distribution.zips import Files  # noqa: E402

PYZ = "kvmprobe.pyz"
MAAS = "kvmprobe-maas.py"
SHARE = "share"

# -I: neither the environment nor the current folder decides what root runs. No env: nor does PATH.
_SHEBANG = b"#!/usr/bin/python3 -I\n"
_MAIN = PROJECT / "scripts/distribution/pyz_main.py"
_MAAS = PROJECT / "scripts/maas/kvmprobe-maas.py"
_LIBRARIES = ("kvmprobe", "pyudev", "python_ptrace")
# The lab boots emulated machines; hosts do not need it. The metadata is for installers of wheels.
_EXCLUDED = ("kvmprobe/lab/",)
_INSTALLER_METADATA = ("RECORD", "WHEEL", "top_level.txt", "entry_points.txt")


def main() -> str | None:
    """Builds all files, then moves them into the folder at once. Returns an error message, or None."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compile", metavar="PYTHON", action="append", default=[])
    options = parser.parse_args()
    folder = options.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as temp:
            work = Path(temp)
            (work / "done").mkdir()
            share = _build(work, work / "done", options.compile)
            for path in sorted((work / "done").iterdir()):
                print(hashlib.sha256(path.read_bytes()).hexdigest(), f" {path.replace(folder / path.name)}")
        _unpack(share, folder)
    except (BuildError, OSError) as error:
        return f"build: {error}"
    return None


def _build(work: Path, done: Path, pythons: Sequence[str]) -> Files:
    """Writes wheel, pyz and MAAS script into `done`. Returns the files of share/, by their paths.

    The pyz also has what `pythons` compiled; MAAS stores its script as text, where that would be too large.
    """
    when = zips.time_of_files()
    found = wheels.pinned(work / "pinned")
    name, found["kvmprobe"] = wheels.own(PROJECT, found, work)
    share = {
        f"{SHARE}/{path}": data
        for file, data in found["kvmprobe"].items()
        for _, is_data, path in [file.partition(f".data/data/{SHARE}/")]
        if is_data
    }
    zips.write(done / name, found["kvmprobe"], when)
    files = _pyz_files(found)
    zips.write(done / PYZ, {**files, **share}, when, _SHEBANG)
    (done / MAAS).write_text(_maas_script((done / PYZ).read_bytes()), encoding="ascii")
    if pythons:
        zips.write(done / PYZ, {**files, **compiled_code.compiled(pythons, files), **share}, when, _SHEBANG)
    for path in done.iterdir():
        path.chmod(0o644 if path.suffix == ".whl" else 0o755)
    return share


def _pyz_files(found: dict[str, Files]) -> Files:
    """The modules of kvmprobe and its libraries, with their metadata and licences."""
    files = {"__main__.py": _MAIN.read_bytes()}
    for library in _LIBRARIES:
        for name, data in found[library].items():
            is_metadata = ".dist-info/" in name and name.rpartition("/")[2] not in _INSTALLER_METADATA
            is_module = not any(part in name for part in (".dist-info/", ".data/")) and not name.startswith(_EXCLUDED)
            if is_metadata or is_module:
                files[name] = data
    return files


def _maas_script(pyz: bytes) -> str:
    """The script for MAAS, which stores text. bzip2's output is the same everywhere; that of xz and zlib is not."""
    payload = base64.encodebytes(bz2.compress(pyz)).decode("ascii")
    before, mark, after = _MAAS.read_text(encoding="ascii").partition('PYZ = """')
    return f"{before}{mark}\n{payload}{after}"


def _unpack(files: Files, folder: Path) -> None:
    """Writes the files of share/ below `folder`, readable by all users."""
    os.umask(0o022)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
