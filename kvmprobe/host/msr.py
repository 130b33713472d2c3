"""Model-specific registers of one CPU, read from /dev/cpu/N/msr (kernel: arch/x86/kernel/msr.c).

The device is opened read-only: kvmprobe never writes an MSR. Errors are values, so that an error on one CPU does not
hide the registers of the others: EPERM (no CAP_SYS_RAWIO), ENOENT (module `msr` not loaded), ENXIO (CPU offline), EIO
(the CPU raised #GP for this register).
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, Register
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Reading, Snapshot

REGISTER_BYTES = 8


def device_path(cpu: int) -> str:
    """Return the name of the MSR device of a CPU."""
    return f"/dev/cpu/{cpu}/msr"


def read_registers(root: Sysroot, cpu: int, registers: Iterable[Register]) -> dict[str, Reading]:
    """Return the values of `registers` on one CPU by name: hexadecimal, or {"error": errno name}."""
    try:
        fd = root.open(device_path(cpu))
    except OSError as error:
        return {register.name: failure(error) for register in registers}
    try:
        return {register.name: _read_register(root, fd, register) for register in registers}
    finally:
        close_fd(fd)


def _read_register(root: Sysroot, fd: int, register: Register) -> Reading:
    try:
        return hex(int.from_bytes(root.read_register(fd, register.number, REGISTER_BYTES), "little"))
    except OSError as error:
        return failure(error)


def take_snapshot(root: Sysroot, cpus: Iterable[int], phase: str) -> Snapshot:
    """Read EFER, VM_CR and VM_HSAVE_PA of every CPU in `cpus` now and return them under the name `phase`."""
    return {"phase": phase, "cpus": {str(cpu): read_registers(root, cpu, SNAPSHOT_REGISTERS) for cpu in cpus}}
