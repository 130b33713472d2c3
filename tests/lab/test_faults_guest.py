"""The sweep of faults where MSRs and modules exist: in a guest with SVM."""

from __future__ import annotations

import json

import pytest

from tests.helpers.counted import NUMBERS
from tests.helpers.real_kernels import Guest
from tests.helpers.run_kvmprobe import PROJECT

pytestmark = pytest.mark.kernel

_CALLS = (
    "^(openat|pread64) /dev/(cpu/|kvm)|^ioctl|^execve|_module|/proc/modules"
    "|^(read|write|wait4|poll|p?select6?|getdents64|getrandom|v?fork|clone|pipe2|newfstatat) child"
)
_SWEEP = f"PYTHONPATH={PROJECT} python3 -S -m tests.helpers.sweep --first --children 1"


def test_every_call_on_registers_devices_and_modules_fails(guest: Guest) -> None:
    """One errno for each call, also in the children: a guest is slow, and tests/host tries all of them on this host.

    A last probe reads COUNT in KVM's uevents: its VM is the only one.
    """
    output = guest(
        f"""
        {_SWEEP} --only '{_CALLS}' -- $kvmprobe check --json; echo
        cut -d' ' -f1 /proc/modules | grep -E '^(msr|cpuid)$'; $kvmprobe --json | tr -d '\\n'
        """,
        deadline=900.0,
    )
    found, *left, last = output.splitlines()
    numbers = json.loads(found)
    NUMBERS.append(f"faults in a guest with SVM: {numbers['tried']} tried, {len(numbers['wrong'])} wrong")
    assert numbers["wrong"] == {}
    assert numbers["calls"] > 20
    assert numbers["children"] == 2
    assert left == []
    report = json.loads(last)
    assert report["verdict"]["reason"] == "svme-set-by-create-vm"
    events = report["evidence"]["uevents"]["events"]
    assert [(event["event"], event["count"]) for event in events] == [("create", 1), ("destroy", 0)]


def test_killed_probes_leave_no_vm_and_no_module(guest: Guest) -> None:
    """A last probe reads COUNT in KVM's uevents: its VM is the only one."""
    output = guest(
        """
        for moment in 02 05 08 11 14 17 20 23 26 29 32 35 38 41 44 47 50; do
            $kvmprobe -q >/dev/null 2>&1 & probe=$!
            sleep 0.$moment; kill -KILL $probe 2>/dev/null; wait $probe
        done
        sleep 3
        cut -d' ' -f1 /proc/modules | grep -E '^(msr|cpuid)$'
        $kvmprobe --json
        """
    )
    events = json.loads(output)["evidence"]["uevents"]["events"]
    assert [(event["event"], event["count"]) for event in events] == [("create", 1), ("destroy", 0)]
