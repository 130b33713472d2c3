"""`kvmprobe soak` on real kernels with SVM: hotplug, reload, kill; and kernels that do not do what they promise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab.scenarios import BY_NAME
from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_STATE = "cat /sys/devices/system/cpu/online; cut -d' ' -f1 /proc/modules | grep -E '^(msr|cpuid|kvm_amd|kvm)$' | sort"


def _report(output: str) -> Any:
    return json.loads(output[output.index("{") : output.rindex("}") + 1])


@pytest.mark.parametrize("kernel", ["bullseye", "bookworm", "trixie", "trixie-backports"])
def test_every_step_on_every_kernel(kernel: str, guest: Guest) -> None:
    output = guest(
        f"$kvmprobe soak --json --cycles 8 --vms 2 --hotplug --reload --kill --nested; echo; echo status $?; {_STATE}",
        kernel=kernel,
    )
    report = _report(output)
    soak = report["evidence"]["soak"]
    assert (soak["cycles"], soak["failed"], soak["limits"]) == (8, 0, [])
    assert sum(soak["kills"].values()) == 8
    assert soak["kills"]["missed"] < 4
    assert soak["steps"] == {"hotplug": 8, "reload": 8, "kill": 8 - soak["kills"]["missed"], "nested": 8}
    assert report["checks"][0]["status"] == "pass"
    assert report["verdict"]["status"] == "confirmed"
    assert output.rpartition("status")[2].split() == ["0", "0-1", "kvm", "kvm_amd"]


def test_a_killed_soak_leaves_all_cpus_online(guest: Guest) -> None:
    output = guest(
        f"""
        for moment in 5 8 11 14 17 20; do
            $kvmprobe soak --time 600 --hotplug --reload >/dev/null 2>&1 & probe=$!
            sleep $((moment / 10)).$((moment % 10)); kill -KILL $probe; wait $probe
            for try in $(seq 60); do
                [ "$(cat /sys/devices/system/cpu/online)" = 0-1 ] && grep -q '^kvm_amd ' /proc/modules && break
                sleep 0.5
            done
            ({_STATE}) | grep -v -E 'msr|cpuid' | tr '\\n' ' '; echo
        done
        """
    )
    assert output.splitlines() == ["0-1 kvm kvm_amd "] * 6


def test_the_report_shows_the_cycle_in_which_svme_was_not_cleared(guest: Guest) -> None:
    """The program that sets SVME again starts after some good cycles."""
    scenario = BY_NAME["svme-not-cleared"]
    disturb = "\n".join(scenario.prepare)
    output = guest(
        f"modprobe msr\n(sleep 8; {disturb}) &\n$kvmprobe soak --json --time 60; echo; echo status $?",
        prepare=("modprobe kvm_amd",),
    )
    report = _report(output)
    soak = report["evidence"]["soak"]
    assert soak["failed"] == 1
    assert soak["cycles"] == soak["failures"][0]["cycle"] > 1
    assert report["verdict"]["reason"] == soak["failures"][0]["reason"]
    assert report["verdict"]["reason"] in ("svme-not-cleared", "svm-held-by-another-owner")
    closed = report["evidence"]["snapshots"][-1]["cpus"]
    assert "0x1d01" in {registers["EFER"] for registers in closed.values()}


def test_other_vms_are_not_a_failure(guest: Guest) -> None:
    keep_vm = "\n".join(BY_NAME["another-vm"].prepare)
    output = guest(f"{keep_vm}\n$kvmprobe soak --json --cycles 5; echo; echo status $?")
    soak = _report(output)["evidence"]["soak"]
    assert (soak["cycles"], soak["interfered"], soak["failed"]) == (5, 5, 0)


def test_kvm_amd_in_use_is_not_reloaded(guest: Guest) -> None:
    keep_vm = "\n".join(BY_NAME["another-vm"].prepare)
    report = _report(guest(f"{keep_vm}\n$kvmprobe soak --json --cycles 3 --reload; echo; echo status $?"))
    soak = report["evidence"]["soak"]
    assert soak["steps"] == {"reload": 0}
    assert len(soak["limits"]) == 1
    assert "kvm_amd cannot be unloaded" in soak["limits"][0]
    assert report["verdict"]["status"] == "inconclusive"


def test_kvm_amd_that_cannot_be_reloaded_is_a_failure(guest: Guest) -> None:
    """In soak and in trace, with the reason kvm-amd-load-failed."""
    output = guest(
        """
        mkdir -p /etc/modprobe.d
        for command in 'soak --reload --keep-going --cycles 5' 'trace --mount --reload'; do
            rm -f /etc/modprobe.d/no.conf; modprobe kvm_amd; echo 'install kvm_amd /bin/false' >/etc/modprobe.d/no.conf
            verdict $command; echo status $?
        done
        """
    )
    lines = output.splitlines()
    assert [line.partition(":")[0] for line in lines[0::2]] == ["FAILED kvm-amd-load-failed"] * 2
    assert lines[1::2] == ["status 1"] * 2


def test_lab_soak_writes_reports(tmp_path: Path) -> None:
    """`lab soak` writes the guest's report to the folder of --reports, like `lab run`."""
    from kvmprobe.cli import parser

    status = parser.run(["lab", "soak", "bookworm", "--reports", str(tmp_path), "-q", "--", "--cycles", "5", "--kill"])
    assert status == 0
    report = json.loads((tmp_path / "bookworm.json").read_text())
    assert sum(report["evidence"]["soak"]["kills"].values()) == 5
