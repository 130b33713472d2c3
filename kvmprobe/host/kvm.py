"""KVM's ioctls (kernel: Documentation/virt/kvm/api.rst, include/uapi/linux/kvm.h).

Each descriptor has one owner: `Kvm` (/dev/kvm), `Vm`, `Vcpu`. Each closes its descriptor in `with`. An ioctl that
fails raises OSError with the errno of the kernel and, as the file name, the name of the request. No other module knows
a request number.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.kvm_structures import kvm_cpuid2, kvm_regs, kvm_run, kvm_sregs, kvm_userspace_memory_region
from kvmprobe.host.sysroot import close_fd

if TYPE_CHECKING:
    from typing import TypeVar

    from kvmprobe.host.sysroot import Sysroot

    _Self = TypeVar("_Self", bound="_Descriptor")


KVMIO = 0xAE

# The device number of /dev/kvm: MISC_MAJOR, KVM_MINOR (linux/major.h, linux/miscdevice.h).
KVM_DEVICE = os.makedev(10, 232)
# What a link in /proc/PID/fd names: kvm_dev_ioctl_create_vm() and create_vcpu_fd() in virt/kvm/kvm_main.c. On newer
# kernels the number of the vCPU follows: "anon_inode:kvm-vcpu:0".
VM_INODE = "anon_inode:kvm-vm"
VCPU_INODE = "anon_inode:kvm-vcpu"
INODES = "anon_inode:kvm-"  # with which all of them begin

EXITS = {
    "KVM_EXIT_UNKNOWN": 0,
    "KVM_EXIT_EXCEPTION": 1,
    "KVM_EXIT_IO": 2,
    "KVM_EXIT_HYPERCALL": 3,
    "KVM_EXIT_DEBUG": 4,
    "KVM_EXIT_HLT": 5,
    "KVM_EXIT_MMIO": 6,
    "KVM_EXIT_IRQ_WINDOW_OPEN": 7,
    "KVM_EXIT_SHUTDOWN": 8,
    "KVM_EXIT_FAIL_ENTRY": 9,
    "KVM_EXIT_INTR": 10,
    "KVM_EXIT_INTERNAL_ERROR": 17,
}
KVM_EXIT_IO_OUT = 1  # kvm_run_io.direction (linux/kvm.h)

# kvm_run, then the page with the data of KVM_EXIT_IO: kvm_dev_ioctl() in virt/kvm/kvm_main.c.
LEAST_MMAP_SIZE = 2 * mmap.PAGESIZE

KVM_EXIT_IO = EXITS["KVM_EXIT_IO"]
KVM_EXIT_HLT = EXITS["KVM_EXIT_HLT"]

# How often an interrupted ioctl is retried before EINTR is reported as its answer.
EINTR_TRIES = 20


# asm-generic/ioctl.h
def _IO(nr: int) -> int:
    return KVMIO << 8 | nr


def _IOW(nr: int, argument: type[ctypes.Structure]) -> int:
    return 1 << 30 | ctypes.sizeof(argument) << 16 | _IO(nr)


def _IOR(nr: int, argument: type[ctypes.Structure]) -> int:
    return 2 << 30 | ctypes.sizeof(argument) << 16 | _IO(nr)


def _IOWR(nr: int, argument: type[ctypes.Structure]) -> int:
    return _IOW(nr, argument) | _IOR(nr, argument)


REQUESTS = {
    "KVM_GET_API_VERSION": _IO(0x00),
    "KVM_CREATE_VM": _IO(0x01),
    "KVM_CHECK_EXTENSION": _IO(0x03),
    "KVM_GET_VCPU_MMAP_SIZE": _IO(0x04),
    "KVM_GET_SUPPORTED_CPUID": _IOWR(0x05, kvm_cpuid2),
    "KVM_CREATE_VCPU": _IO(0x41),
    "KVM_SET_USER_MEMORY_REGION": _IOW(0x46, kvm_userspace_memory_region),
    "KVM_SET_TSS_ADDR": _IO(0x47),
    "KVM_RUN": _IO(0x80),
    "KVM_GET_REGS": _IOR(0x81, kvm_regs),
    "KVM_SET_REGS": _IOW(0x82, kvm_regs),
    "KVM_GET_SREGS": _IOR(0x83, kvm_sregs),
    "KVM_SET_SREGS": _IOW(0x84, kvm_sregs),
}

# The capabilities by which people choose hosts. KVM_CHECK_EXTENSION answers 0 (no), 1 (yes) or a number.
EXTENSIONS = {
    "KVM_CAP_IRQCHIP": 0,
    "KVM_CAP_NR_VCPUS": 9,
    "KVM_CAP_NR_MEMSLOTS": 10,
    "KVM_CAP_MP_STATE": 14,
    "KVM_CAP_SYNC_MMU": 16,
    "KVM_CAP_XSAVE": 55,
    "KVM_CAP_TSC_CONTROL": 60,
    "KVM_CAP_MAX_VCPUS": 66,
    "KVM_CAP_TSC_DEADLINE_TIMER": 72,
    "KVM_CAP_SPLIT_IRQCHIP": 121,
    "KVM_CAP_MAX_VCPU_ID": 128,
    "KVM_CAP_X2APIC_API": 129,
    "KVM_CAP_IMMEDIATE_EXIT": 136,
    "KVM_CAP_NESTED_STATE": 157,
    "KVM_CAP_VM_COPY_ENC_CONTEXT_FROM": 197,  # SEV
    "KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM": 206,  # SEV
    "KVM_CAP_PMU_CAPABILITY": 212,
    "KVM_CAP_VM_TYPES": 235,
}


def exit_name(reason: int) -> str:
    """Return the name of an exit reason of kvm_run ("KVM_EXIT_HLT"), its number where EXITS does not list it."""
    return next((name for name, number in EXITS.items() if number == reason), str(reason))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.ioctl.restype = ctypes.c_int


def ioctl(fd: int, request: str, argument: int = 0) -> int:
    """Make one ioctl, named as in REQUESTS, and return its answer. Raises OSError.

    `argument`: a number, or the address of a structure. An interrupted ioctl is retried up to EINTR_TRIES times.
    KVM_RUN is not: signals end it on purpose, and the caller decides.
    """
    code = errno.EINTR
    for _ in range(EINTR_TRIES):
        answer = _libc.ioctl(fd, REQUESTS[request], argument)
        if answer >= 0:
            return int(answer)
        code = ctypes.get_errno()
        if code != errno.EINTR or request == "KVM_RUN":
            break
    raise OSError(code, os.strerror(code), request)


def map_memory(fd: int, size: int) -> mmap.mmap:
    """Map `size` bytes of a descriptor, or anonymous memory for -1. Raises OSError with the file name "mmap".

    Python also duplicates the descriptor, so EMFILE is possible.
    """
    try:
        return mmap.mmap(fd, size)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "mmap") from error


def unmap_memory(memory: mmap.mmap) -> None:
    """Unmap what map_memory() returned.

    Where a signal ended Vm.set_memory(), its exception still refers to the address. Then the memory is unmapped with
    the last reference.
    """
    try:
        memory.close()
    except BufferError:
        pass


class _Descriptor:
    """The owner of one descriptor, closed once."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close_fd(fd)


