"""Which errors of a call are this process's own: what it may do and what it has shows nothing about the host.

One row for each call that takes part in the verdict. Every other error is the kernel's answer. A call without a row, as
in evidence of older versions, has the errors that every call can have.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.evidence import GuestRun

# A file's mode, a capability, the device cgroup, a security module, Landlock; ENOSYS: a seccomp filter.
REFUSED = ("EACCES", "EPERM", "ENOSYS")
# Open files of the process and of the machine, memory, a signal, a limit of tasks or of locked memory.
LIMITS = ("EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN")

ENOUGH_KB = 64 * 1024  # With so much memory left, ENOMEM is the kernel's answer. A VM takes less than 1 MiB.

_EVERY_CALL = (*REFUSED, *LIMITS)
OWN_ERRORS = {
    "open": _EVERY_CALL,  # /dev/kvm. ENOENT, ENODEV, ENXIO: the kernel has no driver there.
    "KVM_GET_API_VERSION": _EVERY_CALL,  # ENOTTY, EINVAL: another driver answers.
    "KVM_CREATE_VM": _EVERY_CALL,  # EBUSY, EIO: SVME is set by another owner. EINVAL, ENODEV, EOPNOTSUPP: the backend.
    "KVM_GET_VCPU_MMAP_SIZE": _EVERY_CALL,
    "KVM_SET_TSS_ADDR": _EVERY_CALL,
    "KVM_SET_USER_MEMORY_REGION": _EVERY_CALL,  # EINVAL, EEXIST: KVM refuses the region.
    "KVM_CREATE_VCPU": _EVERY_CALL,  # EINVAL, EEXIST, EIO: KVM refuses the vCPU.
    "KVM_GET_SUPPORTED_CPUID": _EVERY_CALL,  # E2BIG, EOVERFLOW: more entries than KVM allows.
    "KVM_SET_CPUID2": _EVERY_CALL,  # EINVAL, E2BIG: KVM refuses what it offered.
    "mmap": _EVERY_CALL,  # Of kvm_run and of the guest's memory. ENODEV, EINVAL: KVM shares no page.
    "KVM_GET_SREGS": _EVERY_CALL,
    "KVM_SET_SREGS": _EVERY_CALL,  # EINVAL: KVM refuses the values.
    "KVM_SET_REGS": _EVERY_CALL,
    "KVM_GET_REGS": _EVERY_CALL,
    "KVM_RUN": _EVERY_CALL,  # EFAULT, EIO, EINVAL: the guest could not be entered.
    "sched_setaffinity": (*_EVERY_CALL, "EINVAL", "ESRCH"),  # EINVAL: no CPU of the list is online and in the cpuset.
}


def is_own_error(call: str | None, error: str | None, available_kb: int | None = None) -> bool:
    """Return whether `error` ("EPERM") of `call` is this process's own; False for no error.

    `available_kb`: how much memory was left; None: unknown.
    """
    if error == "ENOMEM" and available_kb is not None and available_kb >= ENOUGH_KB:
        return False
    return error in OWN_ERRORS.get(call or "", _EVERY_CALL)


def was_refused(run: GuestRun) -> bool:
    """Return whether a guest failed by an error that is this process's own: its `detail` names the call."""
    return run["result"] == "failed" and is_own_error(run["detail"], run["error"])
