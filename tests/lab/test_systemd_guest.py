"""The unit, the timer and the gate under a real systemd, on real kernels with SVM."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.scenarios import BY_NAME
from kvmprobe.model.errors import Problem
from tests.helpers import under_systemd
from tests.helpers.real_kernels import unavailable
from tests.helpers.under_systemd import ScriptOutput

pytestmark = pytest.mark.kernel

Booted = Callable[..., ScriptOutput]

_STARTED = """
state() { systemctl show -P "$2" "$1"; }
# try COMMAND UNIT: systemctl's exit status, and the resulting states of UNIT and kvmprobe
try() {
    systemctl "$1" "$2" 2>/dev/null; echo "status $?, $2 $(state "$2" ActiveState), kvmprobe $(state kvmprobe Result)"
}
# options OPTION... : arguments of kvmprobe from now on
options() {
    mkdir -p /run/systemd/system/kvmprobe.service.d
    printf '[Service]\\nEnvironment="KVMPROBE_OPTIONS=%s"\\n' "$*" >/run/systemd/system/kvmprobe.service.d/options.conf
    systemctl daemon-reload
}
verdict() { journalctl --sync; journalctl -o cat -t kvmprobe | grep -E '^[A-Z ]+ [a-z-]+: ' | tail -n 1; }
"""
_JOURNAL = """
echo == journal
journalctl --sync; journalctl -o cat -u kvmprobe -u libvirtd
echo == boot
echo "libvirtd $(state libvirtd ActiveState), kubelet $(state kubelet ActiveState), kvmprobe $(state kvmprobe Result)"
systemctl --failed --plain --no-legend
echo == order
state kvmprobe InactiveEnterTimestampMonotonic
state libvirtd ActiveEnterTimestampMonotonic
state kubelet ActiveEnterTimestampMonotonic
"""
_MODULES = "echo == modules\ncut -d' ' -f1 /proc/modules | grep -xE 'kvm_amd|msr|cpuid'\n"
# Not before kvmprobe.service has begun.
_LATE = "until [ -e /run/kvmprobe ]; do sleep 0.2; done; sleep 2; modprobe --ignore-install kvm_amd"
_OFF = "0xd01"  # EFER without SVME


@pytest.fixture
def booted(real_kernel: Callable[[str], Kernel], compiled: Path, tmp_path: Path) -> Booted:
    """A function that boots a kernel by its name and runs a script in it; see under_systemd.boot."""

    def run(script: str, kernel: str, prepare: tuple[str, ...] = ()) -> ScriptOutput:
        try:
            return under_systemd.boot(real_kernel(kernel), compiled, f"{_STARTED}{script}", tmp_path, prepare)
        except Problem as problem:
            unavailable(problem)

    return run


def _same(report: Any, other: Any) -> None:
    """Both reports have the same verdict and reason, the same checks and the same observers."""
    for name in ("status", "reason"):
        assert report["verdict"][name] == other["verdict"][name]
    checks, others = ({check["id"]: check["status"] for check in each["checks"]} for each in (report, other))
    assert checks == others
    mine, theirs = report["evidence"], other["evidence"]
    for name in ("cpus", "device", "ioctls", "loads", "log", "modules"):
        assert mine[name] == theirs[name], name
    runs, other_runs = ([{**run, "us": 0} for run in each["guest"]] for each in (mine, theirs))
    assert runs == other_runs  # apart from how long they took
    assert mine["uevents"]["source"] == theirs["uevents"]["source"] is not None
    assert [event["count"] for event in mine["uevents"]["events"]] == [
        event["count"] for event in theirs["uevents"]["events"]
    ]


def test_a_host_with_svm(booted: Booted) -> None:
    """udev loads kvm_amd late: the probe waits for kvm_amd, and libvirtd for the probe. The unit's restrictions hide
    nothing from the probe."""
    keep_vm = "\n".join(("", *BY_NAME["another-vm"].prepare[1:], ""))
    output = booted(
        f"""
        kvmprobe="python3 -I /usr/local/lib/kvmprobe/kvmprobe.pyz"
        report() {{ cat /var/lib/kvmprobe/report.json; }}
        {_JOURNAL}
        echo == hardened; report
        echo == free; $kvmprobe --json
        {_MODULES}
        echo == files; cd /var/lib/kvmprobe; stat -c '%a %U:%G %n' . report.json
        echo == timer
        state kvmprobe.timer NextElapseUSecRealtime
        mkdir /run/systemd/system/kvmprobe.timer.d
        printf '[Timer]\\nRandomizedDelaySec=0\\nOnBootSec=1\\n' >/run/systemd/system/kvmprobe.timer.d/now.conf
        systemctl daemon-reload; systemctl restart kvmprobe.timer
        while ! [ -e previous.json ] || [ "$(state kvmprobe ActiveState)" != inactive ]; do sleep 1; done
        stat -c '%a %U:%G %n' report.json previous.json
        cmp -s previous.json report.json; echo status $?
        echo == vm
        {keep_vm} holder=$!
        try restart libvirtd; verdict
        echo == hardened-vm; report
        echo == free-vm; $kvmprobe --json
        kill $holder
        echo == usable
        options --no-load; try restart libvirtd; verdict
        echo == inconclusive
        options --passive; try restart libvirtd; verdict
        echo == not-applicable
        mkdir -p /opt/intel/proc; sed s/AuthenticAMD/GenuineIntel/ /proc/cpuinfo >/opt/intel/proc/cpuinfo
        options --sysroot /opt/intel; try restart libvirtd; verdict
        echo == broken
        options --nonsense; try start kvmprobe; try restart libvirtd; ls /run/kvmprobe
        journalctl -o cat -u kvmprobe -n 5 | grep stored
        echo == more
        mkdir -p -m 755 /var/lib/prometheus/node-exporter; chown nobody /var/lib/prometheus
        folder=/etc/systemd/system/kvmprobe.service.d; mkdir $folder; cp /kvmprobe-lab/prometheus.conf $folder
        rm /run/systemd/system/kvmprobe.service.d/options.conf
        printf '[Service]\\nGroup=adm\\n' >/run/systemd/system/kvmprobe.service.d/group.conf; systemctl daemon-reload
        try start kvmprobe; stat -c '%a %U:%G %n' . *.json /var/lib/prometheus/node-exporter/*
        """,
        "bookworm",
        (f"echo 'install kvm_amd {_LATE}' >/etc/modprobe.d/late.conf",),
    )
    confirmed = "CONFIRMED svme-set-by-create-vm: KVM_CREATE_VM set EFER.SVME on cpu0-1"
    assert confirmed in output["journal"]
    assert output.lines("boot") == ["libvirtd active, kubelet active, kvmprobe success"]
    ended, *started = map(int, output.lines("order"))
    assert all(ended <= time for time in started)
    _same(json.loads(output["hardened"]), json.loads(output["free"]))
    assert json.loads(output["hardened"])["evidence"]["log"]["lines"]
    assert output.lines("modules") == ["kvm_amd"]
    assert output.lines("files") == ["750 root:root .", "640 root:root report.json"]
    next_time, *files, compared = output.lines("timer")
    assert next_time
    assert files == ["640 root:root report.json", "640 root:root previous.json"]
    assert compared == "status 1"  # another report
    assert output.lines("vm")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("vm")[1].startswith("CONFIRMED svme-set-by-another-vm")
    _same(json.loads(output["hardened-vm"]), json.loads(output["free-vm"]))
    assert output.lines("inconclusive")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("inconclusive")[1].startswith("INCONCLUSIVE vm-not-created")
    assert output.lines("usable")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("usable")[1].startswith("USABLE guest-ran")
    assert output.lines("not-applicable")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("not-applicable")[1].startswith("NOT APPLICABLE vendor-not-amd")
    assert output.lines("broken") == [
        "status 1, kvmprobe failed, kvmprobe exit-code",
        "status 0, libvirtd active, kvmprobe exit-code",
        "no report was stored",
    ]
    assert output.lines("more") == [
        "status 0, kvmprobe inactive, kvmprobe success",
        "750 root:adm .",
        "640 root:adm previous.json",
        "640 root:adm report.json",
        "644 root:adm /var/lib/prometheus/node-exporter/kvmprobe.prom",
    ]


def test_a_host_where_another_owner_holds_svm(booted: Booted) -> None:
    """libvirtd does not start until SVME is cleared. A libvirtd with running VMs may restart."""
    held = BY_NAME["held-second"].prepare[:-1]
    keep_vm = "\n".join(BY_NAME["another-vm"].prepare[1:])
    output = booted(
        f"""
        {_JOURNAL}
        {_MODULES}
        echo == socket
        limit=/run/systemd/system/kvmprobe.service.d/limit.conf; mkdir -p ${{limit%/*}}
        printf '[Unit]\\nStartLimitIntervalSec=1h\\nStartLimitBurst=2\\n' >$limit
        printf '[Socket]\\nListenStream=/run/libvirt-sock\\n' >/run/systemd/system/libvirtd.socket
        systemctl daemon-reload; systemctl start libvirtd.socket
        python3 -c 'from socket import *; s = socket(AF_UNIX); s.connect("/run/libvirt-sock"); s.recv(1)' 2>/dev/null &
        while ! systemctl -q is-failed libvirtd.socket; do sleep 1; done
        echo "socket $(state libvirtd.socket Result), libvirtd $(state libvirtd ActiveState)"
        journalctl --sync; journalctl -o cat -t kvmprobe | grep -c FAILED
        rm $limit; systemctl daemon-reload; systemctl reset-failed
        echo == again
        try start libvirtd
        echo == status
        journalctl --sync; systemctl --no-pager --full status libvirtd
        echo == fixed
        wrmsr -p 1 0xc0000080 {_OFF}; try start libvirtd; verdict
        echo == in-use
        {keep_vm}
        wrmsr -p 1 0xc0000080 {_OFF}; try restart libvirtd; verdict
        """,
        "bookworm",
        held,
    )
    verdict = "FAILED svm-held-by-another-owner: KVM_CREATE_VM failed: EBUSY; EFER.SVME was 1 on cpu1"
    messages = [line for line in output.lines("journal") if line.startswith(("FAILED", "services", "Assertion"))]
    assert [line[: len(verdict)] for line in messages] == [
        verdict,
        "services with gate.conf will not start",
        verdict,  # for libvirtd
        "Assertion failed for libvirtd.service - Stand-in.",
    ]
    assert output.lines("boot")[0] == "libvirtd inactive, kubelet active, kvmprobe exit-code"
    assert [line.split()[0] for line in output.lines("boot")[1:]] == ["kvmprobe.service"]
    assert output.lines("modules") == ["kvm_amd", "msr"]
    socket, probes = output.lines("socket")
    assert socket == "socket trigger-limit-hit, libvirtd inactive"
    assert 1 <= int(probes) <= 3
    assert output.lines("again") == ["status 1, libvirtd inactive, kvmprobe exit-code"]
    assert verdict in output["status"]
    assert "What to do: " in output["status"]
    assert output.lines("fixed")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("fixed")[1].startswith("CONFIRMED")
    assert output.lines("in-use")[0] == "status 0, libvirtd active, kvmprobe exit-code"
    assert output.lines("in-use")[1].startswith("FAILED svme-not-set")


def test_a_host_where_kvm_amd_is_blacklisted(booted: Booted) -> None:
    """A newer systemd must know every setting in the units. On a newer kernel SVME follows kvm_amd."""
    output = booted(
        f"""
        {_JOURNAL}
        echo == verified
        systemd-analyze verify kvmprobe.service kvmprobe.timer libvirtd.service 2>&1
        echo == fixed
        modprobe kvm_amd; try start libvirtd; verdict
        """,
        "trixie",
        ("echo blacklist kvm_amd >/etc/modprobe.d/no-kvm.conf",),
    )
    assert "FAILED kvm-amd-not-loaded: " in output["journal"]
    assert output.lines("boot")[0] == "libvirtd inactive, kubelet active, kvmprobe exit-code"
    assert output["verified"] == ""
    assert output.lines("fixed")[0] == "status 0, libvirtd active, kvmprobe success"
    assert output.lines("fixed")[1].startswith("CONFIRMED svme-set-at-module-load")
