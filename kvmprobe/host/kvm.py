"""KVM's ioctls, with the names, numbers and structures of the kernel's `linux/kvm.h` and `asm/kvm.h` (x86).

One owner for each descriptor: `Kvm` (/dev/kvm), `Vm`, `Vcpu`. All close with `with`. Every call that the kernel
refuses raises `OSError` with the kernel's errno and the request's name as its file name. Nothing else in the program
knows a request number.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import close

if TYPE_CHECKING:
    from typing import TypeVar

    _Self = TypeVar("_Self", bound="_Descriptor")


KVMIO = 0xAE

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
KVM_EXIT_IO = EXITS["KVM_EXIT_IO"]
KVM_EXIT_HLT = EXITS["KVM_EXIT_HLT"]

# How often an interrupted call is made again before EINTR is reported as its answer.
_EINTR_TRIES = 20


class kvm_userspace_memory_region(ctypes.Structure):
    _fields_ = (
        ("slot", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("guest_phys_addr", ctypes.c_uint64),
        ("memory_size", ctypes.c_uint64),
        ("userspace_addr", ctypes.c_uint64),
    )


class kvm_regs(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
    )


class kvm_segment(ctypes.Structure):
    _fields_ = (
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("selector", ctypes.c_uint16),
        *((name, ctypes.c_uint8) for name in "type present dpl db s l g avl unusable padding".split()),
    )


class kvm_dtable(ctypes.Structure):
    _fields_ = (("base", ctypes.c_uint64), ("limit", ctypes.c_uint16), ("padding", ctypes.c_uint16 * 3))


class kvm_sregs(ctypes.Structure):
    _fields_ = (
        *((name, kvm_segment) for name in "cs ds es fs gs ss tr ldt".split()),
        ("gdt", kvm_dtable),
        ("idt", kvm_dtable),
        *((name, ctypes.c_uint64) for name in "cr0 cr2 cr3 cr4 cr8 efer apic_base".split()),
        ("interrupt_bitmap", ctypes.c_uint64 * 4),  # KVM_NR_INTERRUPTS / 64
    )


class kvm_run_io(ctypes.Structure):
    """The `io` member of the union in `struct kvm_run`."""

    _fields_ = (
        ("direction", ctypes.c_uint8),
        ("size", ctypes.c_uint8),
        ("port", ctypes.c_uint16),
        ("count", ctypes.c_uint32),
        ("data_offset", ctypes.c_uint64),
    )


class kvm_run(ctypes.Structure):
    """The head of `struct kvm_run`, up to the union's member for KVM_EXIT_IO."""

    _fields_ = (
        ("request_interrupt_window", ctypes.c_uint8),
        ("immediate_exit", ctypes.c_uint8),
        ("padding1", ctypes.c_uint8 * 6),
        ("exit_reason", ctypes.c_uint32),
        ("ready_for_interrupt_injection", ctypes.c_uint8),
        ("if_flag", ctypes.c_uint8),
        ("flags", ctypes.c_uint16),
        ("cr8", ctypes.c_uint64),
        ("apic_base", ctypes.c_uint64),
        ("io", kvm_run_io),
    )


# asm-generic/ioctl.h
def _IO(nr: int) -> int:
    return KVMIO << 8 | nr


def _IOW(nr: int, argument: type[ctypes.Structure]) -> int:
    return 1 << 30 | ctypes.sizeof(argument) << 16 | _IO(nr)


def _IOR(nr: int, argument: type[ctypes.Structure]) -> int:
    return 2 << 30 | ctypes.sizeof(argument) << 16 | _IO(nr)


REQUESTS = {
    "KVM_GET_API_VERSION": _IO(0x00),
    "KVM_CREATE_VM": _IO(0x01),
    "KVM_CHECK_EXTENSION": _IO(0x03),
    "KVM_GET_VCPU_MMAP_SIZE": _IO(0x04),
    "KVM_CREATE_VCPU": _IO(0x41),
    "KVM_SET_USER_MEMORY_REGION": _IOW(0x46, kvm_userspace_memory_region),
    "KVM_SET_TSS_ADDR": _IO(0x47),
    "KVM_RUN": _IO(0x80),
    "KVM_SET_REGS": _IOW(0x82, kvm_regs),
    "KVM_GET_SREGS": _IOR(0x83, kvm_sregs),
    "KVM_SET_SREGS": _IOW(0x84, kvm_sregs),
}

