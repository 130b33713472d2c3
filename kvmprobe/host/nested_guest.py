"""A guest that runs a guest: it proves nested SVM on each CPU, with and without nested paging.

The outer guest reads EFER, sets EFER.SVME, gives VM_HSAVE_PA a page and executes VMRUN. The inner guest adds numbers
and leaves by VMMCALL, then, after a second VMRUN, by HLT. The outer guest reports its steps, the exit codes and the
sums by OUT. An exception in the outer guest is reported by its vector, so that the last step names the instruction.

A broken nested path can crash the host, so this runs only where the user asks for it, and only where the adding guest
of guest.py ran to its end.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from functools import partial

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import guest, kvm, kvm_cpuid
from kvmprobe.host import nested_guest_image as layout
from kvmprobe.host.kvm_structures import kvm_regs, kvm_run, kvm_segment
from kvmprobe.model.registers import CPUID_BITS, LEAF_EXTENDED_FEATURES, LEAF_SVM, word
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.host.pin_watcher import PinWatcher
    from kvmprobe.model.evidence import GuestRun, Leaf
    from kvmprobe.model.nested_evidence import Nested, NestedExit, NestedReport

_NESTED = "nested"
# How the inner guest's memory is mapped, and the feature that KVM has to offer to guests for it.
_FEATURES = {_NESTED: "npt", "shadow": "svm"}

_NUMBER = 1  # of vCPU and memory slot: the adding guest has 0
_SECOND = 0x01234567  # the second number of the sum; the first is the CPU's number
_SIZES = {layout.STEP_PORT: 1, layout.VALUE_PORT: 4, layout.EXCEPTION_PORT: 1}  # of a write to a port, in bytes
_MOST_WRITES = len(layout.STEPS) + len(layout.VALUES) + 1


def run_on_cpus(
    device: kvm.Kvm, vm: kvm.Vm, cpus: Iterable[int], allowed: Collection[int], alarm: guest.GuestAlarm
) -> Nested:
    """Run the guest in the guest pinned to each of `cpus`, with each kind of paging that KVM offers to guests.

    It runs nowhere if KVM does not offer SVM to guests. A CPU that is not in `allowed` is skipped. A run that came to
    no known end is the last one. See guest.run_on_cpus() for the rest.
    """
    try:
        entries = kvm_cpuid.supported_cpuid(device)
    except OSError as error:
        return {"supported_cpuid": failure(error), "runs": {}}
    leaves = kvm_cpuid.leaves_of(entries, (LEAF_EXTENDED_FEATURES, LEAF_SVM))
    if not _offers(leaves, "svm"):
        return {"supported_cpuid": leaves, "runs": {}}
    kinds = [paging for paging, feature in _FEATURES.items() if _offers(leaves, feature)]
    cpus = list(cpus)
    found = guest.on_cpus(
        lambda watcher: _Outer(device, vm, watcher, entries),
        cpus,
        allowed,
        alarm,
        [partial(_Outer.run, paging=paging) for paging in kinds],
        "the guest did not run to its end there",
    )
    count = len(cpus)
    runs = {paging: found[index * count : (index + 1) * count] for index, paging in enumerate(kinds)}
    return {"supported_cpuid": leaves, "runs": runs}


def _offers(leaves: dict[str, Leaf], feature: str) -> bool:
    bit = CPUID_BITS[feature]
    return bool((word(leaves, bit.leaf, bit.register) or 0) >> bit.bit & 1)


class _Outer(guest.GuestVcpu):
    """The outer guest."""

    def __init__(self, device: kvm.Kvm, vm: kvm.Vm, watcher: PinWatcher, cpuid: bytes) -> None:
        super().__init__(device, vm, watcher, layout.image(0, False), layout.ADDRESS, _NUMBER)
        self._is_lost = False
        try:
            kvm_cpuid.set_cpuid(self.vcpu, cpuid)
        except BaseException:
            self.__exit__()
            raise

    def run(self, cpu: int, paging: str) -> GuestRun:
        """Run from the first instruction to HLT on the CPU that this thread is pinned to. Raises OSError."""
        if self._is_lost:
            return guest.result_of_run(cpu, "skipped", "an earlier guest in a guest came to no known end")
        started = time.perf_counter_ns()
        self._start(cpu, paging)
        report: NestedReport = {
            "step": None,
            "exception": None,
            "efer": None,
            "exits": [],
            "expected": _exits(number for pair in layout.expected_exits(cpu, _SECOND) for number in pair),
        }
        values: list[int] = []
        try:
            result = self._follow(cpu, report, values)
        except OSError as error:
            result = guest.result_of_run(cpu, "failed", error.filename, failure(error)["error"])
        except guest.WrongAnswer as wrong:
            result = guest.result_of_run(cpu, "failed", wrong)
        report["efer"] = hex(values[0]) if values else None
        report["exits"] = _exits(values[1:])
        self._is_lost = result["result"] != "exception" and len(values) < len(layout.VALUES)
        result["nested"] = report
        result["us"] = round((time.perf_counter_ns() - started) / 1000, 1)
        return result

    def _start(self, first: int, paging: str) -> None:
        image = layout.image(first, paging == _NESTED)
        self.memory[: len(image)] = image
        sregs = self.vcpu.get_sregs()
        sregs.cs = _segment(layout.CODE_SELECTOR, 0xB)
        sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = _segment(layout.DATA_SELECTOR, 0x3)
        sregs.gdt.base, sregs.gdt.limit = layout.GDT, layout.GDT_LIMIT
        sregs.idt.base, sregs.idt.limit = layout.IDT, layout.IDT_LIMIT
        sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer = layout.CR0, layout.PAGE_DIRECTORY, layout.CR4, 0
        self.vcpu.set_sregs(sregs)
        self.vcpu.set_regs(kvm_regs(rflags=2, rbx=_SECOND, rsp=layout.STACK_TOP, rip=layout.CODE))

    def _follow(self, cpu: int, report: NestedReport, values: list[int]) -> GuestRun:
        """Run to the guest's end, and record its steps in `report` and its values in `values`."""
        ends = self.deadline()
        for _ in range(_MOST_WRITES + 1):
            exit = self.next_exit(ends)
            if exit is None:
                detail = f"no end within its deadline of {guest.RUN_DEADLINE_S:.0f} s"
                return guest.result_of_run(cpu, "timeout", detail)
            if exit.exit_reason == kvm.KVM_EXIT_HLT:
                return guest.result_of_run(cpu, "ended" if report["exception"] is None else "exception")
            if exit.exit_reason != kvm.KVM_EXIT_IO:
                raise guest.WrongAnswer(f"KVM_RUN: unexpected exit {kvm.exit_name(exit.exit_reason)}")
            self._record(exit, report, values)
        raise guest.WrongAnswer("the outer guest wrote more than its program does")

    def _record(self, exit: kvm_run, report: NestedReport, values: list[int]) -> None:
        port = exit.io.port if exit.io.port in _SIZES else layout.STEP_PORT
        value = self.written(exit, port, _SIZES[port])
        if port == layout.VALUE_PORT:
            values.append(value)
        elif port == layout.EXCEPTION_PORT:
            report["exception"] = value
        elif 1 <= value <= len(layout.STEPS):
            report["step"] = layout.STEPS[value - 1]
        else:
            raise guest.WrongAnswer(f"the outer guest reported the step {value}, which it does not have")


def _exits(numbers: Iterable[int]) -> list[NestedExit]:
    """Exit codes and sums, one after the other, as evidence has them."""
    texts = list(map(hex, numbers))
    return [{"code": code, "sum": total} for code, total in zip(texts[0::2], texts[1::2])]


def _segment(selector: int, type: int) -> kvm_segment:
    """A flat segment of 32 bits, as the descriptors of the GDT have it."""
    return kvm_segment(limit=0xFFFFFFFF, selector=selector, type=type, present=1, db=1, s=1, g=1)
