"""The CPUID that KVM can offer to a guest: KVM_GET_SUPPORTED_CPUID (Documentation/virt/kvm/api.rst, 4.42)."""

from __future__ import annotations

import ctypes
import struct

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.kvm import Kvm, ioctl
from kvmprobe.model.registers import FEATURE_LEAVES
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Failure, Leaf

_HEAD = struct.Struct("2I")  # kvm_cpuid2: nent, padding
_ENTRY = struct.Struct("7I12x")  # kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding[3]
_MOST = 256  # KVM_MAX_CPUID_ENTRIES since 5.11 (3f4e3eb417b1), before it 80; more than KVM has are as good


def read_leaves(device: Kvm) -> dict[str, Leaf] | Failure:
    """Return the leaves in registers.FEATURE_LEAVES that KVM can offer to a guest, or {"error": errno name}.

    The key is the leaf ("0x8000000a"). The value is [EAX, EBX, ECX, EDX] in hexadecimal. A leaf that KVM does not list
    is missing.
    """
    buffer = ctypes.create_string_buffer(_HEAD.size + _MOST * _ENTRY.size)
    _HEAD.pack_into(buffer, 0, _MOST, 0)
    try:
        ioctl(device.fd, "KVM_GET_SUPPORTED_CPUID", ctypes.addressof(buffer))
    except OSError as error:
        return failure(error)
    count = _HEAD.unpack_from(buffer)[0]
    if count > _MOST:
        return {"error": f"KVM answered with {count} entries, {_MOST} were asked for"}
    leaves: dict[str, Leaf] = {}
    for number in range(count):
        function, _, _, *words = _ENTRY.unpack_from(buffer, _HEAD.size + number * _ENTRY.size)
        if function in FEATURE_LEAVES:
            leaves[hex(function)] = [hex(word) for word in words]
    return leaves
