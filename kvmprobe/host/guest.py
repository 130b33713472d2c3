"""A guest of nine bytes, run on each CPU in turn, which proves that VMRUN works there.

In real mode it computes a number that depends on the CPU, writes it to an I/O port and halts. The number is checked.
"""

from __future__ import annotations

import errno
import mmap
import signal
import time
from collections.abc import Collection, Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import kvm
from kvmprobe.host.kvm_structures import kvm_regs, kvm_run
from kvmprobe.host.pin_watcher import STARVED_S, TICK_S, PinWatcher
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from typing import Callable

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
# Another program, for time_exits(): "again: out dx, al; jmp again".
_LOOP = bytes((0xEE, 0xEB, 0xFD))
_LOOP_OFFSET = 0x100
_FACTOR = 7
_TSS_ADDRESS = 0xFFFBD000  # Below the BIOS, where every VMM puts it; only kvm_intel uses it.

# The time in which this process could run: the alarm's ticks are counted, not the clock. While it is stopped (SIGSTOP,
# a frozen cgroup, a suspended host), no tick counts.
RUN_DEADLINE_S = 10.0
ALL_DEADLINE_S = 60.0

# How many exits of KVM_RUN are timed on each CPU, and the seconds after which there are fewer: on a CPU, on all.
EXITS = 10_000
_EXITS_DEADLINE_S, _ALL_EXITS_DEADLINE_S = 0.5, 20.0

BUSY = f"the CPU is busy with real-time work: this process could not run there for {STARVED_S:.0f} s"


class WrongAnswer(Exception):
    """KVM answered what it must not: in one line."""


class GuestAlarm:
    """Reserves SIGALRM from entry to exit, and starts a PinWatcher. Enter it before a VM is created.

    The alarm ends KVM_RUN with EINTR at each tick, which enforces the guest's deadline. The watcher ends a wait for a
    CPU that never comes; `watcher` is None where it could not be started, and `error` has the errno name.

    Main thread only. On exit handler, signal mask, timer and CPU affinity are as before.
    """

    def __init__(self) -> None:
        self.watcher: PinWatcher | None = None
        self.error: str | None = None

    def __enter__(self) -> GuestAlarm:
        try:
            self.watcher = PinWatcher().__enter__()
        except OSError as error:
            self.error = failure(error)["error"]
        self._handler = signal.signal(signal.SIGALRM, lambda *_: None)
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})  # A parent may have blocked it.
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        if self.watcher is not None:
            self.watcher.__exit__()


def run_on_cpus(
    device: kvm.Kvm, vm: kvm.Vm, cpus: Iterable[int], allowed: Collection[int], alarm: GuestAlarm
) -> list[GuestRun]:
    """Run the guest pinned to each of `cpus` and return one result for each CPU, in this order.

    A CPU that is not in `allowed` is skipped: where EFER.SVME is 0, VMRUN raises #UD in the kernel, an oops. Call it
    within `alarm`. The CPU affinity of the thread is restored.
    """
    return _on_cpus(device, vm, cpus, allowed, alarm, _Guest.run)


def time_exits(
    device: kvm.Kvm, vm: kvm.Vm, cpus: Iterable[int], alarm: GuestAlarm, add: Callable[[int, int], None]
) -> list[GuestRun]:
    """Run a guest that does nothing but write to a port, pinned to each of `cpus`: EXITS exits on each, or fewer.

    `add`: called for each exit with the CPU and the nanoseconds that KVM_RUN took. Otherwise as run_on_cpus().
    """
    ends = time.monotonic() + _ALL_EXITS_DEADLINE_S
    cpus = list(cpus)
    return _on_cpus(device, vm, cpus, cpus, alarm, lambda guest, cpu: guest.time_exits(cpu, ends, add))


