"""Makes the files that are installed on hosts. `scripts/build` runs it."""

from __future__ import annotations

import base64
import bz2
import hashlib
import sys
import tempfile
from pathlib import Path

from builds import Failed, wheels, zips
from builds.zips import Files

PROJECT = Path(__file__).parent.parent
PYZ = "kvmprobe.pyz"
MAAS = "kvmprobe-maas.py"

# -I: neither the environment nor the current folder decides what root runs. Not by way of env: nor does PATH.
_SHEBANG = b"#!/usr/bin/python3 -I\n"
_MAIN = PROJECT / "scripts/builds/main_of_pyz.py"
_MAAS = PROJECT / "scripts/maas/kvmprobe-maas.py"
_INSIDE = ("kvmprobe", "pyudev", "python_ptrace")
# The lab boots emulated machines: nothing for the hosts themselves. The rest is what installers of wheels need.
_LEFT_OUT = ("kvmprobe/lab/",)
_OF_INSTALLERS = ("RECORD", "WHEEL", "top_level.txt", "entry_points.txt")


def main() -> str | None:
    """Builds into the folder given; returns what is wrong, if anything is."""
    folder = Path(sys.argv[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as temp:
            work = Path(temp)
            (work / "done").mkdir()
            _make(work, work / "done")
            for path in sorted((work / "done").iterdir()):
                print(hashlib.sha256(path.read_bytes()).hexdigest(), f" {path.replace(folder / path.name)}")
    except (Failed, OSError) as error:
        return f"build: {error}"
    return None


def _make(work: Path, done: Path) -> None:
    when = zips.time_of_files()
    found = wheels.pinned(work / "pinned")
    name, found["kvmprobe"] = wheels.own(PROJECT, found["setuptools"], work)
    zips.write(done / name, found["kvmprobe"], when)
    zips.write(done / PYZ, _of_pyz(found), when, _SHEBANG)
    (done / MAAS).write_text(_maas((done / PYZ).read_bytes()), encoding="ascii")
    for path in done.iterdir():
        path.chmod(0o644 if path.suffix == ".whl" else 0o755)


def _of_pyz(found: dict[str, Files]) -> Files:
    files = {"__main__.py": _MAIN.read_bytes()}
    for library in _INSIDE:
        for name, data in found[library].items():
            is_metadata = ".dist-info/" in name and name.rpartition("/")[2] not in _OF_INSTALLERS  # licences, too
            is_module = not any(part in name for part in (".dist-info/", ".data/")) and not name.startswith(_LEFT_OUT)
            if is_metadata or is_module:
                files[name] = data
    return files


def _maas(pyz: bytes) -> str:
    """The script for MAAS, which keeps scripts as text. What bzip2 makes is the same everywhere; not so xz and zlib."""
    payload = base64.encodebytes(bz2.compress(pyz)).decode("ascii")
    before, mark, after = _MAAS.read_text(encoding="ascii").partition('PYZ = """')
    return f"{before}{mark}\n{payload}{after}"


if __name__ == "__main__":
    sys.exit(main())
