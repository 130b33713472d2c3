"""Model-specific registers of one CPU, through /dev/cpu/N/msr (kernel: arch/x86/kernel/msr.c).

The device is opened read-only: kvmprobe never writes an MSR. Errors are values, so that one CPU that refuses hides
nothing of the others: EPERM (no CAP_SYS_RAWIO), ENOENT (module `msr` not loaded), ENXIO (CPU offline), EIO (the CPU
refuses the register).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, Register
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Reading, Snapshot


def device(cpu: int) -> str:
    return f"/dev/cpu/{cpu}/msr"


def read(root: Sysroot, cpu: int, registers: Iterable[Register]) -> dict[str, Reading]:
    """The values of `registers` on `cpu` by name, hexadecimal, or {"error": errno name} in place of a value."""
    try:
        fd = os.open(root.path(device(cpu)), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return {register.name: failure(error) for register in registers}
    try:
        return {register.name: _read_one(root, fd, register) for register in registers}
    finally:
        close(fd)


def _read_one(root: Sysroot, fd: int, register: Register) -> Reading:
    try:
        return hex(int.from_bytes(root.read_slot(fd, register.number, 8), "little"))
    except OSError as error:
        return failure(error)


def snapshot(root: Sysroot, cpus: Iterable[int], phase: str) -> Snapshot:
    """EFER, VM_CR and VM_HSAVE_PA of every CPU in `cpus`, now."""
    return {"phase": phase, "cpus": {str(cpu): read(root, cpu, SNAPSHOT_REGISTERS) for cpu in cpus}}
