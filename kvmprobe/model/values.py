"""Values in evidence: how they are made and read. Their types are in evidence.py."""

from __future__ import annotations

import errno

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from kvmprobe.model.evidence import Failure

# When the registers are read: before KVM_CREATE_VM, after it, and when the VM is closed.
SNAPSHOT_PHASES = ("before", "created", "closed")

KVM_API_VERSION = 12  # include/uapi/linux/kvm.h, unchanged since Linux 2.6.22

# KVM_CREATE_VM fails with these where EFER.SVME is set and not by KVM (svm_hardware_enable(); EIO since 6.12).
HELD_ERRORS = ("EBUSY", "EIO")

# /dev/kvm cannot be opened because of who this process is.
NOT_PERMITTED = ("EACCES", "EPERM")

# Exits of KVM_RUN that an instruction of the guest caused (include/uapi/linux/kvm.h). KVM_RUN also returns 0 where the
# guest executed none, as with KVM_EXIT_INTERNAL_ERROR or KVM_EXIT_FAIL_ENTRY.
GUEST_RAN_EXITS = ("KVM_EXIT_IO", "KVM_EXIT_HYPERCALL", "KVM_EXIT_HLT", "KVM_EXIT_MMIO")

# Modules of hypervisors out of the kernel's tree that set EFER.SVME themselves: VirtualBox, VMware.
OTHER_OWNERS = ("vboxdrv", "vmmon")

KVM_NUMBER = "10:232"  # of /dev/kvm: MISC_MAJOR, KVM_MINOR (include/uapi/linux/major.h, include/linux/miscdevice.h)


_LONGEST_COUNT = 20  # digits of 2^64 - 1

# Of two names for one code Python's errno.errorcode has the other one, not that of the kernel's headers.
_LINUX_NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK"}


def failure(error: OSError) -> Failure:
    """{"error": "EPERM"} for an OSError; its message where it has no errno."""
    return {"error": errno_name(error.errno or 0) or error.strerror or str(error)}


def errno_name(code: int) -> str | None:
    """The kernel's name of an error code ("EPERM"); None where it has none."""
    return _LINUX_NAMES.get(code) or errno.errorcode.get(code)


def as_int(value: object) -> int | None:
    """The number in a hexadecimal string or an integer; None for anything else."""
    if isinstance(value, str):
        try:
            return int(value, 16)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_mode(text: str | None) -> int | None:
    """The permissions that the evidence has in octal digits: "0660"; None for anything else."""
    return int(text, 8) if text and set(text) <= set("01234567") else None


def as_count(text: str, most: int = (1 << 53) - 1) -> int | None:
    """The number in decimal digits that the kernel shows; None for anything else, and above `most`.

    Without another limit `most` is what every reader of JSON can hold exactly, and report.schema.json allows.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_COUNT):
        return None
    return int(text) if int(text) <= most else None


def is_failure(value: object) -> TypeIs[Failure]:
    """Whether a value is {"error": ...}: it could not be read."""
    return isinstance(value, dict) and "error" in value


def error_of(value: object) -> str | None:
    """The errno name where a value is {"error": ...}, else None."""
    return value["error"] if is_failure(value) else None
