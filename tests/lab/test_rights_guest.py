"""The verdict with each set of rights in docs/operators.md: users, namespaces and capabilities in one guest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_ONLY = "setpriv --bounding-set -all{0} --inh-caps -all{0} --"
# The command before kvmprobe, and what it must report: the reason, and whether it could read raw CPUID and the log.
_RUNS = {
    "rawio alone": (_ONLY.format(",+sys_rawio"), "svme-set-by-create-vm", True, False),
    "rawio and syslog": (_ONLY.format(",+sys_rawio,+syslog"), "svme-set-by-create-vm", True, True),
    "no rawio": ("setpriv --bounding-set -sys_rawio --", "guest-ran", True, True),
    "namespaces": ("unshare --pid --fork --mount-proc --net --ipc --uts --", "svme-set-by-create-vm", True, True),
    "root without capabilities": (_ONLY.format(""), "guest-ran", True, False),
    "group kvm": ("setpriv --reuid 1000 --regid 1000 --groups 998 --", "guest-ran", False, False),
    "no group": ("setpriv --reuid 1000 --regid 1000 --clear-groups --", "kvm-not-permitted", False, False),
}


def test_the_reason_with_each_set_of_rights(guest: Guest) -> None:
    prepare = (
        *("modprobe -a kvm_amd msr cpuid", "chgrp 998 /dev/kvm", "chmod 660 /dev/kvm"),
        "echo 1 >/proc/sys/kernel/dmesg_restrict",
    )
    script = "\n".join(f"{how} $kvmprobe check --json 2>&1; echo" for how, *_ in _RUNS.values())
    texts = guest(script, prepare, deadline=300).rstrip().split("\n\n")
    print(texts)
    reports = [json.loads(text) for text in texts]
    found = {name: _reported(report) for name, report in zip(_RUNS, reports)}
    assert found == {name: tuple(expected) for name, (_, *expected) in _RUNS.items()}
    assert all(report["evidence"]["uevents"]["source"] for report in reports)


def _reported(report: Any) -> tuple[str, bool, bool]:
    evidence = report["evidence"]
    raw = all("error" not in leaf for leaves in evidence["cpus"]["cpuid"].values() for leaf in leaves.values())
    return report["verdict"]["reason"], raw, evidence["log"]["error"] is None
