"""Values of evidence: making them and asking them. Their types are in shape.py."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from kvmprobe.model.evidence import Failure

SNAPSHOT_PHASES = ("before", "created", "closed")

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
