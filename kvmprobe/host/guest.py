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
    from typing import Callable, TypeVar

    from kvmprobe.model.evidence import GuestRun

    _G = TypeVar("_G", bound="GuestVcpu")
    _Self = TypeVar("_Self", bound="GuestVcpu")


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

# The time in which this process could run: the alarm's ticks are counted, not the clock. While it is stopped (SIGSTOP,
# a frozen cgroup, a suspended host), no tick counts.
RUN_DEADLINE_S = 10.0
ALL_DEADLINE_S = 60.0

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
    return on_cpus(lambda watcher: _Adding(device, vm, watcher), cpus, allowed, alarm, [_Adding.run])


def on_cpus(
    make: Callable[[PinWatcher], _G],
    cpus: Iterable[int],
    allowed: Collection[int],
    alarm: GuestAlarm,
    runs: Collection[Callable[[_G, int], GuestRun]],
    not_allowed: str = "EFER.SVME is not 1 there",
) -> list[GuestRun]:
    """Make a GuestVcpu and call the first of `runs` with it and each of `cpus`, pinned to that CPU, then the next.

    Return the results in this order. `not_allowed`: why a CPU is not in `allowed`. Otherwise as run_on_cpus().
    """
    cpus = list(cpus)
    turns = [(run, cpu) for run in runs for cpu in cpus]
    watcher = alarm.watcher
    if watcher is None:
        return [result_of_run(cpu, "skipped", "fork", alarm.error) for _, cpu in turns]
    try:
        with make(watcher) as guest:
            return [
                _run_pinned(guest, cpu, run) if cpu in allowed else result_of_run(cpu, "skipped", not_allowed)
                for run, cpu in turns
            ]
    except OSError as error:  # The guest could not be set up.
        return [result_of_run(cpu, "failed", error.filename, failure(error)["error"]) for _, cpu in turns]
    except WrongAnswer as wrong:
        return [result_of_run(cpu, "failed", wrong) for _, cpu in turns]
    finally:
        watcher.unpin()


def result_of_run(cpu: int, result: str, detail: object = None, error: str | None = None) -> GuestRun:
    """The evidence of a run that ended with `result`; `error`: the errno of the call that `detail` names."""
    return {"cpu": cpu, "result": result, "detail": None if detail is None else str(detail), "error": error}


def _run_pinned(guest: _G, cpu: int, run: Callable[[_G, int], GuestRun]) -> GuestRun:
    if guest.seconds >= ALL_DEADLINE_S:
        return result_of_run(cpu, "skipped", f"the guests on the CPUs before took {ALL_DEADLINE_S:.0f} s")
    try:
        guest.watcher.pin(cpu)
    except OSError as error:  # The CPU is offline by now, or outside the cpuset of this container.
        return result_of_run(cpu, "skipped", "sched_setaffinity", failure(error)["error"])
    signal.setitimer(signal.ITIMER_REAL, TICK_S, TICK_S)
    try:
        result = run(guest, cpu)
    except OSError as error:
        result = result_of_run(cpu, "failed", error.filename, failure(error)["error"])
    except WrongAnswer as wrong:
        result = result_of_run(cpu, "failed", wrong)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if guest.watcher.was_freed():  # The guest ran elsewhere, if it did.
        return result_of_run(cpu, "skipped", BUSY)
    return result


