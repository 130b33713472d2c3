"""Debian's userspace for the guests: Python and tools of the release that a kernel belongs to.

So kvmprobe runs on every Python that it supports, and this machine's own packages do not matter.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.lab import apt, cache, external_programs, keeper
from kvmprobe.lab.external_programs import Say
from kvmprobe.model.errors import Problem

_CACHE = "userspaces-2"
_IMAGE = "root.squashfs"

# python3 runs kvmprobe, pyudev needs libudev1, kmod and msr-tools prepare scenarios. scripts/other-tools compares
# kvmprobe with the last two.
PACKAGES = ("python3", "libudev1", "kmod", "msr-tools", "cpu-checker", "libvirt-clients")
_MORE = {"trixie": ("libvirt-daemon-common",)}  # virt-host-validate moved to this package
_UNUSED = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache", "var/lib/apt")


@dataclass(frozen=True)
class Userspace:
    """A suite's programs: `image` is a squashfs for the guest, `root` the same as a folder on this machine."""

    suite: str
    root: Path
    image: Path


def fetch(suite: str, folder: Path, say: Say, more: Sequence[str] = ()) -> Userspace:
    """Returns the userspace of a Debian suite, built with mmdebstrap unless it is in the cache `folder`.

    `more` are packages in addition to PACKAGES. Raises Problem.
    """

    def make(new: Path) -> cache.Meta:
        say(f"{suite}: building its userspace …")
        mmdebstrap = external_programs.find("mmdebstrap", "mmdebstrap")
        mksquashfs = external_programs.find("mksquashfs", "squashfs-tools")
        root = new / "root"
        packages = (*PACKAGES, *_MORE.get(suite, ()), *more)
        with keeper.folder() as work:
            work.chmod(0o1777)  # unless root, mmdebstrap's programs run as other users
            external_programs.run(
                *(*_own_mounts(), mmdebstrap, "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
                *(f"--aptopt=Acquire::Languages {chr(34)}none{chr(34)}", suite, root, apt.mirror()),
                cwd=work,
                variables={"TMPDIR": str(work)},
                hint="mmdebstrap builds Debian's userspace as root (or as a user with the package uidmap).",
            )
        for name in _UNUSED:
            shutil.rmtree(root / name, ignore_errors=True)
        # Not compressed: a guest decompresses more slowly than it reads.
        external_programs.run(mksquashfs, root, new / _IMAGE, "-quiet", "-no-progress", "-noD", "-noF", "-noI", "-noX")
        return {}

    place, _ = cache.entry(folder / _CACHE, "+".join((suite, *sorted(more))), make, say)
    return Userspace(suite, place / "root", place / _IMAGE)


def _own_mounts() -> tuple[str, ...]:
    """The command before mmdebstrap that gives it its own mounts where the kernel allows that.

    As root mmdebstrap mounts /proc, /sys and /dev in the new folder. If it is killed, they end with it.
    """
    if os.geteuid() != 0:
        return ()  # it has its own mounts already
    command = (external_programs.find("unshare", "util-linux"), "--mount", "--")
    try:
        external_programs.run(*command, "true")
    except Problem:
        return ()  # in a container without CAP_SYS_ADMIN it cannot mount anything
    return command
