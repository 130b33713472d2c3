"""The exit reason of a watched KVM_RUN: KVM_RUN returns 0 also where the guest executed no instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import recorded
from tests.helpers.watching import vmm, watch

# A VM whose guest halts at once, and one whose first instruction is invalid: it has no memory for an IVT.
RUN = """
import ctypes, mmap, struct
HALT, INVALID = b"\\xf4", b"\\x0f\\x0b"
def run(code, times):
    machine = vm()
    memory = mmap.mmap(-1, 4096)
    memory[0xFF0:0xFF0 + len(code)] = code
    anchor = ctypes.c_char.from_buffer(memory)
    region = struct.pack("<IIQQQ", 0, 0, 0xFFFFF000, 4096, ctypes.addressof(anchor))
    fcntl.ioctl(machine[1], REQUESTS["KVM_SET_USER_MEMORY_REGION"], region)
    for _ in range(times):
        ask(machine[2], "KVM_RUN")
"""


def runs(report: Any) -> list[Any]:
    return [call for call in report["evidence"]["watch"]["calls"] if call["name"] == "KVM_RUN"]


def test_an_exit_that_shows_no_instruction(tmp_path: Path, host_report: Any) -> None:
    report, _ = watch(tmp_path, "--", *vmm(RUN + "run(INVALID, 3)"))
    (run,) = runs(report)
    assert run["answer"] == 0
    assert run["exit_reason"] in ("KVM_EXIT_SHUTDOWN", "KVM_EXIT_INTERNAL_ERROR")
    assert next(check for check in report["checks"] if check["id"] == "guest")["status"] == "unknown"


def test_a_guest_that_halts_has_run(tmp_path: Path, host_report: Any) -> None:
    report, _ = watch(tmp_path, "--", *vmm(RUN + "run(HALT, 2)"))
    (run,) = runs(report)
    assert (run["answer"], run["exit_reason"]) == (0, "KVM_EXIT_HLT")
    assert next(check for check in report["checks"] if check["id"] == "guest")["status"] == "pass"


def test_a_guest_that_runs_after_one_that_does_not(tmp_path: Path, host_report: Any) -> None:
    report, _ = watch(tmp_path, "--", *vmm(RUN + "run(INVALID, 1); run(HALT, 1)"))
    assert [run["exit_reason"] for run in runs(report)][1:] == ["KVM_EXIT_HLT"]


@pytest.mark.parametrize(
    ("exit_reason", "reason"),
    [
        ("KVM_EXIT_IO", "svme-set-at-module-load"),
        ("KVM_EXIT_HLT", "svme-set-at-module-load"),
        ("KVM_EXIT_MMIO", "svme-set-at-module-load"),
        ("KVM_EXIT_INTERNAL_ERROR", "guest-not-run"),
        ("KVM_EXIT_FAIL_ENTRY", "guest-not-run"),
        ("39", "guest-not-run"),
        (None, "guest-not-run"),
    ],
)
def test_only_a_guest_that_ran_confirms(exit_reason: str | None, reason: str) -> None:
    evidence = recorded("watch/trixie-qemu")
    for call in evidence["watch"]["calls"]:
        if call["name"] == "KVM_RUN":
            call["exit_reason"] = exit_reason
    verdict = judge(evidence)["verdict"]
    assert verdict["reason"] == reason
    assert any("KVM_RUN" in line for line in verdict["because"])
