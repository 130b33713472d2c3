"""Reports of hosts with thousands of CPUs, which differ in what makes reports long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmprobe.judge import judge
from scripts.measurements.summary_time import report


def _register(phases: tuple[int, ...], name: str, value: Callable[[int], Any]) -> Callable[[Any, int], None]:
    def change(evidence: Any, cpu: int) -> None:
        for phase in phases:
            evidence["snapshots"][phase]["cpus"][str(cpu)][name] = value(cpu)

    return change


def _cpuid(evidence: Any, cpu: int) -> None:
    if cpu % 2:
        leaves = evidence["cpus"]["cpuid"][str(cpu)]
        leaves.update({leaf: {"error": "EIO"} for leaf in leaves})


def _efer(evidence: Any, cpu: int) -> None:
    for snapshot in evidence["snapshots"]:
        registers = snapshot["cpus"][str(cpu)]
        registers["EFER"] = hex(int(registers["EFER"], 16) | cpu << 16)


def _guest(evidence: Any, cpu: int) -> None:
    evidence["guest"][cpu].update(result="failed", detail=f"exit {cpu}")


# What differs between the CPUs.
DIFFERENCES: dict[str, Callable[[Any, int], None]] = {
    "nothing": lambda evidence, cpu: None,
    "SVME of every other CPU": _register((1,), "EFER", lambda cpu: "0xd01" if cpu % 2 else "0x1d01"),
    "SVMDIS of every other CPU": _register((0, 1, 2), "VM_CR", lambda cpu: "0x10" if cpu % 2 else "0x0"),
    "VM_CR of every CPU": _register((0, 1, 2), "VM_CR", lambda cpu: hex(8 + (cpu << 8))),
    "EFER of every CPU": _efer,
    "every third CPU unread": _register((0, 1, 2), "EFER", lambda cpu: {"error": "EIO"} if cpu % 3 else "0x1d01"),
    "a page that all share": _register((1,), "VM_HSAVE_PA", lambda cpu: "0x1000"),
    "CPUID unread on every other CPU": _cpuid,
    "the guest's failure on every CPU": _guest,
}


def many_cpus(cpus: int, difference: str) -> Any:
    """The report of a host with that many CPUs and a difference of DIFFERENCES, judged by this version."""
    data = report(cpus)
    data["evidence"]["host"]["name"] = "many"
    for cpu in range(cpus):
        DIFFERENCES[difference](data["evidence"], cpu)
    return {**data, **judge(data["evidence"])}
