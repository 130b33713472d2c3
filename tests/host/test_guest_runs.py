"""The guest and the ioctls on the real /dev/kvm of this host."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import guest, kvm
from kvmprobe.host.kvm_structures import kvm_run
from kvmprobe.model.errors import Interrupted

if TYPE_CHECKING:
    from kvmprobe.model.evidence import GuestRun

pytestmark = pytest.mark.usefixtures("kvm_device")

# The guest with other code than its own.
_LOOP = bytes((0xEB, 0xFE))  # jmp $
_WRONG = bytes((0xBA, guest.PORT, 0x00, 0xB0, 0x01, 0xEE, 0xF4))  # Writes 1, which no CPU below 130 expects.
_SILENT = bytes((0xF4,))  # hlt
_CHATTY = bytes((0xBA, guest.PORT, 0x00, 0xEE, 0xEE, 0xEE, 0xF4))
_OTHER_PORT = bytes((0xBA, guest.PORT + 1, 0x00, 0xEE, 0xF4))
_TWO_BYTES = bytes((0xBA, guest.PORT, 0x00, 0xEF, 0xF4))  # out dx, ax
_READS = bytes((0xBA, guest.PORT, 0x00, 0xEC, 0xF4))  # in al, dx
_OTHER_RCX = bytes((*guest.CODE[:-1], 0x41, 0xF4))  # inc cx
_OTHER_RSI = bytes((*guest.CODE[:-1], 0x4E, 0xF4))  # dec si
_CARRY = bytes((*guest.CODE[:-1], 0xF9, 0xF4))  # stc


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (_LOOP, "timeout"),
        (_WRONG, "wrong"),
        (_SILENT, "wrong"),
        (_CHATTY, "failed"),
        (_OTHER_PORT, "failed"),
        (guest.CODE, "ok"),
    ],
)
def test_the_result_is_what_the_guest_did(code: bytes, result: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "CODE", code)
    monkeypatch.setattr(guest, "RUN_DEADLINE_S", 0.5)
    cpu = min(os.sched_getaffinity(0))
    affinity, handler = os.sched_getaffinity(0), signal.getsignal(signal.SIGALRM)
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
        runs = guest.run_on_cpus(device, vm, [cpu], {cpu}, alarm)
    assert [run["result"] for run in runs] == [result], runs
    assert os.sched_getaffinity(0) == affinity
    assert signal.getsignal(signal.SIGALRM) == handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("code", "result", "detail"),
    [
        (_OTHER_PORT, "failed", "KVM_EXIT_IO: port = 0xea"),
        (_TWO_BYTES, "failed", "KVM_EXIT_IO: size = 0x2"),
        (_READS, "failed", "KVM_EXIT_IO: direction = 0x0"),
        (_OTHER_RCX, "wrong", "after HLT rcx = 0x1 instead of 0x0, rip = 0x100a instead of 0x1009"),
        (_OTHER_RSI, "wrong", "after HLT rsi = 0xffff instead of 0x0, rip = 0x100a instead of 0x1009"),
        (_CARRY, "wrong", "after HLT rip = 0x100a instead of 0x1009, rflags ="),
    ],
)
def test_what_differs_in_the_access_or_in_a_register_is_named(
    code: bytes, result: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = guest.registers_after
    monkeypatch.setattr(guest, "registers_after", lambda operand: {**expected(operand), "rip": 0x1009})
    monkeypatch.setattr(guest, "CODE", code)
    (run,) = run_here()
    assert run["result"] == result
    assert (run["detail"] or "").startswith(detail)


@pytest.mark.parametrize(("field", "value"), [("data_offset", 1 << 20), ("data_offset", 0), ("count", 2), ("size", 4)])
def test_an_answer_of_the_kernel_is_no_index_before_it_is_checked(
    field: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_run = kvm.Vcpu.run

    def run(vcpu: kvm.Vcpu) -> kvm_run:
        found = true_run(vcpu)
        if found.exit_reason == kvm.KVM_EXIT_IO:
            setattr(found.io, field, value)
        return found

    monkeypatch.setattr(kvm.Vcpu, "run", run)
    (result,) = run_here()
    assert result["result"] == "failed"
    assert f"{field} = {value:#x}" in (result["detail"] or "")


@pytest.mark.parametrize("size", [0, 1, mmap.PAGESIZE, 2 * mmap.PAGESIZE - 1])
def test_a_mapping_without_the_page_of_the_data_is_refused(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvm.Kvm, "vcpu_mmap_size", lambda _: size)
    (result,) = run_here()
    assert result["result"] == "failed"
    assert result["detail"] == f"KVM_GET_VCPU_MMAP_SIZE = {size}, less than {2 * mmap.PAGESIZE}"


def run_here() -> list[GuestRun]:
    """Run the guest on one CPU."""
    cpu = min(os.sched_getaffinity(0))
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
        return guest.run_on_cpus(device, vm, [cpu], {cpu}, alarm)


@pytest.mark.parametrize("operand", [*range(0, 256, 5), 255])
def test_the_registers_after_hlt_are_those_of_the_instructions(operand: int) -> None:
    """ADD seven times, by another way than the product's."""
    bl = operand ^ 0x5A
    before = (operand + 6 * bl) & 0xFF
    al = (before + bl) & 0xFF
    found = guest.registers_after(operand)
    assert (found["rax"], found["rbx"], found["rcx"], found["rdx"]) == (al, bl, 0, guest.PORT)
    signed = (before ^ 0x80) - 0x80 + (bl ^ 0x80) - 0x80
    bits = (before + bl > 255, True, bin(al).count("1") % 2 == 0, before % 16 + bl % 16 > 15, not al, al > 127)
    flags = dict(zip((0, 1, 2, 4, 6, 7), bits))
    flags[11] = not -128 <= signed <= 127
    assert found["rflags"] == sum(1 << bit for bit, is_set in flags.items() if is_set)


