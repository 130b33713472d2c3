"""The registers of all CPUs, read many times: the devices stay open."""

from __future__ import annotations

import errno
import os

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import cpus, msr
from kvmprobe.host.sysroot import Sysroot, close
from kvmprobe.model.registers import EFER, SNAPSHOT_REGISTERS, VM_HSAVE_PA

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Snapshot

    # By CPU, in the order of SNAPSHOT_REGISTERS.
    Raw = dict[int, tuple[bytes, ...]]

_NUMBERS = tuple(register.number for register in SNAPSHOT_REGISTERS)
_EFER, _HSAVE = SNAPSHOT_REGISTERS.index(EFER), SNAPSHOT_REGISTERS.index(VM_HSAVE_PA)
_SVME_BYTE, _SVME_MASK = divmod(EFER.bits["SVME"], 8)[0], 1 << EFER.bits["SVME"] % 8


class Registers:
    """The msr devices of the online CPUs, opened. `readable` is False where there is nothing to be read.

    `read` raises OSError where a CPU has gone meanwhile: `open` again.
    """

    def __init__(self, root: Sysroot) -> None:
        self._root = root
        self._fds: dict[int, int] = {}
        self.readable = False

    def __enter__(self) -> Registers:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Opens the devices of the CPUs that are online now."""
        self.close()
        try:
            for cpu in cpus.online(self._root):
                path = self._root.path(msr.device(cpu))
                self._fds[cpu] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self.read()
            self.readable = True
        except OSError:
            self.close()
            self.readable = False

    def close(self) -> None:
        while self._fds:
            close(self._fds.popitem()[1])

    def read(self) -> Raw:
        """Raises OSError where a device is gone, or none is open."""
        if not self._fds:
            raise OSError(errno.ENXIO, "no CPU's registers are open")
        read = self._root.read_slot
        return {cpu: tuple([read(fd, number, 8) for number in _NUMBERS]) for cpu, fd in self._fds.items()}


def clear(raw: Raw) -> list[int]:
    """The CPUs whose EFER.SVME is 0."""
    return [cpu for cpu, values in raw.items() if not values[_EFER][_SVME_BYTE] & _SVME_MASK]


def pages(raw: Raw) -> dict[int, int]:
    """VM_HSAVE_PA by CPU."""
    return {cpu: int.from_bytes(values[_HSAVE], "little") for cpu, values in raw.items()}


def snapshot(raw: Raw, phase: str) -> Snapshot:
    """What was read, as evidence."""
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
