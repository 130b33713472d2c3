"""What is in use between two cycles, measured at the beginning, during the soak and at the end, in little memory."""

from __future__ import annotations

import os
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import processes, vm_resources
from kvmprobe.host.available_memory import meminfo
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model import leak_rules
from kvmprobe.model.values import as_count

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import SoakPause, SoakSample

_MOST = 17  # samples; every second one of them is enough for leak_rules.WINDOWS
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0


class ResourceSamples:
    """Takes a sample after the first cycle, and then at equal distances: at most _MOST, however long the soak is.

    `samples`: those that are kept. `pause`: see measure_pause().
    """

    def __init__(self, root: Sysroot) -> None:
        self._root = root
        self._started = time.monotonic()
        self._every = 1  # cycles from one sample to the next
        self.samples: list[SoakSample] = []
        self.pause: SoakPause | None = None

    def look(self, cycles: int) -> None:
        """Take a sample after so many cycles, where one is due. Where there are too many, every second one goes."""
        if (cycles - 1) % self._every:
            return
        self.samples.append(self._sample(cycles))
        if len(self.samples) == _MOST:
            self.samples = self.samples[::2]
            self._every *= 2

    def end(self, cycles: int, vms: int) -> None:
        """Take the last sample and, where something has grown steadily, measure a pause. `vms`: in each cycle."""
        if cycles and not (self.samples and self.samples[-1]["cycles"] == cycles):
            self.samples.append(self._sample(cycles))
        if any(leak_rules.grows_steadily(self.samples, one, vms) for one in leak_rules.RESOURCES):
            self.pause = self._measure_pause(cycles)

    def _measure_pause(self, cycles: int) -> SoakPause:
        """Wait as long as an eighth of the soak, within limits, without any VM: does it go on growing?"""
        whole = self.samples[-1]["seconds"] - self.samples[0]["seconds"]
        seconds = min(max(whole / leak_rules.WINDOWS, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)
        time.sleep(seconds)
        sample = self._sample(cycles)
        return {"seconds": round(seconds, 3), "sample": sample, "users": processes.kvm_users(self._root)}

    def _sample(self, cycles: int) -> SoakSample:
        descriptors = vm_resources.own_descriptors()
        memory = meminfo(self._root)
        vmalloc, stacks = memory.get("VmallocUsed"), memory.get("KernelStack")
        return {
            "cycles": cycles,
            "seconds": round(time.monotonic() - self._started, 3),
            "descriptors": len(descriptors) if descriptors else None,
            "kvm_descriptors": len(vm_resources.kvm_descriptors(descriptors)) if descriptors else None,
            "references": vm_resources.references(self._root),
            # The stacks of threads come from vmalloc, too; every program on the host takes and returns some.
            "vmalloc_kb": None if vmalloc is None or stacks is None else vmalloc - stacks,
            "slab_kb": _slab_kb(self._root),
            "own_kb": resident_kb(),
        }


def resident_kb() -> int:
    """Return the resident memory of this process in KiB, by /proc/self/statm; 0 where it cannot be read."""
    pages = (Sysroot().read_text_or_none("/proc/self/statm") or "0 0").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024


def _slab_kb(root: Sysroot) -> int | None:
    """The objects in KVM's slab caches in KiB, by /proc/slabinfo, which only root may read; None without one.

    Its columns: name, active objects, all objects, bytes of an object (print_slabinfo_header() in mm/slab_common.c).
    The kernel may keep objects of KVM in a cache with another name, where both have the same size.
    """
    sizes = []
    for line in (root.read_text_or_none("/proc/slabinfo") or "").split("\n"):
        name, active, _, size = (line.split() + [""] * 4)[:4]
        count, bytes_each = as_count(active), as_count(size)
        if name.startswith("kvm") and count is not None and bytes_each is not None:
            sizes.append(count * bytes_each)
    return sum(sizes) // 1024 if sizes else None
