"""The kernel's own test tools, from Debian's linux-source. It is downloaded once; only the needed files are kept."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import cache, external_programs
from kvmprobe.lab.apt import Apt
from kvmprobe.model.errors import Problem

_SUITE, _PACKAGE = "trixie", "linux-source-6.12"
_ENTRY = f"{_PACKAGE}-1"  # other files need another number
_FOLDERS = ("tools/testing/kunit/", "tools/testing/selftests/kselftest/")
_FILES = (
    "scripts/subarch.include",
    *(f"tools/testing/selftests/{name}" for name in ("Makefile", "lib.mk", "run_kselftest.sh")),
)


def fetch() -> Path:
    """Returns the folder with the tree. Never write to it: all tests share it. Raises Problem."""
    place, _ = cache.entry(cache.default(), _ENTRY, _make, print)
    return place / "tree"


def _make(new: Path) -> cache.Meta:
    with TemporaryDirectory(dir=new) as work:
        apt = Apt(_SUITE, Path(work, "apt"))
        apt.update()
        (package,) = apt.download([_PACKAGE], print)
        unpack: Sequence[str | Path] = (external_programs.find("dpkg-deb", "dpkg"), "--fsys-tarfile", package)
        with subprocess.Popen(unpack, stdout=subprocess.PIPE) as unpacking:
            assert unpacking.stdout is not None
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as outer:
                for member in outer:
                    if member.name.endswith(".tar.xz"):
                        with tarfile.open(fileobj=outer.extractfile(member), mode="r|xz") as source:
                            _keep(source, new / "tree")
    if not all((new / "tree" / name).exists() for name in (*_FOLDERS, *_FILES)):
        raise Problem(f"{_PACKAGE} does not have all the files needed")
    return {}


def _keep(source: tarfile.TarFile, folder: Path) -> None:
    """Extracts the needed files to `folder`, without the first part of their names, linux-source-6.12."""
    for member in source:
        name = member.name.partition("/")[2]
        if member.isfile() and (name in _FILES or name.startswith(_FOLDERS)):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            content = source.extractfile(member)
            assert content is not None
            target.write_bytes(content.read())
            os.chmod(target, member.mode)
