"""Tools that only Debian sid has, for guests of all releases: unpacked with their own libraries, never installed."""

from __future__ import annotations

from pathlib import Path

from kvmprobe.lab import apt, cache, external_programs
from kvmprobe.report.messages import say

_PACKAGES = ("fwts", "snphost")
_IN_GUEST = "/opt/sid"
PROGRAMS = f"{_IN_GUEST}/bin"
_LIBRARIES = f"{_IN_GUEST}/lib/x86_64-linux-gnu"
# The dynamic loader of sid, because the releases' own C libraries are older than the programs.
LOADER = f"{_LIBRARIES}/ld-linux-x86-64.so.2 --library-path {_LIBRARIES}:{_LIBRARIES}/fwts"


def fetch() -> Path:
    """Returns the folder with sid's /usr: the packages and all that they depend on. Raises Problem."""

    def make(new: Path) -> cache.Meta:
        say(f"sid: unpacking {' and '.join(_PACKAGES)} …")
        # A mirror may be a copy of a past day. Whether apt accepts that is for this machine's configuration.
        settings = external_programs.run("apt-config", "dump", "Acquire::Check-Valid-Until").decode().split("\n")
        options = [f"--aptopt={line}" for line in ('Acquire::Languages "none"', *settings) if line]
        external_programs.run(
            *(external_programs.find("mmdebstrap", "mmdebstrap"), "--quiet", "--variant=extract", *options),
            *(f"--include={','.join(_PACKAGES)}", "sid", new / "root", apt.mirror()),
            cwd=new,
        )
        return {}

    place, _ = cache.entry(cache.default(), "sid-tools-1", make, say)
    return place / "root/usr"


def prepare(folder: Path) -> str:
    """Returns the line of sh that gives every user of the guest the tools in `folder`, which it has as a share."""
    return f"mkdir -p {_IN_GUEST}; mount --bind {folder} {_IN_GUEST}"