def test_the_deadline_is_enforced_where_a_parent_blocked_sigalrm(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        test_the_result_is_what_the_guest_did(_LOOP, "timeout", monkeypatch)
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def test_the_guests_of_all_cpus_share_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with hundreds of CPUs whose guests all hang must not wait for each of them."""
    monkeypatch.setattr(guest, "CODE", _LOOP)
    monkeypatch.setattr(guest, "RUN_DEADLINE_S", 600.0)
    monkeypatch.setattr(guest, "ALL_DEADLINE_S", 0.5)
    cpu = min(os.sched_getaffinity(0))
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
        runs = guest.run_on_cpus(device, vm, [cpu, cpu], {cpu}, alarm)
    assert [run["result"] for run in runs] == ["timeout", "skipped"]


def test_the_guest_is_skipped_where_it_may_not_run() -> None:
    """On a CPU that is not allowed, and on one that the kernel refuses (offline, or outside the cpuset)."""
    cpu = min(os.sched_getaffinity(0))
    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm:
        runs = guest.run_on_cpus(device, vm, [cpu, 4095], {4095}, alarm)
    assert [(run["cpu"], run["result"], run["error"]) for run in runs] == [
        (cpu, "skipped", None),
        (4095, "skipped", "EINVAL"),
    ]


def test_an_ioctl_that_fails_names_its_request() -> None:
    with open("/dev/null", "rb") as null, pytest.raises(OSError, match="KVM_CREATE_VM") as raised:
        kvm.ioctl(null.fileno(), "KVM_CREATE_VM")
    assert raised.value.errno == errno.ENOTTY


def test_a_descriptor_is_closed_once() -> None:
    """A number that is closed twice may belong to another file by then."""
    device = kvm.Kvm("/dev/kvm")
    number = device.fd
    device.close()
    other = os.open("/dev/null", os.O_RDONLY)
    try:
        assert other == number
        device.close()
        os.fstat(other)
    finally:
        os.close(other)


def test_a_signal_at_any_line_of_a_run_ends_it_and_the_cpus_are_as_before() -> None:
    """The handler of a signal raises between two lines of Python. A trace function does so at each of them in turn.

    The process ends then, and with it the VM: see tests/host/test_faults.py.
    """
    cpu = min(os.sched_getaffinity(0))
    affinity = os.sched_getaffinity(0)
    ended = 0
    number = lines = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename not in (guest.__file__, kvm.__file__):
            return None
        if event == "line" and (lines := lines + 1) == number:
            sys.settrace(None)
            raise Interrupted(signal.SIGTERM)
        return trace

    with guest.GuestAlarm() as alarm, kvm.Kvm("/dev/kvm") as device:
        while lines == number:
            number, lines = number + 1, 0
            with device.create_vm() as vm:
                sys.settrace(trace)
                try:
                    guest.run_on_cpus(device, vm, [cpu], {cpu}, alarm)
                except Interrupted:
                    ended += 1
                finally:
                    sys.settrace(None)
    assert os.sched_getaffinity(0) == affinity
    assert number > 50
    assert ended == number - 1  # The last number is behind the last line.
