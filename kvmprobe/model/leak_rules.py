"""What a leak is: something that grows in each eighth of a soak. One place for `soak`, which measures, and the judge.

A host has other work, which takes and returns memory at any time. So growth counts only where each of WINDOWS parts of
the soak shows at least a threshold, and only where a pause without VMs does not show the same (see stops_in_pause).
Other VMs take from the same resources: while there are some, nothing is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmprobe import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import SoakPause, SoakSample

WINDOWS = 8
_PAUSE_SHARE = 0.25  # A pause may show this part of the growth that the cycles of the same time show.
# What a pause must be expected to show, if it is to show anything: of memory thresholds of a VM, else one thing,
# with some room for the rounding of seconds.
_LEAST_IN_PAUSE, _LEAST_THINGS_IN_PAUSE = 4, 0.9


class Resource:
    """Something that cycles may leak.

    `field`: of a sample; `title`: for people; `unit`: "KiB", or "" for a number of things; `per_vm`: the growth for
    each VM from which on it is a leak; `is_kernels`: whether the kernel leaks it, not kvmprobe; `is_ours`: whether
    no other process can change it.
    """

    def __init__(
        self, field: str, title: str, unit: str, per_vm: float, is_kernels: bool, is_ours: bool = False
    ) -> None:
        self.field = field
        self.title = title
        self.unit = unit
        self.per_vm = per_vm
        self.is_kernels = is_kernels
        self.is_ours = is_ours


# A number of things must grow by one in each window; memory by one in its unit, and by `per_vm`: a page, or in slabs
# the smallest object that KVM has for a VM (kvm_mmu_page_header, 184 bytes).
RESOURCES = (
    Resource("kvm_descriptors", "descriptors of KVM", "", 0, True, is_ours=True),
    Resource("references", "references to kvm_amd", "", 0, True),
    Resource("vmalloc_kb", "vmalloc memory of the kernel", "KiB", 4, True),
    Resource("slab_kb", "slabs of KVM", "KiB", 0.125, True),
    Resource("descriptors", "descriptors of kvmprobe", "", 0, False, is_ours=True),
    Resource("own_kb", "resident memory of kvmprobe", "KiB", 4, False, is_ours=True),
)


def value_of(sample: Mapping[str, object] | SoakSample, resource: Resource) -> int | None:
    """The value of a resource in a sample; None where it could not be read."""
    value = sample.get(resource.field)
    return value if isinstance(value, int) else None


def windows(samples: Sequence[SoakSample]) -> list[SoakSample]:
    """The samples at the ends of WINDOWS parts of the soak; [] where there are too few."""
    last = len(samples) - 1
    if last < WINDOWS:
        return []
    return [samples[index * last // WINDOWS] for index in range(WINDOWS + 1)]


def grows_steadily(samples: Sequence[SoakSample], resource: Resource, vms: int) -> bool:
    """Whether a resource grew in each window by its threshold. `vms`: in each cycle."""
    ends = windows(samples)
    for first, last in zip(ends, ends[1:]):
        was, now = value_of(first, resource), value_of(last, resource)
        if was is None or now is None:
            return False
        if now - was < max(1, resource.per_vm * vms * (last["cycles"] - first["cycles"])):
            return False
    return bool(ends)


def growth_per_vm(samples: Sequence[SoakSample], resource: Resource, vms: int) -> float | None:
    """The growth from the first sample to the last, for each VM; None where it is unknown."""
    if not samples:
        return None
    first, last = samples[0], samples[-1]
    was, now = value_of(first, resource), value_of(last, resource)
    count = vms * (last["cycles"] - first["cycles"])
    return None if was is None or now is None or not count else (now - was) / count


def stops_in_pause(samples: Sequence[SoakSample], resource: Resource, pause: SoakPause) -> bool:
    """Whether a resource grew clearly less in a pause without VMs than in as much time of the soak."""
    first, last = value_of(samples[0], resource), value_of(samples[-1], resource)
    before, after = value_of(samples[-1], resource), value_of(pause["sample"], resource)
    seconds = samples[-1]["seconds"] - samples[0]["seconds"]
    if None in (first, last, before, after) or seconds <= 0:
        return False
    expected = (last - first) / seconds * pause["seconds"]  # type: ignore[operator]
    if expected < max(_LEAST_THINGS_IN_PAUSE, _LEAST_IN_PAUSE * resource.per_vm):
        return False
    return (after - before) <= _PAUSE_SHARE * expected  # type: ignore[operator]
