"""Evidence of what was left of a VM, changed: references to kvm_amd and descriptors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.evidence_changes import foreign_event, with_rights_of_root
from tests.helpers.soak_variants import SOAK
from tests.helpers.variants import BASE, Evidence, Variant, create_fails, each

_BAD, _GOOD = "resource-leaked", "svme-set-by-create-vm"


def on_the_host(evidence: Evidence) -> None:
    """Root on a host that is no container, so every process can be seen."""
    evidence["host"]["euid"] = 0
    with_rights_of_root(evidence)
    evidence["surroundings"] = {
        "container": None,
        "hypervisor_type": None,
        "xen_features": None,
        "vendor": None,
        "product": None,
        "bootloader_type": None,
    }


def left(before: Any, after: Any, users: Any = (), descriptors: tuple[str, ...] = ()) -> Callable[[Evidence], None]:
    """References of kvm_amd before and after the VM, the PIDs that have KVM open (None: not searched for)."""

    def change(evidence: Evidence) -> None:
        on_the_host(evidence)
        evidence["left_behind"] = {
            "references_before": before,
            "references_after": after,
            "users": None if users is None else [{"pid": pid, "comm": "qemu"} for pid in users],
            "descriptors": list(descriptors),
        }

    return change


def in_container(evidence: Evidence) -> None:
    evidence["surroundings"]["container"] = "docker"


def capabilities(value: Any) -> Callable[[Evidence], None]:
    return lambda evidence: evidence["rights"].update(capabilities=value)


def in_user_namespace(evidence: Evidence) -> None:
    evidence["rights"]["user_namespace"] = True


def without(name: str) -> Callable[[Evidence], None]:
    return lambda evidence: evidence.pop(name)


def not_root(evidence: Evidence) -> None:
    evidence["host"]["euid"] = 1000


def kvm_amd_state(state: str | None) -> Callable[[Evidence], None]:
    def change(evidence: Evidence) -> None:
        if state is None:
            del evidence["modules"]["kvm_amd"]
        else:
            evidence["modules"]["kvm_amd"].update(state=state, refcount=None)

    return change


def unnamed(evidence: Evidence) -> None:
    evidence["left_behind"]["users"][0]["comm"] = None


def grown(
    field: str, values: Any, pause: int | None = 0, vms: int = 1, seconds: float = 9.0
) -> Callable[[Evidence], None]:
    """A soak with one sample after each cycle. `pause`: what a field has more after a pause of one second."""

    def change(evidence: Evidence) -> None:
        left(0, 0, None)(evidence)
        samples = [
            {
                "cycles": 1 + index,
                "seconds": round(seconds * index / (len(values) - 1), 3),
                **dict.fromkeys(("descriptors", "kvm_descriptors", "references", "vmalloc_kb", "slab_kb", "own_kb"), 9),
                field: value,
            }
            for index, value in enumerate(values)
        ]
        evidence["soak"].update(samples=samples, pause=None, vms=vms)
        if pause is not None:
            last = samples[-1]
            after = {**last, field: None if last[field] is None else last[field] + pause}
            evidence["soak"]["pause"] = {"seconds": 1.0, "sample": after, "users": []}

    return change


def used_by_another(evidence: Evidence) -> None:
    evidence["soak"]["pause"]["users"] = [{"pid": 77, "comm": "qemu"}, {"pid": 78, "comm": None}]


def disturbed(evidence: Evidence) -> None:
    evidence["soak"]["interfered"] = 1


def no_time(evidence: Evidence) -> None:
    for sample in evidence["soak"]["samples"]:
        sample["seconds"] = 3.0


_STEPS = range(100, 100 + 9 * 44, 44)

LEAKED: tuple[Variant, ...] = (
    ("left: nothing", BASE, left(0, 0, None), _GOOD),
    ("left: one reference throughout", BASE, left(1, 1, None), _GOOD),
    ("left: a reference", BASE, left(0, 1), _BAD),
    ("left: a reference besides two of others", BASE, left(2, 3), _BAD),
    ("left: a reference, of a process that opened KVM", BASE, left(0, 1, (77,)), _GOOD),
    ("left: a reference, of two processes", BASE, each(left(0, 2, (77, 78)), unnamed), _GOOD),
    ("left: a reference, VMs of others came", BASE, each(left(0, 1), foreign_event), _GOOD),
    ("left: a reference, in a container", BASE, each(left(0, 1), in_container), _GOOD),
    ("left: a reference, in a user namespace", BASE, each(left(0, 1), in_user_namespace), _GOOD),
    ("left: a reference, not root", BASE, each(left(0, 1), not_root), _GOOD),
    ("left: a reference, without CAP_SYS_PTRACE", BASE, each(left(0, 1), capabilities("1fffff7ffff")), _GOOD),
    ("left: a reference, with CAP_SYS_PTRACE alone", BASE, each(left(0, 1), capabilities("80000")), _BAD),
    ("left: a reference, capabilities unknown", BASE, each(left(0, 1), capabilities(None)), _GOOD),
    ("left: a reference, rights unknown", BASE, each(left(0, 1), without("rights")), _GOOD),
    ("left: a reference, surroundings unknown", BASE, each(left(0, 1), without("surroundings")), _GOOD),
    ("left: a reference, users not searched for", BASE, left(0, 1, None), _GOOD),
    ("left: fewer references", BASE, left(2, 1, None), _GOOD),
    ("left: a negative number of references", BASE, left(0, -1, None), _BAD),
    ("left: references unknown before", BASE, left(None, 0, None), _GOOD),
    ("left: references unknown after", BASE, left(0, None, None), _GOOD),
    ("left: kvm_amd is built in", BASE, each(left(None, None, None), kvm_amd_state("builtin")), _GOOD),
    ("left: kvm_amd is not there", BASE, each(left(None, None, None), kvm_amd_state(None)), _GOOD),
    ("left: a descriptor", BASE, left(0, 0, None, ("anon_inode:kvm-vm",)), _BAD),
    ("left: a descriptor and a reference", BASE, left(0, 1, (), ("anon_inode:kvm-vm", "anon_inode:kvm-vcpu:0")), _BAD),
    ("left: a reference after a VM that failed", BASE, each(create_fails("EINVAL"), left(0, 1)), "create-vm-failed"),
    ("growth: vmalloc memory", SOAK, grown("vmalloc_kb", _STEPS), _BAD),
    ("growth: vmalloc memory, a page per VM", SOAK, grown("vmalloc_kb", range(0, 36, 4), seconds=2.0), _BAD),
    ("growth: vmalloc memory, less than a page", SOAK, grown("vmalloc_kb", range(0, 27, 3)), _GOOD),
    ("growth: vmalloc memory, a page for four VMs", SOAK, grown("vmalloc_kb", range(0, 36, 4), vms=4), _GOOD),
    ("growth: not in one eighth", SOAK, grown("vmalloc_kb", [*_STEPS[:4], *_STEPS[3:8]]), _GOOD),
    ("growth: unknown once", SOAK, grown("vmalloc_kb", [*_STEPS[:4], None, *_STEPS[5:]]), _GOOD),
    ("growth: too few cycles", SOAK, grown("vmalloc_kb", _STEPS[:8]), _GOOD),
    ("growth: goes on without VMs", SOAK, grown("vmalloc_kb", _STEPS, pause=30), _GOOD),
    ("growth: a little goes on without VMs", SOAK, grown("vmalloc_kb", _STEPS, pause=9), _BAD),
    ("growth: not measured without VMs", SOAK, grown("vmalloc_kb", _STEPS, pause=None), _GOOD),
    ("growth: no time passed", SOAK, each(grown("vmalloc_kb", _STEPS), no_time), _GOOD),
    ("growth: in a disturbed soak", SOAK, each(grown("vmalloc_kb", _STEPS), disturbed), _GOOD),
    ("growth: KVM is open elsewhere", SOAK, each(grown("vmalloc_kb", _STEPS), used_by_another), _GOOD),
    ("growth: in a container", SOAK, each(grown("vmalloc_kb", _STEPS), in_container), _GOOD),
    ("growth: too slow for its pause", SOAK, grown("vmalloc_kb", range(0, 36, 4), seconds=33.0), _GOOD),
    ("growth: references, too slow for the pause", SOAK, grown("references", range(1, 10)), _GOOD),
    ("growth: references", SOAK, grown("references", range(1, 10), seconds=8.0), _BAD),
    ("growth: descriptors of KVM", SOAK, grown("kvm_descriptors", range(9)), _BAD),
    ("growth: descriptors of KVM, no pause", SOAK, grown("kvm_descriptors", range(9), pause=None), _BAD),
    ("growth: slabs", SOAK, grown("slab_kb", range(0, 45, 5)), _BAD),
    ("growth: descriptors of kvmprobe", SOAK, grown("descriptors", range(9)), _GOOD),
    ("growth: memory of kvmprobe", SOAK, grown("own_kb", _STEPS), _GOOD),
)
