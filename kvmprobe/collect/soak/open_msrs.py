"""The registers of all CPUs, read many times: the MSR devices stay open."""

from __future__ import annotations

import errno

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpus, msr
from kvmprobe.host.sysroot import Sysroot, close_fd
from kvmprobe.model import register_rules
from kvmprobe.model.registers import EFER, SNAPSHOT_REGISTERS, VM_HSAVE_PA

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Snapshot
    from kvmprobe.model.registers import Register

    # By CPU: the bytes of each register, in the order of SNAPSHOT_REGISTERS.
    RawRegisters = dict[int, tuple[bytes, ...]]

_NUMBERS = tuple(register.number for register in SNAPSHOT_REGISTERS)
_EFER = SNAPSHOT_REGISTERS.index(EFER)
_SVME_BYTE, _SVME_MASK = EFER.bits["SVME"] // 8, 1 << EFER.bits["SVME"] % 8  # Little endian.


class OpenMsrs:
    """The open MSR devices of the online CPUs, closed on exit. `readable` is False where they cannot be read."""

    def __init__(self, root: Sysroot) -> None:
        self._root = root
        self._fds: dict[int, int] = {}
        self.readable = False

    def __enter__(self) -> OpenMsrs:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Close the devices that are open and open those of the CPUs that are online now. Sets `readable`."""
        self.close()
        try:
            for cpu in cpus.online_cpus(self._root):
                self._fds[cpu] = self._root.open(msr.device_path(cpu))
            self.read()
            self.readable = True
        except OSError:
            self.close()
            self.readable = False

    def close(self) -> None:
        """Close the devices."""
        while self._fds:
            close_fd(self._fds.popitem()[1])

    def read(self) -> RawRegisters:
        """Return the registers of every CPU. Raises OSError where a CPU went offline, or no device is open."""
        if not self._fds:
            raise OSError(errno.ENXIO, "no MSR device is open")
        read = self._root.read_register
        return {
            cpu: tuple([read(fd, number, msr.REGISTER_BYTES) for number in _NUMBERS]) for cpu, fd in self._fds.items()
        }


def cpus_without_svme(raw: RawRegisters) -> list[int]:
    """Return the CPUs whose EFER.SVME is 0."""
    return [cpu for cpu, values in raw.items() if not values[_EFER][_SVME_BYTE] & _SVME_MASK]


def register_faults(raw: RawRegisters, first: RawRegisters) -> dict[int, str]:
    """Return what is wrong with the registers, by CPU; see register_rules. `first`: those that were read first."""
    clear = set(cpus_without_svme(raw))
    found = register_rules.host_save_faults({cpu: cpu not in clear for cpu in raw}, _values(raw, VM_HSAVE_PA))
    for register in register_rules.CONSTANT:
        changed = register_rules.changed_bits(register, _values(first, register), _values(raw, register))
        for cpu, text in changed.items():
            found[cpu] = f"{found[cpu]}; {text}" if cpu in found else text
    return found


def _values(raw: RawRegisters, register: Register) -> dict[int, int]:
    index = SNAPSHOT_REGISTERS.index(register)
    return {cpu: int.from_bytes(values[index], "little") for cpu, values in raw.items()}


def to_snapshot(raw: RawRegisters, phase: str) -> Snapshot:
    """Return the registers as evidence, under the name `phase`."""
    return {
        "phase": phase,
        "cpus": {
            str(cpu): {
                register.name: hex(int.from_bytes(value, "little"))
                for register, value in zip(SNAPSHOT_REGISTERS, values)
            }
            for cpu, values in sorted(raw.items())
        },
    }
