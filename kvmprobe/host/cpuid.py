"""Raw CPUID leaves of one CPU, through /dev/cpu/N/cpuid (kernel: arch/x86/kernel/cpuid.c).

Raw means: what the processor answers, whatever the kernel has hidden from /proc/cpuinfo since.
"""

from __future__ import annotations

import os
import struct

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.model.registers import LEAVES
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Leaf


def device(cpu: int) -> str:
    return f"/dev/cpu/{cpu}/cpuid"


def read(root: Sysroot, cpu: int) -> dict[str, Leaf]:
    """The leaves in `registers.LEAVES` on `cpu`, by leaf: [EAX, EBX, ECX, EDX] or {"error": errno name}."""
    try:
        fd = os.open(root.path(device(cpu)), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return {hex(leaf): failure(error) for leaf in LEAVES}
    try:
        return {hex(leaf): _read_one(root, fd, leaf) for leaf in LEAVES}
    finally:
        close(fd)


def _read_one(root: Sysroot, fd: int, leaf: int) -> Leaf:
    try:
        return [hex(word) for word in struct.unpack("<4I", root.read_slot(fd, leaf, 16))]
    except OSError as error:
        return failure(error)
