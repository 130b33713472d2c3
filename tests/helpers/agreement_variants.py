"""Evidence of CPUs that differ in what the kernel combines over all of them, or in what is unknown of some."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.evidence_changes import UNREAD, leaf, leaf_unread
from tests.helpers.variants import BASE, Evidence, Variant, each, set_everywhere

_GOOD = "svme-set-by-create-vm"
_LEAF = ["0x3024", "0x1", "0x1000", "0x0"]


def with_address_sizes(*last: str) -> Callable[[Evidence], None]:
    """Leaf 0x80000008, which older evidence does not have; `last`: its four words on cpu1."""

    def change(evidence: Evidence) -> None:
        cpuid = evidence["cpus"]["cpuid"]
        cpuid["0"]["0x80000008"], cpuid["1"]["0x80000008"] = list(_LEAF), list(last or _LEAF)

    return change


def cpuinfo(name: str, *values: str | None) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        for cpu, value in enumerate(values):
            evidence["cpus"]["cpuinfo"][str(cpu)][name] = value

    return change


def no_cpuinfo_of_cpu1(evidence: Evidence) -> None:
    del evidence["cpus"]["cpuinfo"]["1"]


def vm_cr_unread(evidence: Evidence) -> None:
    set_everywhere(evidence, "VM_CR", UNREAD, ("1",))


AGREEMENT: tuple[Variant, ...] = (
    ("no nested paging on cpu1", BASE, leaf("0x8000000a", 3, "0x0", "1"), _GOOD),
    ("another number of ASIDs on cpu1", BASE, leaf("0x8000000a", 1, "0x8", "1"), _GOOD),
    ("unnamed bit of leaf 0x8000000A on cpu1", BASE, leaf("0x8000000a", 3, "0x201", "1"), _GOOD),
    ("two bits of leaf 0x8000000A on cpu1", BASE, leaf("0x8000000a", 3, "0x10000", "1"), _GOOD),
    ("SEV on cpu1", BASE, each(leaf("0x80000000", 0, "0x8000001f"), leaf("0x8000001f", 0, "0x2", "1")), _GOOD),
    (
        "SEV on cpu1 above its highest leaf",
        BASE,
        each(leaf("0x80000000", 0, "0x8000001e"), leaf("0x8000001f", 0, "0x2", "1")),
        _GOOD,
    ),
    ("another bit of leaf 0x80000001 on cpu1", BASE, leaf("0x80000001", 3, "0x0", "1"), _GOOD),
    ("leaf 0x80000008 on both CPUs", BASE, with_address_sizes(), _GOOD),
    ("another feature of leaf 0x80000008 on cpu1", BASE, with_address_sizes("0x3024", "0x3", "0x1000", "0x0"), _GOOD),
    ("other address sizes on cpu1", BASE, with_address_sizes("0x3030", "0x1", "0x1000", "0x0"), _GOOD),
    ("leaf 0x8000000A unread on cpu1", BASE, leaf_unread("0x8000000a", "1"), _GOOD),
    ("another microcode on cpu1", BASE, cpuinfo("microcode", "0x1000065", "0x1000064"), _GOOD),
    ("another stepping on cpu1", BASE, cpuinfo("stepping", "2", "1"), _GOOD),
    ("microcode unknown on cpu1", BASE, cpuinfo("microcode", "0x1000065", None), _GOOD),
    (
        "microcode and stepping unknown",
        BASE,
        each(cpuinfo("microcode", None, None), cpuinfo("stepping", None, None)),
        _GOOD,
    ),
    ("no /proc/cpuinfo of cpu1", BASE, no_cpuinfo_of_cpu1, _GOOD),
    ("VM_CR unread on cpu1, compared", BASE, vm_cr_unread, _GOOD),
    (
        "another microcode and no nested paging on cpu1",
        BASE,
        each(cpuinfo("microcode", "0x1", "0x2"), leaf("0x8000000a", 3, "0x0", "1")),
        _GOOD,
    ),
)
