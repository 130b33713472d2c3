"""The guest in a guest on /dev/kvm of this host, and answers of KVM that it must not trust. No answer is an index or a
size before it is checked."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak.cycle import Cycle, CycleFailed
from kvmprobe.collect.soak.nested_cycles import NestedCycles
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.host import guest, kvm, kvm_cpuid, nested_guest
from kvmprobe.host import nested_guest_image as image
from kvmprobe.host.kvm_structures import kvm_cpuid2, kvm_run
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.udev import Udev
from kvmprobe.model.nested_rules import EXIT_CODE, NOT_RUN, STOPPED, VMRUN, WORKS, kind_of

if TYPE_CHECKING:
    from kvmprobe.model.nested_evidence import Nested

pytestmark = pytest.mark.usefixtures("kvm_device")

_STEP, _VALUE, _EXCEPTION = image.STEP_PORT, image.VALUE_PORT, image.EXCEPTION_PORT


def _claiming_svm(device: kvm.Kvm) -> bytes:
    """What KVM offers to guests, and SVM and nested paging in addition."""
    wanted = {0x80000001: (5, 1 << 2), 0x8000000A: (6, 1 << 0)}
    found = {entry[:2]: list(entry) for entry in kvm_cpuid.ENTRY.iter_unpack(true_supported_cpuid(device))}
    for function, (register, bit) in wanted.items():
        found.setdefault((function, 0), [function, *[0] * 9])[register] |= bit
    return b"".join(kvm_cpuid.ENTRY.pack(*entry) for entry in found.values())


true_supported_cpuid = kvm_cpuid.supported_cpuid


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Nested]:
    """A function that runs the guest in a guest twice on one CPU, as if KVM offered SVM to guests."""
    monkeypatch.setattr(kvm_cpuid, "supported_cpuid", _claiming_svm)
    monkeypatch.setattr(guest, "RUN_DEADLINE_S", 0.5)

    def run() -> Nested:
        cpu = min(os.sched_getaffinity(0))
        with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
            return nested_guest.run_on_cpus(device, vm, [cpu, cpu], {cpu}, alarm)

    return run


def kinds(nested: Nested) -> list[str]:
    """What each run shows, with nested paging first."""
    return [kind_of(run) for paging in ("nested", "shadow") for run in nested["runs"][paging]]


def test_what_kvm_offers_is_read_as_entries() -> None:
    with kvm.Kvm("/dev/kvm") as device:
        entries = true_supported_cpuid(device)
    functions = [entry[0] for entry in kvm_cpuid.ENTRY.iter_unpack(entries)]
    assert {0x0, 0x1, 0x80000000, 0x80000001} <= set(functions)
    (leaf,) = kvm_cpuid.leaves_of(entries, (0x80000001,)).values()
    assert len(leaf) == 4


def test_a_kvm_that_cannot_run_what_it_offers_is_survived(run_here: Callable[[], Nested]) -> None:
    """This host's KVM may have any backend: each run has a known end, or is the last one."""
    affinity, handler = os.sched_getaffinity(0), signal.getsignal(signal.SIGALRM)
    found = kinds(run_here())
    assert found == [WORKS] * 4 or WORKS not in found
    lost = [index for index, kind in enumerate(found) if kind == STOPPED]
    assert not lost or set(found[lost[0] + 1 :]) <= {NOT_RUN}
    assert os.sched_getaffinity(0) == affinity
    assert signal.getsignal(signal.SIGALRM) == handler