def _on_cpus(
    device: kvm.Kvm,
    vm: kvm.Vm,
    cpus: Iterable[int],
    allowed: Collection[int],
    alarm: GuestAlarm,
    run: Callable[[_Guest, int], GuestRun],
) -> list[GuestRun]:
    cpus = list(cpus)
    watcher = alarm.watcher
    if watcher is None:
        return [_result(cpu, "skipped", "fork", alarm.error) for cpu in cpus]
    try:
        with _Guest(device, vm, watcher) as guest:
            return [
                _run_pinned(guest, cpu, run) if cpu in allowed else _result(cpu, "skipped", "EFER.SVME is not 1 there")
                for cpu in cpus
            ]
    except OSError as error:  # The guest could not be set up.
        return [_result(cpu, "failed", error.filename, failure(error)["error"]) for cpu in cpus]
    except WrongAnswer as wrong:
        return [_result(cpu, "failed", wrong) for cpu in cpus]
    finally:
        watcher.unpin()


def _result(cpu: int, result: str, detail: object = None, error: str | None = None) -> GuestRun:
    return {"cpu": cpu, "result": result, "detail": None if detail is None else str(detail), "error": error}


def _run_pinned(guest: _Guest, cpu: int, run: Callable[[_Guest, int], GuestRun]) -> GuestRun:
    if guest.seconds >= ALL_DEADLINE_S:
        return _result(cpu, "skipped", f"the guests on the CPUs before took {ALL_DEADLINE_S:.0f} s")
    try:
        guest.watcher.pin(cpu)
    except OSError as error:  # The CPU is offline by now, or outside the cpuset of this container.
        return _result(cpu, "skipped", "sched_setaffinity", failure(error)["error"])
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        result = run(guest, cpu)
    except OSError as error:
        result = _result(cpu, "failed", error.filename, failure(error)["error"])
    except WrongAnswer as wrong:
        result = _result(cpu, "failed", wrong)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if guest.watcher.was_freed():  # The guest ran elsewhere, if it did.
        return _result(cpu, "skipped", BUSY)
    return result


class _Guest:
    """The VM's memory with CODE in it, and its vCPU. `seconds`: how long it ran so far, in ticks of the alarm."""

    def __init__(self, device: kvm.Kvm, vm: kvm.Vm, watcher: PinWatcher) -> None:
        self.watcher = watcher
        self.seconds = 0.0
        self._memory = kvm.map_memory(-1, mmap.PAGESIZE)
        try:
            self._memory[: len(CODE)] = CODE
            self._memory[_LOOP_OFFSET : _LOOP_OFFSET + len(_LOOP)] = _LOOP
            vm.set_tss_addr(_TSS_ADDRESS)
            vm.set_memory(self._memory, _ADDRESS)
            size = device.vcpu_mmap_size()
            if size < kvm.LEAST_MMAP_SIZE:
                raise WrongAnswer(f"KVM_GET_VCPU_MMAP_SIZE = {size}, less than {kvm.LEAST_MMAP_SIZE}")
            self._vcpu = vm.create_vcpu(size)
        except BaseException:
            kvm.unmap_memory(self._memory)
            raise

    def __enter__(self) -> _Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self._vcpu.close()
        kvm.unmap_memory(self._memory)

    def run(self, cpu: int) -> GuestRun:
        """Run from reset to HLT on the CPU that this thread is pinned to. Raises OSError, WrongAnswer."""
        started = time.perf_counter_ns()
        operand = cpu & 0xFF
        wanted = registers_after(operand)
        self._start(rax=operand, rbx=operand ^ 0x5A, rcx=_FACTOR, rip=_ADDRESS)
        output: list[int] = []
        ends = min(self.seconds + RUN_DEADLINE_S, ALL_DEADLINE_S)
        while True:
            try:
                run = self._vcpu.run()
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
                self.watcher.step()
                self.seconds += TICK_S
                if self.seconds >= ends or self.watcher.was_freed():
                    return _result(cpu, "timeout", f"did not halt within its deadline of {RUN_DEADLINE_S:.0f} s")
                continue
            if run.exit_reason == kvm.KVM_EXIT_HLT:
                break
            if run.exit_reason != kvm.KVM_EXIT_IO or len(output) > 1:
                return _result(cpu, "failed", f"KVM_RUN: unexpected exit {kvm.exit_name(run.exit_reason)}")
            output.append(self._written_byte(run))
        if output != [wanted["rax"]]:
            return _result(cpu, "wrong", f"wrote {output} instead of [{wanted['rax']}]")
        differing = differing_registers(self._vcpu.get_regs(), wanted)
        if differing:
            return _result(cpu, "wrong", f"after HLT {differing}")
        result = _result(cpu, "ok", f"wrote {wanted['rax']} and halted")
        result["us"] = round((time.perf_counter_ns() - started) / 1000, 1)
        return result

    def time_exits(self, cpu: int, ends: float, add: Callable[[int, int], None]) -> GuestRun:
        """Run the loop for EXITS exits, or until `ends` (time.monotonic()). Raises OSError."""
        self._start(rdx=PORT, rip=_ADDRESS + _LOOP_OFFSET)
        ends = min(ends, time.monotonic() + _EXITS_DEADLINE_S)
        done = 0
        while done < EXITS and time.monotonic() < ends:
            try:
                took, reason = self._vcpu.time_run()
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
                self.watcher.step()
                if self.watcher.was_freed():
                    break
                continue
            if reason != kvm.KVM_EXIT_IO:
                return _result(cpu, "failed", f"KVM_RUN: unexpected exit {kvm.exit_name(reason)}")
            add(cpu, took)
            done += 1
        return _result(cpu, "ok" if done else "skipped", f"{done} exits")

    def _start(self, **registers: int) -> None:
        """Set the registers with which the next KVM_RUN begins; those that are not named are 0."""
        sregs = self._vcpu.get_sregs()
        sregs.cs.base = sregs.cs.selector = 0
        self._vcpu.set_sregs(sregs)
        self._vcpu.set_regs(kvm_regs(rflags=2, **registers))  # Bit 1 is always 1.

    def _written_byte(self, run: kvm_run) -> int:
        """The byte of KVM_EXIT_IO. Raises WrongAnswer where kvm_run describes another access than the guest's."""
        found = {name: getattr(run.io, name) for name in _ACCESS}
        if found != _ACCESS:
            texts = (f"{name} = {value:#x}" for name, value in found.items() if value != _ACCESS[name])
            raise WrongAnswer(f"KVM_EXIT_IO: {', '.join(texts)}")
        try:
            return self._vcpu.io_byte(run)
        except IndexError:
            raise WrongAnswer(f"KVM_EXIT_IO: data_offset = {run.io.data_offset:#x} is outside of its page") from None


