"""`kvmprobe check` on this host with its real /dev/kvm: evidence, other processes' VMs, signals, ordinary users."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvmprobe.host import kvm, udev
from kvmprobe.model.json_schema import report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.own_processes import OwnProcesses, open_files
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.usefixtures("kvm_device")


def test_the_report_follows_its_schema(host_report: Any) -> None:
    jsonschema.validate(host_report, report_schema())


def test_a_backend_without_svm_is_named(host_report: Any) -> None:
    """Where no CPU has SVM and KVM_CREATE_VM succeeds; on another host the reason is another one."""
    evidence, verdict = host_report["evidence"], host_report["verdict"]
    svm = int(evidence["cpus"]["cpuid"]["0"]["0x80000001"][2], 16) >> 2 & 1
    if svm or evidence["ioctls"]["KVM_CREATE_VM"] != 0:
        assert verdict["reason"] != "kvm-without-svm"
        return
    assert (verdict["reason"], verdict["status"]) == ("kvm-without-svm", "not applicable")
    backends = [name for name in evidence["modules"] if name.startswith("kvm_")]
    assert backends
    for name in backends:
        assert name in verdict["summary"]
    assert kvmprobe("-q").returncode == 4


def test_the_guest_runs_on_every_cpu(host_report: Any) -> None:
    evidence = host_report["evidence"]
    if any(isinstance(registers["EFER"], str) for registers in evidence["snapshots"][0]["cpus"].values()):
        pytest.skip("this host has an msr device: the guest runs only where SVME is 1")
    assert {run["cpu"] for run in evidence["guest"]} == os.sched_getaffinity(0)
    assert {run["result"] for run in evidence["guest"]} == {"ok"}


def test_the_uevents_show_our_vm(host_report: Any) -> None:
    uevents = host_report["evidence"]["uevents"]
    if uevents["error"]:
        pytest.skip(uevents["error"])
    assert [event["event"] for event in uevents["events"] if event["ours"]] == ["create", "destroy"]


def test_a_process_with_another_vm_is_named() -> None:
    with kvm.Kvm("/dev/kvm") as device, device.create_vm():
        evidence = json.loads(kvmprobe("--json").stdout)["evidence"]
    if evidence["uevents"]["error"]:
        pytest.skip(evidence["uevents"]["error"])
    assert next(event["count"] for event in evidence["uevents"]["events"] if event["ours"]) >= 2
    assert {"pid": os.getpid(), "vms": 1} in [{"pid": u["pid"], "vms": u["vms"]} for u in evidence["vm_users"]]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.usefixtures("no_vm_left")
def test_a_signal_at_any_moment_leaves_no_vm_and_no_partial_file(signum: signal.Signals, tmp_path: Path) -> None:
    """Forty moments of a probe's life."""
    target = tmp_path / "report.json"
    for _ in range(40):
        with subprocess.Popen(
            [sys.executable, "-m", "kvmprobe", "--json", "-o", target],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as probe:
            time.sleep(random.uniform(0.02, 0.12))
            probe.send_signal(signum)
            out, err = probe.communicate(timeout=DEADLINE_S)
        # Before Python runs kvmprobe's first line, the signal ends the process as it ends any process.
        assert probe.returncode in {128 + signum, -signum, *(0, 1, 3, 4)}
        if "import site" not in err and "KeyboardInterrupt" not in err:
            assert "Traceback" not in err
        assert out == ""
        if target.exists():
            assert json.loads(target.read_text())["verdict"]["reason"] in REASONS
        if signum != signal.SIGKILL:  # No process can clean up after it.
            assert set(tmp_path.iterdir()) <= {target}


@pytest.mark.usefixtures("no_vm_left")
def test_sigterm_ends_a_guest_that_runs(own_processes: OwnProcesses) -> None:
    loop = bytes((0xEB, 0xFE))  # jmp $
    code = (
        "import sys; from kvmprobe.cli import main as cli; from kvmprobe.host import guest;"
        f"guest.CODE = {loop!r}; guest.RUN_DEADLINE_S = 600; guest.ALL_DEADLINE_S = 600;"
        "sys.argv[1:] = ['--json']; cli.entry()"
    )
    probe = own_processes.start([sys.executable, "-c", code], cwd=PROJECT)
    assert wait_until(lambda: any(name.startswith(kvm.VCPU_INODE) for name in open_files(probe.pid)))
    time.sleep(0.2)
    probe.terminate()
    _, err = probe.communicate(timeout=DEADLINE_S)
    assert probe.returncode == 143
    assert err.splitlines()[-1] == "kvmprobe: ended by SIGTERM, nothing is left behind"


def test_a_signal_whose_exception_python_discards_ends_the_program() -> None:
    """Python discards an exception that a signal handler raises inside a __del__, and pyudev has such methods."""
    code = """
import os, signal, sys
from kvmprobe.cli import main as cli, parser

class Half:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

def run(arguments):
    Half()
    while True:
        pass

parser.run = run
cli.entry()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (143, "kvmprobe: ended by SIGTERM, nothing is left behind\n")


def test_an_ordinary_user_gets_what_the_rights_allow() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    if os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("here every user may open /dev/kvm")
    # The python3 of the system and a copy that every user may read: checkout and virtual environment may be root's.
    python = shutil.which("python3", path="/usr/bin")
    if not python or not shutil.which("setpriv"):
        pytest.skip("no /usr/bin/python3 or setpriv")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(PROJECT / "kvmprobe", Path(folder) / "kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
        as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        done = subprocess.run(
            [*as_nobody, python, "-m", "kvmprobe", "check", "--json"],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=DEADLINE_S,
            check=False,
        )
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    evidence, checks = report["evidence"], {check["id"]: check for check in report["checks"]}
    assert evidence["device"]["opened"] == {"error": "EACCES"}
    assert evidence["cpus"]["cpuid"]["0"]["0x0"] in ({"error": "EACCES"}, {"error": "ENOENT"})  # Raw CPUID is root's.
    assert checks["kvm-device"]["status"] == "unknown"
    assert "/dev/kvm cannot be opened: EACCES (mode " in checks["kvm-device"]["message"]
    amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text() or "HygonGenuine" in Path("/proc/cpuinfo").read_text()
    if not amd:
        assert (report["verdict"]["reason"], done.returncode) == ("vendor-not-amd", 4)
        return
    assert (report["verdict"]["reason"], done.returncode) == ("kvm-not-permitted", 3)


def test_vms_created_all_the_time_do_not_block_the_probe(own_processes: OwnProcesses) -> None:
    """Uevents may arrive faster than they are read."""
    code = f"""
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
print("ready", flush=True)
while True:
    os.close(fcntl.ioctl(kvm, {kvm.REQUESTS["KVM_CREATE_VM"]}, 0))
"""
    for _ in range(2 * (os.cpu_count() or 1)):
        process = own_processes.start([sys.executable, "-c", code])
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    events = json.loads(kvmprobe("--json").stdout)["evidence"]["uevents"]["events"]
    assert {"create", "destroy"} >= {event["event"] for event in events}
    assert len(events) <= 3 * udev.MOST_EVENTS
