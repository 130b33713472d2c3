"""KVM's structures, with the names and members of the kernel's `linux/kvm.h` and `asm/kvm.h` (x86).

A test compares sizes and offsets with the C headers of the machine.
"""

from __future__ import annotations

import ctypes


class kvm_userspace_memory_region(ctypes.Structure):
    """The argument of KVM_SET_USER_MEMORY_REGION."""

    _fields_ = (
        ("slot", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("guest_phys_addr", ctypes.c_uint64),
        ("memory_size", ctypes.c_uint64),
        ("userspace_addr", ctypes.c_uint64),
    )


class kvm_cpuid2(ctypes.Structure):
    """The head of the argument of KVM_GET_SUPPORTED_CPUID and KVM_SET_CPUID2; `nent` entries follow it."""

    _fields_ = (("nent", ctypes.c_uint32), ("padding", ctypes.c_uint32))


class kvm_regs(ctypes.Structure):
    """The general registers of a vCPU: the argument of KVM_SET_REGS."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in "rax rbx rcx rdx rsi rdi rsp rbp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags".split()
    )


class kvm_segment(ctypes.Structure):
    """A segment register of a vCPU, a member of kvm_sregs."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("selector", ctypes.c_uint16),
        *((name, ctypes.c_uint8) for name in "type present dpl db s l g avl unusable padding".split()),
    )


class kvm_dtable(ctypes.Structure):
    """A descriptor table register of a vCPU (GDTR, IDTR), a member of kvm_sregs."""

    _fields_ = (("base", ctypes.c_uint64), ("limit", ctypes.c_uint16), ("padding", ctypes.c_uint16 * 3))


class kvm_sregs(ctypes.Structure):
    """The special registers of a vCPU: the argument of KVM_GET_SREGS and KVM_SET_SREGS."""

    _fields_ = (
        *((name, kvm_segment) for name in "cs ds es fs gs ss tr ldt".split()),
        ("gdt", kvm_dtable),
        ("idt", kvm_dtable),
        *((name, ctypes.c_uint64) for name in "cr0 cr2 cr3 cr4 cr8 efer apic_base".split()),
        ("interrupt_bitmap", ctypes.c_uint64 * 4),  # KVM_NR_INTERRUPTS / 64
    )


class kvm_run_io(ctypes.Structure):
    """The member `io` of the union in kvm_run, valid for KVM_EXIT_IO."""

    _fields_ = (
        ("direction", ctypes.c_uint8),
        ("size", ctypes.c_uint8),
        ("port", ctypes.c_uint16),
        ("count", ctypes.c_uint32),
        ("data_offset", ctypes.c_uint64),
    )


class kvm_run(ctypes.Structure):
    """The head of the page that a vCPU shares with user space, up to the union's member for KVM_EXIT_IO."""

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