class Kvm(_Descriptor):
    """/dev/kvm, opened at `path` of `root`. Raises OSError: ENOENT, ENODEV (absent), EACCES, EPERM (not permitted)."""

    def __init__(self, path: str, root: Sysroot | None = None) -> None:
        super().__init__(root.open(path, os.O_RDWR) if root else os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def api_version(self) -> int:
        """KVM_GET_API_VERSION: return the version of the API, which is 12."""
        return ioctl(self.fd, "KVM_GET_API_VERSION")

    def check_extension(self, name: str) -> int:
        """KVM_CHECK_EXTENSION: return the answer for a capability named as in EXTENSIONS."""
        return ioctl(self.fd, "KVM_CHECK_EXTENSION", EXTENSIONS[name])

    def create_vm(self) -> Vm:
        """KVM_CREATE_VM: create a VM of the default type (0) and return it."""
        return Vm(ioctl(self.fd, "KVM_CREATE_VM"))

    def vcpu_mmap_size(self) -> int:
        """KVM_GET_VCPU_MMAP_SIZE: return the bytes that a vCPU shares with user space."""
        return ioctl(self.fd, "KVM_GET_VCPU_MMAP_SIZE")


class Vm(_Descriptor):
    """A VM. The kernel destroys it when this descriptor, its vCPUs and their mappings are closed."""

    def set_memory(self, memory: mmap.mmap, guest_phys_addr: int) -> None:
        """KVM_SET_USER_MEMORY_REGION: map `memory` (anonymous) into the guest as slot 0 at `guest_phys_addr`."""
        anchor = ctypes.c_char.from_buffer(memory)
        region = kvm_userspace_memory_region(0, 0, guest_phys_addr, len(memory), ctypes.addressof(anchor))
        del anchor  # While it exists, the mapping cannot be closed.
        ioctl(self.fd, "KVM_SET_USER_MEMORY_REGION", ctypes.addressof(region))

    def set_tss_addr(self, address: int) -> None:
        """KVM_SET_TSS_ADDR: reserve three pages at `address`.

        Only kvm_intel needs them, for a guest in real mode; other backends ignore the address.
        """
        ioctl(self.fd, "KVM_SET_TSS_ADDR", address)

    def create_vcpu(self, mmap_size: int) -> Vcpu:
        """KVM_CREATE_VCPU: create vCPU 0. `mmap_size`: see Kvm.vcpu_mmap_size(), at least LEAST_MMAP_SIZE."""
        return Vcpu(ioctl(self.fd, "KVM_CREATE_VCPU"), mmap_size)


class Vcpu(_Descriptor):
    """vCPU 0 of a VM, with the kvm_run that it shares with the kernel."""

    def __init__(self, fd: int, mmap_size: int) -> None:
        super().__init__(fd)
        try:
            self._run = map_memory(fd, mmap_size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unmap kvm_run and close the descriptor: the mapping, too, keeps the VM alive."""
        if "_run" in self.__dict__:  # It is missing where __init__ failed.
            self._run.close()
        super().close()

    def get_sregs(self) -> kvm_sregs:
        """KVM_GET_SREGS: return the special registers."""
        sregs = kvm_sregs()
        ioctl(self.fd, "KVM_GET_SREGS", ctypes.addressof(sregs))
        return sregs

    def set_sregs(self, sregs: kvm_sregs) -> None:
        """KVM_SET_SREGS: set the special registers."""
        ioctl(self.fd, "KVM_SET_SREGS", ctypes.addressof(sregs))

    def get_regs(self) -> kvm_regs:
        """KVM_GET_REGS: return the general registers, RIP and RFLAGS."""
        regs = kvm_regs()
        ioctl(self.fd, "KVM_GET_REGS", ctypes.addressof(regs))
        return regs

    def set_regs(self, regs: kvm_regs) -> None:
        """KVM_SET_REGS: set the general registers, RIP and RFLAGS."""
        ioctl(self.fd, "KVM_SET_REGS", ctypes.addressof(regs))

    def run(self) -> kvm_run:
        """KVM_RUN: run the guest until the next exit and return a copy of the head of kvm_run.

        Raises OSError with EINTR where a signal ended it.
        """
        ioctl(self.fd, "KVM_RUN")
        return kvm_run.from_buffer_copy(self._run)

    def time_run(self) -> tuple[int, int]:
        """KVM_RUN: run the guest until the next exit. Return the nanoseconds that it took, and the exit reason.

        Raises OSError with EINTR where a signal ended it.
        """
        started = time.perf_counter_ns()
        ioctl(self.fd, "KVM_RUN")
        took = time.perf_counter_ns() - started
        return took, kvm_run.from_buffer_copy(self._run).exit_reason

    def io_byte(self, run: kvm_run) -> int:
        """Return the byte that the guest wrote to a port (KVM_EXIT_IO). Raises IndexError for another page's offset.

        x86 has the data in the second page: KVM_PIO_PAGE_OFFSET in arch/x86/include/asm/kvm_host.h. The kernel backs
        no page that it does not name (kvm_vcpu_fault() in virt/kvm/kvm_main.c), and reading one ends the process.
        """
        offset: int = run.io.data_offset
        if not ctypes.sizeof(kvm_run) <= offset < LEAST_MMAP_SIZE:
            raise IndexError(offset)
        return self._run[offset]
