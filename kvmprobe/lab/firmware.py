"""A firmware that sets VM_CR: an option ROM for QEMU, which SeaBIOS runs before it starts the kernel.

QEMU's own emulation ignores writes to VM_CR, KVM's nested SVM does not. So the ROM is for a guest in a guest.
"""

from __future__ import annotations

import struct

from kvmprobe.model.registers import VM_CR

_SIZE = 512  # the least; the third byte of a ROM counts in these


def option_rom(vm_cr: int) -> bytes:
    """A ROM that writes `vm_cr` to the MSR VM_CR (16-bit code; PCI Firmware Specification 3.0, 5.2)."""
    code = (
        b"\x66\xb9" + struct.pack("<I", VM_CR.number)  # mov ecx, VM_CR
        + b"\x66\xb8" + struct.pack("<I", vm_cr)  # mov eax, vm_cr
        + b"\x66\x31\xd2"  # xor edx, edx
        + b"\x0f\x30"  # wrmsr
        + b"\xcb"  # retf
    )  # fmt: skip
    rom = (b"\x55\xaa" + bytes([1]) + code).ljust(_SIZE - 1, b"\0")
    return rom + bytes([-sum(rom) & 0xFF])
