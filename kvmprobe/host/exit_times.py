"""What an exit of a guest costs: a guest that does nothing but write to a port, on each CPU in turn."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm
from kvmprobe.host.guest import PORT, GuestAlarm, GuestVcpu, on_cpus, result_of_run

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.model.evidence import GuestRun


# How many exits of KVM_RUN are timed on each CPU, and the seconds after which there are fewer: on a CPU, on all.
EXITS = 10_000
_DEADLINE_S, _ALL_DEADLINE_S = 0.5, 20.0

_ADDRESS = 0x1000
_LOOP = bytes((0xEE, 0xEB, 0xFD))  # again: out dx, al; jmp again


def time_exits(
    device: kvm.Kvm, vm: kvm.Vm, cpus: Iterable[int], alarm: GuestAlarm, add: Callable[[int, int], None]
) -> list[GuestRun]:
    """Run the guest pinned to each of `cpus`: EXITS exits on each, or fewer.

    `add`: called for each exit with the CPU and the nanoseconds that KVM_RUN took. Otherwise as guest.run_on_cpus().
    """
    ends = time.monotonic() + _ALL_DEADLINE_S
    cpus = list(cpus)
    return on_cpus(
        lambda watcher: GuestVcpu(device, vm, watcher, _LOOP, _ADDRESS),
        cpus,
        cpus,
        alarm,
        [lambda guest, cpu: _time_on_cpu(guest, cpu, ends, add)],
    )


def _time_on_cpu(guest: GuestVcpu, cpu: int, ends: float, add: Callable[[int, int], None]) -> GuestRun:
    """Run the loop for EXITS exits, or until `ends` (time.monotonic()). Raises OSError."""
    guest.start_in_real_mode(rdx=PORT, rip=_ADDRESS)
    ends = min(ends, time.monotonic() + _DEADLINE_S)
    done = 0
    while done < EXITS and time.monotonic() < ends:
        try:
            took, reason = guest.vcpu.time_run()
        except OSError as error:
            if error.errno != errno.EINTR:
                raise
            guest.watcher.step()
            if guest.watcher.was_freed():
                break
            continue
        if reason != kvm.KVM_EXIT_IO:
            return result_of_run(cpu, "failed", f"KVM_RUN: unexpected exit {kvm.exit_name(reason)}")
        add(cpu, took)
        done += 1
    return result_of_run(cpu, "ok" if done else "skipped", f"{done} exits")
