"""What grew steadily over a soak, and whether that is beyond doubt."""

from __future__ import annotations

from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, WARN, Result
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.other_vms import sees_all_processes
from kvmprobe.model import leak_rules
from kvmprobe.model.printable import process_text

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Soak, SoakSample
    from kvmprobe.model.leak_rules import Resource


def soak_growth(facts: Facts) -> Result | None:
    """Return the result for what grew in each eighth of a soak; None where nothing did, or it was not measured.

    It fails where KVM's descriptors in kvmprobe grew; or where another of the kernel's resources grew, a pause without
    VMs shows that the VMs were the reason, and no other process used KVM. Reason: resource-leaked.
    """
    soak = facts.evidence["soak"]
    samples = soak.get("samples", [])
    grown = [one for one in leak_rules.RESOURCES if leak_rules.grows_steadily(samples, one, soak["vms"])]
    if not grown:
        return None
    doubts = {one.title: _doubt(facts, soak, one) for one in grown}
    certain = [one for one in grown if not doubts[one.title]]
    if certain:
        message = f"over {soak['cycles']} cycles, {_texts(certain, samples, soak['vms'])}, in each eighth of the soak"
        return Result(FAIL, message, "resource-leaked", because=[_series(one, samples) for one in certain])
    why = "; ".join(dict.fromkeys(doubt for doubt in doubts.values()))
    return Result(WARN, f"over {soak['cycles']} cycles, {_texts(grown, samples, soak['vms'])}: {why}")


def _doubt(facts: Facts, soak: Soak, resource: Resource) -> str:
    """What else explains the growth; "" where nothing does."""
    samples, pause = soak["samples"], soak.get("pause")
    if not resource.is_kernels:
        return "the kernel is not to blame for it"
    if resource.is_ours:
        return ""
    if pause is None:
        return "it was not measured whether it also grows without VMs"
    if pause["users"]:
        names = (process_text(user["comm"], user["pid"]) for user in pause["users"])
        return f"KVM is open in {', '.join(names)}"
    if soak["interfered"] or facts.other_vms():
        return "other VMs were alive"
    if not sees_all_processes(facts):
        return "whether another process uses KVM cannot be seen from here"
    if not leak_rules.stops_in_pause(samples, resource, pause):
        return "it also grew without VMs, or too slowly to show the difference"
    return ""


def _texts(grown: Sequence[Resource], samples: Sequence[SoakSample], vms: int) -> str:
    return ", ".join(f"{one.title} {growth_text(samples, one, vms)}" for one in grown)


def growth_text(samples: Sequence[SoakSample], resource: Resource, vms: int) -> str:
    """The growth of a resource for each VM: "+44.1 KiB per VM"; "unknown" where it could not be read."""
    growth = leak_rules.growth_per_vm(samples, resource, vms)
    return "unknown" if growth is None else f"{growth:+.2f} {resource.unit}".rstrip() + " per VM"


def _series(resource: Resource, samples: Sequence[SoakSample]) -> str:
    """The values that show it, at the ends of the eighths."""
    ends = leak_rules.windows(samples)
    values = ", ".join(str(leak_rules.value_of(one, resource)) for one in ends)
    unit = f" {resource.unit}" if resource.unit else ""
    return f"{resource.title} after {', '.join(str(one['cycles']) for one in ends)} cycles: {values}{unit}"