class GuestVcpu:
    """A vCPU of a VM, with memory of its own. `seconds`: how long it ran so far, in ticks of the alarm.

    The memory has `image` at the guest's physical `address`. `number`: of the vCPU and of the memory's slot.
    """

    def __init__(
        self, device: kvm.Kvm, vm: kvm.Vm, watcher: PinWatcher, image: bytes, address: int, number: int = 0
    ) -> None:
        self.watcher = watcher
        self.seconds = 0.0
        self.memory = kvm.map_memory(-1, -(-len(image) // mmap.PAGESIZE) * mmap.PAGESIZE)
        try:
            self.memory[: len(image)] = image
            vm.set_memory(self.memory, address, number)
            size = device.vcpu_mmap_size()
            if size < kvm.LEAST_MMAP_SIZE:
                raise WrongAnswer(f"KVM_GET_VCPU_MMAP_SIZE = {size}, less than {kvm.LEAST_MMAP_SIZE}")
            self.vcpu = vm.create_vcpu(size, number)
        except BaseException:
            kvm.unmap_memory(self.memory)
            raise

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.vcpu.close()
        kvm.unmap_memory(self.memory)

    def deadline(self) -> float:
        """Return the value of `seconds` at which a run that begins now has to end."""
        return min(self.seconds + RUN_DEADLINE_S, ALL_DEADLINE_S)

    def next_exit(self, ends: float) -> kvm_run | None:
        """KVM_RUN: run until the guest's next exit; None where it did not exit until `ends`. Raises OSError."""
        while True:
            try:
                return self.vcpu.run()
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise
            self.watcher.step()
            self.seconds += TICK_S
            if self.seconds >= ends or self.watcher.was_freed():
                return None

    def written(self, run: kvm_run, port: int, size: int) -> int:
        """The value of KVM_EXIT_IO. Raises WrongAnswer for another access than an OUT of `size` bytes to `port`."""
        wanted = {"direction": kvm.KVM_EXIT_IO_OUT, "size": size, "port": port, "count": 1}
        found = {name: getattr(run.io, name) for name in wanted}
        if found != wanted:
            texts = (f"{name} = {value:#x}" for name, value in found.items() if value != wanted[name])
            raise WrongAnswer(f"KVM_EXIT_IO: {', '.join(texts)}")
        try:
            return self.vcpu.io_value(run, size)
        except IndexError:
            raise WrongAnswer(f"KVM_EXIT_IO: data_offset = {run.io.data_offset:#x} is outside of its page") from None

    def start_in_real_mode(self, **registers: int) -> None:
        """Set the registers with which the next KVM_RUN begins; those that are not named are 0."""
        sregs = self.vcpu.get_sregs()
        sregs.cs.base = sregs.cs.selector = 0
        self.vcpu.set_sregs(sregs)
        self.vcpu.set_regs(kvm_regs(rflags=2, **registers))  # Bit 1 is always 1.


class _Adding(GuestVcpu):
    """The guest of CODE."""

    def __init__(self, device: kvm.Kvm, vm: kvm.Vm, watcher: PinWatcher) -> None:
        vm.set_tss_addr(_TSS_ADDRESS)
        super().__init__(device, vm, watcher, CODE, _ADDRESS)

    def run(self, cpu: int) -> GuestRun:
        """Run from reset to HLT on the CPU that this thread is pinned to. Raises OSError, WrongAnswer."""
        started = time.perf_counter_ns()
        operand = cpu & 0xFF
        wanted = registers_after(operand)
        self.start_in_real_mode(rax=operand, rbx=operand ^ 0x5A, rcx=_FACTOR, rip=_ADDRESS)
        output: list[int] = []
        ends = self.deadline()
        while True:
            run = self.next_exit(ends)
            if run is None:
                return result_of_run(cpu, "timeout", f"did not halt within its deadline of {RUN_DEADLINE_S:.0f} s")
            if run.exit_reason == kvm.KVM_EXIT_HLT:
                break
            if run.exit_reason != kvm.KVM_EXIT_IO or len(output) > 1:
                return result_of_run(cpu, "failed", f"KVM_RUN: unexpected exit {kvm.exit_name(run.exit_reason)}")
            output.append(self.written(run, PORT, 1))
        if output != [wanted["rax"]]:
            return result_of_run(cpu, "wrong", f"wrote {output} instead of [{wanted['rax']}]")
        differing = differing_registers(self.vcpu.get_regs(), wanted)
        if differing:
            return result_of_run(cpu, "wrong", f"after HLT {differing}")
        result = result_of_run(cpu, "ok", f"wrote {wanted['rax']} and halted")
        result["us"] = round((time.perf_counter_ns() - started) / 1000, 1)
        return result


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
