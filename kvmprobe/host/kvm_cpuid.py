"""The CPUID that KVM can give to a guest, and how a vCPU gets it (kernel: arch/x86/kvm/cpuid.c)."""

from __future__ import annotations

import ctypes
import struct

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.kvm import ioctl
from kvmprobe.host.kvm_structures import kvm_cpuid2
from kvmprobe.model.registers import FEATURE_LEAVES
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from collections.abc import Container

    from kvmprobe.host.kvm import Kvm, Vcpu
    from kvmprobe.model.evidence import Failure, Leaf

MOST_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES in arch/x86/include/asm/kvm_host.h; 80 before 5.11
_HEAD = ctypes.sizeof(kvm_cpuid2)
ENTRY = struct.Struct("<10I")  # struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding


def supported_cpuid(device: Kvm) -> bytes:
    """KVM_GET_SUPPORTED_CPUID: return the entries, each of ENTRY.size bytes.

    Raises OSError; also EOVERFLOW where KVM names more entries than it had place for.
    """
    buffer = ctypes.create_string_buffer(_HEAD + MOST_ENTRIES * ENTRY.size)
    kvm_cpuid2.from_buffer(buffer).nent = MOST_ENTRIES
    ioctl(device.fd, "KVM_GET_SUPPORTED_CPUID", ctypes.addressof(buffer))
    count = kvm_cpuid2.from_buffer(buffer).nent
    if count > MOST_ENTRIES:
        import errno

        raise OSError(errno.EOVERFLOW, f"{count} entries", "KVM_GET_SUPPORTED_CPUID")
    return buffer.raw[_HEAD : _HEAD + count * ENTRY.size]


def set_cpuid(vcpu: Vcpu, entries: bytes) -> None:
    """KVM_SET_CPUID2: give a vCPU the entries of supported_cpuid(). Raises OSError."""
    head = bytes(kvm_cpuid2(len(entries) // ENTRY.size, 0))
    buffer = ctypes.create_string_buffer(head + entries)
    ioctl(vcpu.fd, "KVM_SET_CPUID2", ctypes.addressof(buffer))


def read_leaves(device: Kvm) -> dict[str, Leaf] | Failure:
    """Return the leaves in registers.FEATURE_LEAVES that KVM can offer to a guest, or {"error": errno name}.

    A leaf that KVM does not list is missing.
    """
    try:
        return leaves_of(supported_cpuid(device), FEATURE_LEAVES)
    except OSError as error:
        return failure(error)


def leaves_of(entries: bytes, wanted: Container[int]) -> dict[str, Leaf]:
    """The leaves `wanted` of the entries, as evidence has CPUID: [EAX, EBX, ECX, EDX] in hexadecimal, by leaf."""
    found: dict[str, Leaf] = {}
    for function, _, _, *words in ENTRY.iter_unpack(entries):
        if function in wanted:
            found[hex(function)] = [hex(word) for word in words[:4]]
    return found
