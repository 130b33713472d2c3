"""Raw CPUID leaves of one CPU, read from /dev/cpu/N/cpuid (kernel: arch/x86/kernel/cpuid.c).

Raw: what the processor answers, even where the kernel hides it from /proc/cpuinfo.
"""

from __future__ import annotations

import struct

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.registers import LEAVES
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Leaf

_LEAF_BYTES = 16  # EAX, EBX, ECX, EDX


def device_path(cpu: int) -> str:
    """Return the name of the CPUID device of a CPU."""
    return f"/dev/cpu/{cpu}/cpuid"


def read_leaves(root: Sysroot, cpu: int) -> dict[str, Leaf]:
    """Return the leaves in registers.LEAVES of one CPU.

    The key is the leaf ("0x8000000a"). The value is [EAX, EBX, ECX, EDX] in hexadecimal, or {"error": errno name}.
    """
    try:
        fd = root.open(device_path(cpu))
    except OSError as error:
        return {hex(leaf): failure(error) for leaf in LEAVES}
    try:
        return {hex(leaf): _read_leaf(root, fd, leaf) for leaf in LEAVES}
    finally:
        close_fd(fd)


def _read_leaf(root: Sysroot, fd: int, leaf: int) -> Leaf:
    try:
        return [hex(word) for word in struct.unpack("<4I", root.read_register(fd, leaf, _LEAF_BYTES))]
    except OSError as error:
        return failure(error)
