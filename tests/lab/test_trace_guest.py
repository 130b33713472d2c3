"""`kvmprobe trace` on real kernels with SVM."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_MOUNT = "mount -t tracefs tracefs /sys/kernel/tracing"
# The settings of the machine's own tracing, which another program may use.
_FILES = "current_tracer tracing_on set_ftrace_filter set_event buffer_size_kb trace_clock"
_FUNCTIONS = "/sys/kernel/tracing/available_filter_functions"
_STATE = f"cd /sys/kernel/tracing && cat {_FILES}"


def _check(report: str, check: str) -> tuple[str, str]:
    found = next(found for found in json.loads(report)["checks"] if found["id"] == check)
    return found["status"], found["message"]


@pytest.mark.parametrize("kernel", ["bullseye", "bookworm", "trixie", "trixie-backports"])
def test_the_trace_shows_the_functions_and_the_writes(kernel: str, guest: Guest) -> None:
    output = guest(
        f"""
        {_MOUNT}; cd /sys/kernel/tracing
        for option in nocontext-info sym-offset hex; do echo $option >trace_options; done
        echo kvm_vm_ioctl >set_ftrace_filter; echo function >current_tracer; ({_STATE}) >/before
        cd /kvmprobe-lab
        $kvmprobe trace --json -o /create >/dev/null; echo status $?
        $kvmprobe trace --reload --json -o /load; echo status $?
        ({_STATE}) | cmp - /before && echo own tracing unchanged
        ls /sys/kernel/tracing/instances | wc -l
        cut -d' ' -f1 /proc/modules | grep -E '^(msr|cpuid|kvm_amd|kvm)$' | sort | tr '\\n' ' '; echo
        grep -oxE '(kvm_arch_init|kvm_dev_ioctl_create_vm)( .*)?' {_FUNCTIONS} | cut -d' ' -f1 >/visible
        cat /create; echo; echo @@@@; cat /load; echo; echo @@@@; cat /visible
        """,
        kernel=kernel,
        deadline=300,
    )
    head, _, rest = output.partition("{")
    assert head.splitlines() == ["status 0", "status 0", "own tracing unchanged", "0", "kvm kvm_amd "]
    *reports, visible = ("{" + rest).split("@@@@")
    # Where kvm_amd sets SVME when it is loaded, a VM changes no register with which uevents could be compared.
    agree = "trace and registers" if "trixie" in kernel else "trace, registers and uevents"
    for report in reports:
        status, message = _check(report, "observers")
        assert (status, message.partition(":")[0]) == ("pass", f"{agree} agree on cpu0-1")
        entries = json.loads(report)["evidence"]["trace"]["entries"]
        assert {"kvm_dev_ioctl", "kvm_vm_release"} <= {entry["function"] for entry in entries}
    written = {entry["cpu"] for entry in entries if (entry["register"], entry["value"]) == ("EFER", "0x1d01")}
    assert written == {0, 1}
    _check_steps_that_not_every_kernel_has(json.loads(report)["evidence"]["trace"], visible.split())


def _check_steps_that_not_every_kernel_has(trace: Any, visible: list[str]) -> None:
    """kvm_arch_init() calls has_svm() and is_disabled() on 5.10, kvm_x86_vendor_init() on Debian's 6.1. A function that
    the compiler inlined, or that the kernel does not have, is not visible."""
    for name in ("kvm_arch_init", "kvm_dev_ioctl_create_vm"):
        assert bool(trace["visible"][name]) == (name in visible), name
    called = [entry["function"] for entry in trace["entries"]]
    assert ("kvm_arch_init" in called) == ("kvm_arch_init" in visible)
    if "is_disabled" in called:
        caller = "kvm_x86_vendor_init" if "kvm_x86_vendor_init" in called else "kvm_arch_init"
        assert called.index(caller) < called.index("has_svm") < called.index("is_disabled")


def test_a_killed_trace_leaves_nothing_and_kvm_amd_loaded(guest: Guest) -> None:
    output = guest(
        f"""
        {_MOUNT}
        verdict trace
        for moment in 5 8 11 14 17 20 24 28; do
            $kvmprobe trace -q --reload >/dev/null 2>&1 & probe=$!
            sleep $((moment / 10)).$((moment % 10)); kill -KILL $probe 2>/dev/null; wait $probe
            for try in $(seq 60); do
                [ -z "$(ls /sys/kernel/tracing/instances)" ] && grep -q '^kvm_amd ' /proc/modules && break
                sleep 0.5
            done
            ls /sys/kernel/tracing/instances; grep -o '^kvm_amd ' /proc/modules
        done
        verdict trace --reload
        """
    )
    lines = output.splitlines()
    assert lines[1:-1] == ["kvm_amd "] * 8
    assert [line.partition(":")[0] for line in (lines[0], lines[-1])] == ["CONFIRMED svme-set-by-create-vm"] * 2


def test_kvm_amd_in_use_is_not_unloaded(guest: Guest) -> None:
    output = guest(
        f"""
        {_MOUNT}
        python3 -S -c '
import os, time
os.open("/dev/kvm", os.O_RDWR)
print("ready", flush=True)
time.sleep(600)' >/r &
        while ! [ -s /r ]; do sleep 0.1; done
        $kvmprobe trace -q --reload 2>&1; echo status $?
        grep -o '^kvm_amd ' /proc/modules; ls /sys/kernel/tracing/instances
        """
    )
    message, _, *rest = output.splitlines()
    assert message.startswith("kvmprobe: kvm_amd cannot be unloaded: ")
    assert rest == ["status 3", "kvm_amd "]


def test_lost_entries_are_reported(guest: Guest) -> None:
    """Two programs call KVM so often that the buffers overflow."""
    output = guest(
        f"""
        {_MOUNT}
        for cpu in 0 1; do taskset -c $cpu python3 -S -c '
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
print("ready", flush=True)
while True: fcntl.ioctl(kvm, 0xAE00, 0)' >/r$cpu & done
        while ! [ -s /r0 ] || ! [ -s /r1 ]; do sleep 0.1; done
        $kvmprobe trace --json; echo; echo status $?
        """
    )
    report = output.rpartition("status")[0]
    assert json.loads(report)["evidence"]["trace"]["lost"]
    status, message = _check(report, "observers")
    assert status == "warn"
    assert "entries were lost" in message


def test_lockdown_closes_tracefs(guest: Guest) -> None:
    output = guest(
        "$kvmprobe trace --mount 2>&1; echo status $?; verdict check; echo status $?",
        parameters="lockdown=confidentiality",
    )
    lines = output.splitlines()
    assert lines[0].startswith("kvmprobe: the kernel's tracing cannot be used: ")
    assert "confidentiality" in lines[1]
    assert lines[2] == "status 3"
    assert lines[-1] == "status 0"


def test_without_ftrace_the_writes_stay_visible(guest: Guest) -> None:
    """kernel.ftrace_enabled=0 hides the functions, but not the trace event msr:write_msr."""
    output = guest(f"{_MOUNT}; sysctl -q kernel.ftrace_enabled=0; $kvmprobe trace --json; echo; echo status $?")
    report, _, status = output.rpartition("status")
    assert status.strip() == "0"
    assert _check(report, "observers")[0] == "pass"
    assert json.loads(report)["evidence"]["trace"]["limits"] == [
        "kernel.ftrace_enabled is 0: functions are not visible"
    ]