def _answering(answers: Sequence[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """KVM_RUN ends with these writes of the guest (port, value), one after the other, and then with HLT."""
    left: list[tuple[int, int]] = []
    value = 0

    def run(_: kvm.Vcpu) -> kvm_run:
        nonlocal value
        found = kvm_run(exit_reason=kvm.KVM_EXIT_HLT)
        if left:
            port, value = left.pop(0)
            found.exit_reason = kvm.KVM_EXIT_IO
            found.io.direction, found.io.count, found.io.port = kvm.KVM_EXIT_IO_OUT, 1, port
            found.io.size = 4 if port == _VALUE else 1
        else:
            left.extend(answers)
        return found

    left.extend(answers)
    monkeypatch.setattr(kvm.Vcpu, "run", run)
    monkeypatch.setattr(kvm.Vcpu, "io_value", lambda *_: value)


@pytest.mark.parametrize(
    ("answers", "first", "detail"),
    [
        ([(_STEP, 0)], STOPPED, "the outer guest reported the step 0, which it does not have"),
        ([(_STEP, 6)], STOPPED, "the outer guest reported the step 6, which it does not have"),
        ([(_STEP, 1)] * 100, STOPPED, "the outer guest wrote more than its program does"),
        ([(0x80, 1)], STOPPED, "KVM_EXIT_IO: port = 0x80"),
        ([(_STEP, 4), (_EXCEPTION, 255)], VMRUN, None),
        ([(_VALUE, 0x1000)], EXIT_CODE, None),
    ],
)
def test_an_answer_that_the_program_does_not_give(
    answers: list[tuple[int, int]],
    first: str,
    detail: str | None,
    run_here: Callable[[], Nested],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answering(answers, monkeypatch)
    nested = run_here()
    found = kinds(nested)
    assert found[0] == first
    assert found[1:] == ([VMRUN] * 3 if first == VMRUN else [NOT_RUN] * 3)
    assert nested["runs"]["nested"][0]["detail"] == detail


def test_a_guest_in_a_guest_that_fails_ends_a_cycle_of_a_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cycle runs it where the guest ran to its end, and keeps its evidence."""
    monkeypatch.setattr(kvm_cpuid, "supported_cpuid", _claiming_svm)
    root = Sysroot("/")
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, OpenMsrs(root) as msrs:
        cycle = Cycle(root, device, msrs, Udev(root), True, 1, alarm)
        true_run = kvm.Vcpu.run

        def run(vcpu: kvm.Vcpu) -> kvm_run:
            """The outer guest's vCPU halts at once, which is not its program."""
            is_outer = os.readlink(f"/proc/self/fd/{vcpu.fd}").endswith(":1")
            return kvm_run(exit_reason=kvm.KVM_EXIT_HLT) if is_outer else true_run(vcpu)

        monkeypatch.setattr(kvm.Vcpu, "run", run)
        cycle.run()
        nested = cycle.nested = NestedCycles(alarm)
        with pytest.raises(CycleFailed, match="the guest in the guest failed with nested paging on cpu") as raised:
            cycle.run()
    assert raised.value.reason == "nested-guest-failed"
    assert nested.evidence is not None
    assert kind_of(nested.evidence["runs"]["nested"][0]) == STOPPED
    assert nested.done == 0


def test_more_entries_than_there_is_place_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every number is copied from the kernel's answer, and this one would be a size."""

    def ioctl(_fd: int, _request: str, argument: int) -> int:
        kvm_cpuid2.from_address(argument).nent = kvm_cpuid.MOST_ENTRIES + 1
        return 0

    monkeypatch.setattr(kvm_cpuid, "ioctl", ioctl)
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
        nested = nested_guest.run_on_cpus(device, vm, [0], {0}, alarm)
    assert (nested["supported_cpuid"], nested["runs"]) == ({"error": "EOVERFLOW"}, {})


@pytest.mark.parametrize("paging", [True, False])
def test_the_image_has_its_parts_in_pages_of_their_own(paging: bool) -> None:
    memory = image.image(3, paging)
    assert len(memory) % 4096 == 0
    assert len(image.outer_code()) < 4096
    assert memory.startswith(image.outer_code())
    vmcb = memory[image.VMCB - image.ADDRESS :][:4096]
    assert vmcb[0x5F8:0x600] == (3).to_bytes(8, "little")  # RAX
    assert bool(vmcb[0x90] & 1) == paging
    assert any(vmcb[0xB0:0xB8]) == paging


def test_kvm_refuses_cpuid_of_no_vcpu() -> None:
    """An ioctl that fails names its request."""
    with kvm.Kvm("/dev/kvm") as device, pytest.raises(OSError, match="KVM_SET_CPUID2") as raised:
        kvm_cpuid.set_cpuid(_not_a_vcpu(device), b"")
    assert raised.value.errno in (errno.EINVAL, errno.ENOTTY)


def _not_a_vcpu(device: Any) -> Any:
    return device
