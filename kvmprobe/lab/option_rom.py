"""A firmware that sets VM_CR: an option ROM for QEMU. SeaBIOS runs it before it starts the kernel.

QEMU's own emulation (TCG) ignores writes to VM_CR; KVM's nested SVM accepts them. So the ROM is for a guest that runs
in a guest (nested_boot).
"""

from __future__ import annotations

import struct

from kvmprobe.model.registers import VM_CR

_SIZE = 512  # the smallest ROM; its third byte counts blocks of this size


def option_rom(vm_cr: int) -> bytes:
    """Returns a ROM that writes `vm_cr` to the MSR VM_CR (16-bit code; PCI Firmware Specification 3.0, 5.2)."""
    code = (
        b"\x66\xb9" + struct.pack("<I", VM_CR.number)  # mov ecx, VM_CR
        + b"\x66\xb8" + struct.pack("<I", vm_cr)  # mov eax, vm_cr
        + b"\x66\x31\xd2"  # xor edx, edx
        + b"\x0f\x30"  # wrmsr
        + b"\xcb"  # retf
    )  # fmt: skip
    rom = (b"\x55\xaa" + bytes([1]) + code).ljust(_SIZE - 1, b"\0")
    return rom + bytes([-sum(rom) & 0xFF])
