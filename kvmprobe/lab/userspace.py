"""Debian's userspace for the guests: the Python and the tools of the release that a kernel belongs to.

So `requires-python >=3.9` is true because it was run, and what else is installed on this machine does not matter.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import apt, cache, tools
from kvmprobe.lab.tools import Say

_CACHE = "userspaces-2"
_IMAGE = "root.squashfs"

# python3 runs kvmprobe, libudev1 is behind pyudev, kmod and msr-tools prepare scenarios; the last two are the
# neighbours that kvmprobe is compared with.
PACKAGES = ("python3", "libudev1", "kmod", "msr-tools", "cpu-checker", "libvirt-clients")
_MORE = {"trixie": ("libvirt-daemon-common",)}  # where virt-host-validate moved to
_UNUSED = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache", "var/lib/apt")


@dataclass(frozen=True)
class Userspace:
    """`image` is a squashfs with everything, `root` the same as a folder: its Python compiles kvmprobe on the host."""

    suite: str
    root: Path
    image: Path


def fetch(suite: str, folder: Path, say: Say, more: Sequence[str] = ()) -> Userspace:
    """The userspace of a Debian suite, built with mmdebstrap unless it is in the cache `folder`.

    `more` are packages besides the usual ones. Raises Problem.
    """

    def make(new: Path) -> cache.Meta:
        say(f"{suite}: building its userspace …")
        mmdebstrap = tools.find("mmdebstrap", "mmdebstrap")
        mksquashfs = tools.find("mksquashfs", "squashfs-tools")
        root = new / "root"
        packages = (*PACKAGES, *_MORE.get(suite, ()), *more)
        with TemporaryDirectory(prefix="kvmprobe-lab-") as work:
            tools.run(
                *(mmdebstrap, "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
                *(f"--aptopt=Acquire::Languages {chr(34)}none{chr(34)}", suite, root, apt.mirror()),
                cwd=Path(work),
                hint="mmdebstrap builds Debian's userspace as root (or as a user with the package uidmap).",
            )
        for name in _UNUSED:
            shutil.rmtree(root / name, ignore_errors=True)
        # Not compressed: a guest is slower at unpacking than at reading.
        tools.run(mksquashfs, root, new / _IMAGE, "-quiet", "-no-progress", "-noD", "-noF", "-noI", "-noX")
        return {}

    place, _ = cache.entry(folder / _CACHE, "+".join((suite, *sorted(more))), make, say)
    return Userspace(suite, place / "root", place / _IMAGE)
