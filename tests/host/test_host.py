"""Real ioctls on this host's real /dev/kvm: probes, guests, signals."""

from __future__ import annotations

import errno
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

from kvmprobe.host import guest, kvm, udev
from kvmprobe.model.json_schema import report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

pytestmark = pytest.mark.usefixtures("kvm_device")


def test_the_report_follows_its_schema(host_report: Any) -> None:
    jsonschema.validate(host_report, report_schema())


def test_this_host_is_judged_by_what_it_is(host_report: Any) -> None:
    """Where no CPU has SVM and KVM answers, the backend is named; where it has, it is confirmed or a reason stands."""
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


def test_the_guest_ran_on_every_cpu(host_report: Any) -> None:
    evidence = host_report["evidence"]
    if any(isinstance(registers["EFER"], str) for registers in evidence["snapshots"][0]["cpus"].values()):
        pytest.skip("this host has an msr device: the guest runs only where SVME is 1")
    assert {run["cpu"] for run in evidence["guest"]} == os.sched_getaffinity(0)
    assert {run["result"] for run in evidence["guest"]} == {"ok"}


def test_our_vm_is_seen_in_the_uevents(host_report: Any) -> None:
    uevents = host_report["evidence"]["uevents"]
    if uevents["error"]:
        pytest.skip(uevents["error"])
    assert [(event["event"], event["ours"]) for event in uevents["events"] if event["ours"]] == [
        ("create", True),
        ("destroy", True),
    ]


def test_a_vm_of_another_process_is_seen_and_named() -> None:
    with kvm.Kvm("/dev/kvm") as device, device.create_vm():
        evidence = json.loads(kvmprobe("--json").stdout)["evidence"]
    if evidence["uevents"]["error"]:
        pytest.skip(evidence["uevents"]["error"])
    assert next(event["count"] for event in evidence["uevents"]["events"] if event["ours"]) >= 2
    assert {"pid": os.getpid(), "vms": 1} in [{"pid": u["pid"], "vms": u["vms"]} for u in evidence["vm_users"]]


# The guest, with other code in place of its own.

_LOOP = bytes((0xEB, 0xFE))  # jmp $
_WRONG = bytes((0xBA, guest.PORT, 0x00, 0xB0, 0x01, 0xEE, 0xF4))  # writes 1, which no CPU below 130 expects
_SILENT = bytes((0xF4,))  # hlt
_CHATTY = bytes((0xBA, guest.PORT, 0x00, 0xEE, 0xEE, 0xEE, 0xF4))


@pytest.mark.parametrize(
    ("code", "result"),
    [(_LOOP, "timeout"), (_WRONG, "wrong"), (_SILENT, "wrong"), (_CHATTY, "failed"), (guest.CODE, "ok")],
)
def test_guest_that_does_not_do_its_work(code: bytes, result: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "CODE", code)
    monkeypatch.setattr(guest, "RUN_DEADLINE_S", 0.5)
    cpu = min(os.sched_getaffinity(0))
    affinity, handler = os.sched_getaffinity(0), signal.getsignal(signal.SIGALRM)
    with kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm, guest.Alarm():
        runs = guest.run_on(device, vm, [cpu], {cpu})
    assert [run["result"] for run in runs] == [result], runs
    assert os.sched_getaffinity(0) == affinity
    assert signal.getsignal(signal.SIGALRM) == handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_the_deadline_holds_where_a_parent_blocked_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        test_guest_that_does_not_do_its_work(_LOOP, "timeout", monkeypatch)
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def test_guest_is_not_run_where_it_may_not() -> None:
    """A CPU that is not allowed, and one that the system refuses (offline, or outside the container's cpuset)."""
    cpu = min(os.sched_getaffinity(0))
    with kvm.Kvm("/dev/kvm") as device, device.create_vm() as vm, guest.Alarm():
        runs = guest.run_on(device, vm, [cpu, 4095], {4095})
    assert [(run["cpu"], run["result"], run["error"]) for run in runs] == [
        (cpu, "skipped", None),
        (4095, "skipped", "EINVAL"),
    ]