# The guest's access to its port, as kvm_run.io has it.
_ACCESS = {"direction": kvm.KVM_EXIT_IO_OUT, "size": 1, "port": PORT, "count": 1}


def registers_after(operand: int) -> dict[str, int]:
    """The general registers, RIP and RFLAGS after the guest's HLT, by the kernel's name (struct kvm_regs)."""
    al, bl = operand, operand ^ 0x5A
    flags = 0
    for _ in range(_FACTOR):
        al, flags = _add(al, bl)
    registers = {name: 0 for name, _ in kvm_regs._fields_}  # type: ignore[misc]
    registers.update(rax=al, rbx=bl, rdx=PORT, rip=_ADDRESS + len(CODE), rflags=flags | 2)  # Bit 1 is always 1.
    return registers


def _add(one: int, other: int) -> tuple[int, int]:
    """ADD of two bytes: the sum, and the bits that it sets in RFLAGS (AMD APM volume 3, ADD)."""
    total = one + other
    result = total & 0xFF
    flags = {
        0: total > 0xFF,  # CF
        2: bin(result).count("1") % 2 == 0,  # PF
        4: (one & 0xF) + (other & 0xF) > 0xF,  # AF
        6: result == 0,  # ZF
        7: result > 0x7F,  # SF
        11: (one ^ result) & (other ^ result) & 0x80 != 0,  # OF
    }
    return result, sum(1 << bit for bit, is_set in flags.items() if is_set)


def differing_registers(found: kvm_regs, expected: dict[str, int]) -> str:
    """The registers that differ, for people: "rip = 0x100a instead of 0x1009"; "" for none."""
    values = ((name, getattr(found, name), value) for name, value in expected.items())
    return ", ".join(f"{name} = {value:#x} instead of {wanted:#x}" for name, value, wanted in values if value != wanted)