# What people choose hosts by: KVM_CHECK_EXTENSION answers 0 (no), 1 (yes) or a number.
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
    """The name of an exit reason of `struct kvm_run`, its number where this table has none."""
    return next((name for name, number in EXITS.items() if number == reason), str(reason))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
_libc.ioctl.restype = ctypes.c_int


def _ioctl(fd: int, request: str, argument: int = 0) -> int:
    """One ioctl by its name: the kernel's answer, or OSError with its errno."""
    code = errno.EINTR
    for _ in range(_EINTR_TRIES):
        answer = _libc.ioctl(fd, REQUESTS[request], argument)
        if answer >= 0:
            return int(answer)
        code = ctypes.get_errno()
        # KVM_RUN is ended by a signal on purpose, so there the caller decides.
        if code != errno.EINTR or request == "KVM_RUN":
            break
    raise OSError(code, os.strerror(code), request)


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)


class Kvm(_Descriptor):
    """/dev/kvm, opened. OSError tells absent (ENOENT, ENODEV) from not permitted (EACCES, EPERM)."""

    def __init__(self, path: str) -> None:
        super().__init__(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def api_version(self) -> int:
        return _ioctl(self.fd, "KVM_GET_API_VERSION")

    def check_extension(self, name: str) -> int:
        return _ioctl(self.fd, "KVM_CHECK_EXTENSION", EXTENSIONS[name])

    def create_vm(self) -> Vm:
        return Vm(_ioctl(self.fd, "KVM_CREATE_VM"))

    def vcpu_mmap_size(self) -> int:
        return _ioctl(self.fd, "KVM_GET_VCPU_MMAP_SIZE")


class Vm(_Descriptor):
    """A virtual machine. The kernel destroys it when this descriptor, its vCPUs and their mappings are closed."""

    def set_memory(self, memory: mmap.mmap, guest_phys_addr: int) -> None:
        """Shows `memory` (anonymous, page-aligned) to the guest as slot 0 at `guest_phys_addr`."""
        anchor = ctypes.c_char.from_buffer(memory)
        region = kvm_userspace_memory_region(0, 0, guest_phys_addr, len(memory), ctypes.addressof(anchor))
        del anchor  # else the mapping could not be closed
        _ioctl(self.fd, "KVM_SET_USER_MEMORY_REGION", ctypes.addressof(region))

    def set_tss_addr(self, address: int) -> None:
        """Three pages that kvm_intel needs for a real-mode guest; other backends only note them."""
        _ioctl(self.fd, "KVM_SET_TSS_ADDR", address)

    def create_vcpu(self, mmap_size: int) -> Vcpu:
        return Vcpu(_ioctl(self.fd, "KVM_CREATE_VCPU"), mmap_size)


class Vcpu(_Descriptor):
    """vCPU 0 of a VM and the `struct kvm_run` it shares with the kernel."""

    def __init__(self, fd: int, mmap_size: int) -> None:
        super().__init__(fd)
        try:
            self._run = mmap.mmap(fd, mmap_size)
        except (OSError, ValueError):
            self.close()
            raise

    def close(self) -> None:
        # The mapping holds the VM alive as much as the descriptor does. It is missing if __init__ failed.
        if "_run" in self.__dict__:
            self._run.close()
        super().close()

    def get_sregs(self) -> kvm_sregs:
        sregs = kvm_sregs()
        _ioctl(self.fd, "KVM_GET_SREGS", ctypes.addressof(sregs))
        return sregs

    def set_sregs(self, sregs: kvm_sregs) -> None:
        _ioctl(self.fd, "KVM_SET_SREGS", ctypes.addressof(sregs))

    def set_regs(self, regs: kvm_regs) -> None:
        _ioctl(self.fd, "KVM_SET_REGS", ctypes.addressof(regs))

    def run(self) -> kvm_run:
        """KVM_RUN until the next exit; OSError EINTR when a signal ended it. Gives a copy of the head of kvm_run."""
        _ioctl(self.fd, "KVM_RUN")
        return kvm_run.from_buffer_copy(self._run)

    def io_byte(self, run: kvm_run) -> int:
        """The byte that the guest wrote (KVM_EXIT_IO)."""
        offset: int = run.io.data_offset
        return self._run[offset]