def test_an_ioctl_that_fails_names_itself() -> None:
    with open("/dev/null", "rb") as null, pytest.raises(OSError, match="KVM_CREATE_VM") as raised:
        kvm._ioctl(null.fileno(), "KVM_CREATE_VM")
    assert raised.value.errno == errno.ENOTTY


# Signals at any moment


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_at_any_moment_leaves_nothing(signum: signal.Signals, vms: Any, tmp_path: Path) -> None:
    """Forty moments spread over a probe's life; what it may leave: no VM, no file but a whole one."""
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
        # Before Python has run its first line of ours, a signal ends the process as it ends any.
        statuses = {128 + signum, -signum, *(0, 1, 3, 4)}
        assert probe.returncode in statuses
        if "import site" not in err and "KeyboardInterrupt" not in err:
            assert "Traceback" not in err
        assert out == ""
        if target.exists():
            assert json.loads(target.read_text())["verdict"]["reason"] in REASONS
        if signum != signal.SIGKILL:  # which nobody can answer
            assert set(tmp_path.iterdir()) <= {target}


def test_a_signal_ends_a_guest_that_runs(vms: Any, tmp_path: Path) -> None:
    """SIGTERM while KVM_RUN is inside the guest."""
    code = (
        "import sys; from kvmprobe.cli import main as cli; from kvmprobe.host import guest;"
        f"guest.CODE = {_LOOP!r}; guest.RUN_DEADLINE_S = 600; guest.ALL_DEADLINE_S = 600;"
        "sys.argv[1:] = ['--json']; cli.entry()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.PIPE, text=True) as probe:
        deadline = time.monotonic() + DEADLINE_S
        while "anon_inode:kvm-vcpu" not in "".join(_links(probe.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        probe.terminate()
        _, err = probe.communicate(timeout=DEADLINE_S)
    assert probe.returncode == 143
    assert err.splitlines()[-1] == "kvmprobe: ended by SIGTERM, nothing is left behind"


def test_a_signal_that_python_discards_comes_again() -> None:
    """What a signal handler raises inside a __del__ is lost: the library has such."""
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


def _links(pid: int) -> list[str]:
    try:
        return [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def test_an_ordinary_user_is_told_what_is_missing() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    if os.stat("/dev/kvm").st_mode & 0o006:
        pytest.skip("here everybody may open /dev/kvm")
    # Debian's Python and a copy that everybody may read: checkout and virtual environment may be root's alone.
    python = shutil.which("python3", path="/usr/bin")
    if not python or not shutil.which("setpriv"):
        pytest.skip("no /usr/bin/python3 or setpriv")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(PROJECT / "kvmprobe", Path(folder) / "kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-m", "kvmprobe"],
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=DEADLINE_S,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert "/dev/kvm cannot be opened: EACCES (mode " in done.stdout
    assert "svm in the flags of /proc/cpuinfo" in done.stdout  # raw CPUID is root's
    amd = "AuthenticAMD" in Path("/proc/cpuinfo").read_text() or "HygonGenuine" in Path("/proc/cpuinfo").read_text()
    assert done.returncode == (3 if amd else 4)
    assert ("kvm-not-permitted" if amd else "vendor-not-amd") in done.stdout


_CHURN = """
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
print("ready", flush=True)
while True:
    os.close(fcntl.ioctl(kvm, 0xAE01, 0))
"""


def test_vms_that_come_and_go_all_the_time_do_not_hold_the_probe() -> None:
    """Uevents may arrive quicker than they are read."""
    churners = [
        subprocess.Popen([sys.executable, "-c", _CHURN], stdout=subprocess.PIPE)
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        for churner in churners:
            assert churner.stdout
            churner.stdout.readline()
        events = json.loads(kvmprobe("--json").stdout)["evidence"]["uevents"]["events"]
    finally:
        for churner in churners:
            churner.kill()
            churner.communicate()
    assert {"create", "destroy"} >= {event["event"] for event in events}
    assert len(events) <= 3 * udev.MOST_EVENTS
