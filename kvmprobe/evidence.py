"""Values of evidence: making them and asking them. Their types are in shape.py."""

from __future__ import annotations

import errno
from collections.abc import Iterable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from kvmprobe.shape import Failure

PHASES = ("before", "created", "closed")

KVM_API_VERSION = 12  # include/uapi/linux/kvm.h, unchanged since Linux 2.6.22

# What svm_hardware_enable() refuses with where somebody else has set EFER.SVME, before and since 6.12.
HELD_ERRORS = ("EBUSY", "EIO")

# Out-of-tree hypervisors that switch SVM on by themselves: VirtualBox, VMware.
OTHER_OWNERS = ("vboxdrv", "vmmon")


def failure(error: OSError) -> Failure:
    """{"error": "EPERM"} for what the kernel answered; a message where there is no errno."""
    return {"error": errno.errorcode.get(error.errno or 0, error.strerror or str(error))}


def as_int(value: object) -> int | None:
    """The number in a hexadecimal string or an integer; None for anything that could not be read."""
    if isinstance(value, str):
        try:
            return int(value, 16)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_failure(value: object) -> TypeIs[Failure]:
    return isinstance(value, dict) and "error" in value


def error_of(value: object) -> str | None:
    """The errno name where a value is {"error": ...}, else None."""
    return value["error"] if is_failure(value) else None


def seconds_of(taken_at: str) -> int | None:
    """Seconds since the epoch of a time as in `taken_at`; None for anything else."""
    from calendar import timegm
    from time import strptime

    try:
        return timegm(strptime(taken_at, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def parse_cpulist(text: str | None) -> list[int]:
    """CPU numbers of the kernel's list format ("0-3,8"); ValueError for anything else."""
    cpus: list[int] = []
    previous = -1
    for part in text.strip().split(",") if text and text.strip() else ():
        first, dash, last = part.partition("-")
        if not dash:
            last = first
        # isdigit() alone would take digits of every script
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise ValueError(f"not a list of CPUs: {str(text)[:80]!r}")
        # The kernel's lists ascend, so this also bounds them.
        if not previous < int(first) <= int(last) < 1 << 16:
            raise ValueError(f"not a list of CPUs: {str(text)[:80]!r}")
        previous = int(last)
        cpus += range(int(first), previous + 1)
    return cpus


def format_cpulist(cpus: Iterable[int]) -> str:
    """The kernel's list format of some CPU numbers."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
