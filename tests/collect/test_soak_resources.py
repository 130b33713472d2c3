"""What a soak measures besides the registers: real descriptors, and files in the place of /proc and /sys."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.collect.soak.resource_samples import ResourceSamples
from kvmprobe.collect.soak.soak_probe import SoakPlan, SoakProbe
from kvmprobe.host import kvm
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.judge import judge

_SLABINFO = """slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount>
kvm_vcpu               5     12  51472    1   16 : tunables    0    0    0 : slabdata     12     12      0
kvm_mmu_page_header    264    374    184   22    1 : tunables    0    0    0 : slabdata     17     17      0
kmalloc-4k            900    900   4096    8    8 : tunables    0    0    0 : slabdata    113    113      0
"""


def write_files(sysroot: Path, vmalloc: int = 14604, slabinfo: str = _SLABINFO) -> None:
    (sysroot / "proc").mkdir(exist_ok=True)
    (sysroot / "proc/meminfo").write_text(
        f"MemTotal:        8000000 kB\nKernelStack:     4604 kB\nVmallocUsed:     {vmalloc} kB\nHugePages_Total:  0\n"
    )
    (sysroot / "proc/slabinfo").write_text(slabinfo)


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened here")
def test_a_vm_that_stays_open_in_each_cycle_is_a_leak() -> None:
    """As where KVM_CREATE_VM opens a second descriptor in each cycle that nobody knows."""
    gc.collect()  # Other tests in this process may have left descriptors of KVM open.
    opened: list[Any] = []
    device = kvm.Kvm("/dev/kvm")

    def leak(_: SoakProbe) -> None:
        opened.append(device.create_vm())

    try:
        plan = SoakPlan(12, None, 1, (), True, leak)
        evidence = take_evidence(CollectOptions(load=False), lambda root: SoakProbe(root, plan))
    finally:
        for vm in opened:
            vm.close()
        device.close()
    soak = evidence["soak"]
    counts = [sample["kvm_descriptors"] for sample in soak["samples"]]
    first = counts[0]
    assert first is not None
    assert counts == list(range(first, first + 12))
    assert soak["pause"] is not None
    assert soak["pause"]["sample"]["kvm_descriptors"] == first + 12  # the last VM came after the last sample
    soak["pause"]["sample"]["kvm_descriptors"] = first + 11
    soak["interfered"], evidence["vm_users"], evidence["uevents"]["events"] = (
        0,
        None,
        [],
    )  # of this machine's other work
    check = next(check for check in judge(evidence)["checks"] if check["id"] == "left-behind")
    assert check["status"] == "fail"
    assert "descriptors of KVM +1.00 per VM" in check["message"]


def test_samples_of_files(tmp_path: Path) -> None:
    write_files(tmp_path)
    (tmp_path / "sys/module/kvm_amd").mkdir(parents=True)
    (tmp_path / "sys/module/kvm_amd/refcnt").write_text("2\n")
    found = ResourceSamples(Sysroot(str(tmp_path)))
    found.look(1)
    sample = found.samples[0]
    assert (sample["vmalloc_kb"], sample["references"]) == (10_000, 2)
    assert sample["slab_kb"] == (5 * 51472 + 264 * 184) // 1024
    assert sample["own_kb"] > 1000


def test_what_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    found = ResourceSamples(Sysroot(str(tmp_path)))
    found.look(1)
    write_files(tmp_path, slabinfo="slabinfo - version: 2.1\nkmalloc-4k 9 9 4096 8 8\nkvm_vcpu x 1 2 3\n")
    (tmp_path / "proc/meminfo").write_text("VmallocUsed: many kB\nKernelStack:\n")
    found.look(2)
    for sample in found.samples:
        assert {sample["vmalloc_kb"], sample["slab_kb"], sample["references"]} == {None}


@pytest.mark.parametrize("cycles", [1, 8, 17, 18, 33, 1000, 4097])
def test_the_samples_are_few_and_evenly_spaced(tmp_path: Path, cycles: int) -> None:
    found = ResourceSamples(Sysroot(str(tmp_path)))
    for cycle in range(1, cycles + 1):
        found.look(cycle)
    found.end(cycles, 1)
    at = [sample["cycles"] for sample in found.samples]
    assert (at[0], at[-1]) == (1, cycles)
    assert min(cycles, 9) <= len(at) <= 17
    assert len({later - earlier for earlier, later in zip(at, at[1:-1])}) <= 1
    assert found.pause is None


def test_without_cycles_there_is_no_sample(tmp_path: Path) -> None:
    found = ResourceSamples(Sysroot(str(tmp_path)))
    found.end(0, 1)
    assert found.samples == []


def test_a_pause_is_measured_where_memory_grows_with_each_vm(tmp_path: Path) -> None:
    found = ResourceSamples(Sysroot(str(tmp_path)))
    for cycle in range(1, 10):
        write_files(tmp_path, vmalloc=20_000 + 44 * cycle)
        found.look(cycle)
    found.end(9, 1)
    assert found.pause is not None
    assert found.pause["seconds"] >= 0.2
    assert found.pause["sample"]["vmalloc_kb"] == found.samples[-1]["vmalloc_kb"]
