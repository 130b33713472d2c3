"""A guest of nine bytes, run on each CPU in turn, which proves that VMRUN works there.

In real mode it computes a number that depends on the CPU, writes it to an I/O port and halts. The number is checked.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import time
from collections.abc import Collection, Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm
from kvmprobe.host.kvm_structures import kvm_regs
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import GuestRun


PORT = 0xE9
# fmt: off
CODE = bytes((
    0xBA, PORT, 0x00,  # mov dx, PORT
    0x00, 0xD8,        # again: add al, bl
    0xE2, 0xFC,        # loop again
    0xEE,              # out dx, al
    0xF4,              # hlt
))
# fmt: on
_ADDRESS = 0x1000
_FACTOR = 7
_TSS_ADDRESS = 0xFFFBD000  # Below the BIOS, where every VMM puts it; only kvm_intel uses it.

RUN_DEADLINE_S = 10.0
ALL_DEADLINE_S = 60.0
_ALARM_REPEAT_S = 0.1  # A signal that arrives just before KVM_RUN does not end it, so the alarm repeats.


class GuestAlarm:
    """Reserves SIGALRM from entry to exit. The alarm ends KVM_RUN with EINTR, which enforces the guest's deadline.

    Main thread only. On exit handler, signal mask and timer are as before.
    """

    def __enter__(self) -> GuestAlarm:
        self._handler = signal.signal(signal.SIGALRM, lambda *_: None)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # A parent may have blocked it.
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def run_on_cpus(device: kvm.Kvm, vm: kvm.Vm, cpus: Iterable[int], allowed: Collection[int]) -> list[GuestRun]:
    """Run the guest pinned to each of `cpus` and return one result for each CPU, in this order.

    A CPU that is not in `allowed` is skipped: where EFER.SVME is 0, VMRUN raises #UD in the kernel, an oops. Call it
    within a GuestAlarm. The CPU affinity of the thread is restored.
    """
    cpus = list(cpus)
    affinity = os.sched_getaffinity(0)
    try:
        with _Guest(device, vm) as guest:
            ends = time.monotonic() + ALL_DEADLINE_S
            return [
                _run_pinned(guest, cpu, ends) if cpu in allowed else _result(cpu, "skipped", "EFER.SVME is not 1 there")
                for cpu in cpus
            ]
    except OSError as error:  # The guest could not be set up.
        return [_result(cpu, "failed", error.filename, failure(error)["error"]) for cpu in cpus]
    finally:
        try:
            os.sched_setaffinity(0, affinity)
        except OSError:
            pass  # The cpuset has changed meanwhile.


def _result(cpu: int, result: str, detail: object = None, error: str | None = None) -> GuestRun:
    return {"cpu": cpu, "result": result, "detail": None if detail is None else str(detail), "error": error}


def _run_pinned(guest: _Guest, cpu: int, ends: float) -> GuestRun:
    deadline = min(time.monotonic() + RUN_DEADLINE_S, ends)
    if time.monotonic() >= ends:
        return _result(cpu, "skipped", f"the guests on the CPUs before took {ALL_DEADLINE_S:.0f} s")
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError as error:  # The CPU is offline by now, or outside the cpuset of this container.
        return _result(cpu, "skipped", "sched_setaffinity", failure(error)["error"])
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001), _ALARM_REPEAT_S)
    try:
        return guest.run(cpu, deadline)
    except OSError as error:
        return _result(cpu, "failed", error.filename, failure(error)["error"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Guest:
    """The VM's memory with CODE in it, and its vCPU."""

    def __init__(self, device: kvm.Kvm, vm: kvm.Vm) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        try:
            self._memory[: len(CODE)] = CODE
            vm.set_tss_addr(_TSS_ADDRESS)
            vm.set_memory(self._memory, _ADDRESS)
            self._vcpu = vm.create_vcpu(device.vcpu_mmap_size())
        except BaseException:
            self._memory.close()
            raise

    def __enter__(self) -> _Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self._vcpu.close()
        self._memory.close()

    def run(self, cpu: int, deadline: float) -> GuestRun:
        """Run from reset to HLT on the CPU that this thread is pinned to. Raises OSError."""
        operand = cpu & 0xFF
        expected = (operand + _FACTOR * (operand ^ 0x5A)) & 0xFF
        sregs = self._vcpu.get_sregs()
        sregs.cs.base = sregs.cs.selector = 0
        self._vcpu.set_sregs(sregs)
        self._vcpu.set_regs(
            kvm_regs(rax=operand, rbx=operand ^ 0x5A, rcx=_FACTOR, rip=_ADDRESS, rflags=2)  # Bit 1 is always 1.
        )
        output: list[int] = []
        while True:
            try:
                run = self._vcpu.run()
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
                if time.monotonic() >= deadline:
                    return _result(cpu, "timeout", f"did not halt within its deadline of {RUN_DEADLINE_S:.0f} s")
                continue
            if run.exit_reason == kvm.KVM_EXIT_HLT:
                break
            if run.exit_reason != kvm.KVM_EXIT_IO or run.io.port != PORT or len(output) > 1:
                return _result(cpu, "failed", f"KVM_RUN: unexpected exit {kvm.exit_name(run.exit_reason)}")
            output.append(self._vcpu.io_byte(run))
        if output != [expected]:
            return _result(cpu, "wrong", f"wrote {output} instead of [{expected}]")
        return _result(cpu, "ok", f"wrote {expected} and halted")
