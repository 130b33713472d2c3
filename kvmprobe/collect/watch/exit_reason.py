"""Why KVM_RUN returned: the exit reason in the kvm_run that a traced process shares with the kernel.

KVM_RUN returns 0 whether or not the guest executed an instruction: only kvm_run.exit_reason shows that
(Documentation/virt/kvm/api.rst, 5. The kvm_run structure).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from kvmprobe.host import kvm
from kvmprobe.host.kvm_structures import kvm_run
from kvmprobe.host.sysroot import close_fd

_PIDFD_GETFD = 438  # asm/unistd_64.h, since Linux 5.6; the same number in every ABI

_libc = ctypes.CDLL(None, use_errno=True)


def read_exit_reason(pid: int, fd: int) -> str | None:
    """Return the exit reason of the vCPU behind descriptor `fd` of process `pid` ("KVM_EXIT_HLT"), None if unknown.

    The thread that called KVM_RUN has to stand at the call's exit. The copy of the descriptor exists for a moment only,
    since it keeps the VM alive.
    """
    try:
        copy = _copy_descriptor(pid, fd)
    except OSError:  # Before Linux 5.6, or the process is gone.
        return None
    try:
        if not os.readlink(f"/proc/self/fd/{copy}").startswith(kvm.VCPU_INODE):
            return None
        with mmap.mmap(copy, mmap.PAGESIZE, prot=mmap.PROT_READ) as shared:
            return kvm.exit_name(kvm_run.from_buffer_copy(shared).exit_reason)
    except (OSError, ValueError):
        return None
    finally:
        close_fd(copy)


def _copy_descriptor(pid: int, fd: int) -> int:
    """pidfd_getfd(2). Raises OSError."""
    pidfd = os.pidfd_open(pid)
    try:
        copy = int(_libc.syscall(_PIDFD_GETFD, pidfd, fd, 0))
        if copy < 0:
            code = ctypes.get_errno() or errno.EBADF
            raise OSError(code, os.strerror(code))
        return copy
    finally:
        close_fd(pidfd)
