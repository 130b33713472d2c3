"""`kvmprobe soak` on the real /dev/kvm of this host, with whatever backend it has; and recorded soaks."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.collect.soak.cycle import Cycle
from kvmprobe.collect.soak.killed_child import ChildKiller
from kvmprobe.collect.soak.open_msrs import OpenMsrs
from kvmprobe.collect.soak.soak_probe import SoakPlan, SoakProbe
from kvmprobe.collect.soak.time_histogram import TimeHistogram
from kvmprobe.formats import text
from kvmprobe.host.guest import GuestAlarm
from kvmprobe.host.kvm import VCPU_INODE, VM_INODE
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.udev import Udev
from kvmprobe.judge import judge
from kvmprobe.model.registers import EFER
from tests.helpers.own_processes import OwnProcesses
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import kvmprobe

PROGRAM = (sys.executable, "-m", "kvmprobe", "soak")

kvm = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm cannot be opened here")


def soak(*arguments: str, prefix: tuple[str, ...] = ()) -> Any:
    """Run a soak and return its exit status and its report."""
    command = [*prefix, *PROGRAM, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    return done.returncode, report


@kvm
def test_the_number_of_cycles_is_as_requested() -> None:
    _, report = soak("--cycles", "40", "--vms", "3")
    found = report["evidence"]["soak"]
    assert (found["cycles"], found["vms"], found["failed"], found["failures"]) == (40, 3, 0, [])
    assert found["create"]["count"] == found["close"]["count"] == 120
    for times in (found["create"], found["close"]):
        ordered = [times[name] for name in ("min", "p50", "p90", "p99", "p99_9", "max")]
        assert ordered == sorted(ordered)
        assert ordered[0] > 0
    cpus = {str(cpu) for cpu in os.sched_getaffinity(0)}
    assert {cpu: times["count"] for cpu, times in found["guest"].items()} == dict.fromkeys(cpus, 120)
    assert found["exits"].keys() == cpus
    for times in found["exits"].values():
        assert 100 < times["count"] <= 10_000
        assert 0 < times["min"] <= times["p50"] <= times["max"]
    assert [found["samples"][index]["cycles"] for index in (0, -1)] == [1, 40]
    assert {sample["kvm_descriptors"] for sample in found["samples"]} == {0}


@kvm
def test_the_time_is_as_requested() -> None:
    started = time.monotonic()
    _, report = soak("--time", "0.7")
    assert time.monotonic() - started >= 0.7
    assert report["evidence"]["soak"]["cycles"] > 0
    assert report["evidence"]["soak"]["seconds"] >= 0.7


@kvm
def test_memory_does_not_grow_with_the_number_of_cycles() -> None:
    grown = []
    for cycles in ("50", "1500"):
        first, last = soak("--cycles", cycles)[1]["evidence"]["soak"]["memory_kb"]
        grown.append(last - first)
    assert grown[1] < grown[0] + 512


@kvm
def test_a_step_that_is_not_possible_becomes_a_limit_and_the_rest_goes_on() -> None:
    if os.path.exists("/sys/module/kvm_amd") or os.geteuid() != 0:
        pytest.skip("needs root, and a host without kvm_amd")
    found = soak("--cycles", "5", "--reload")[1]["evidence"]["soak"]
    assert (found["cycles"], found["steps"]) == (5, {"reload": 0})
    assert any("kvm_amd is not a loaded module" in limit for limit in found["limits"])


@kvm
def test_after_killed_children_no_check_fails() -> None:
    _, report = soak("--cycles", "30", "--kill")
    found = report["evidence"]["soak"]
    kills = found["kills"]
    assert sum(kills.values()) == 30
    assert found["steps"] == {"kill": 30 - kills["missed"]}
    assert kills["missed"] <= 6
    assert kills["alive"]  # The moments lie in the whole life of a VM.
    assert kills["closing"]
    assert not found["failed"]
    assert f"30 processes killed, {30 - kills['missed']} with a VM: " in text.render(report)


def test_a_kill_that_hits_no_vm_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "kvm").touch()  # KVM_CREATE_VM fails: ENOTTY
    root = Sysroot(str(tmp_path))
    msrs = OpenMsrs(root)
    cycle = Cycle(root, None, msrs, Udev(root), False, 1, GuestAlarm())  # type: ignore[arg-type]
    started: list[int] = []
    killer = ChildKiller(str(tmp_path / "kvm"), msrs, cycle, started.append)
    killer.kill()
    killer.kill()
    assert len(started) == 2
    assert killer.kills == {"missed": 2, "creating": 0, "alive": 0, "closing": 0}
    assert killer.hits() == 0


@kvm
def test_svme_0_while_a_vm_lives_is_a_failure_whatever_other_vms_there_are(tmp_path: Path) -> None:
    """Another process's VM explains why SVME stays 1 after a cycle. Nothing explains why it is 0 while a VM lives."""
    if os.geteuid() != 0:
        pytest.skip("root alone makes device nodes")
    for name in ("dev/cpu/0", "dev/cpu/1", "sys/devices/system/cpu"):
        (tmp_path / name).mkdir(parents=True)
    os.mknod(tmp_path / "dev/kvm", 0o600 | stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
    (tmp_path / "sys/devices/system/cpu/online").write_text("0-1")

    def set_efer(cpu: int, value: int) -> None:
        with (tmp_path / f"dev/cpu/{cpu}/msr").open("r+b") as file:
            file.seek(EFER.number * 8)
            file.write(value.to_bytes(8, "little"))

    for cpu in (0, 1):
        (tmp_path / f"dev/cpu/{cpu}/msr").touch()
        os.truncate(tmp_path / f"dev/cpu/{cpu}/msr", 0xC0010118 * 8)  # All registers are 0.
        set_efer(cpu, 0x1D01)
    plan = SoakPlan(5, None, 1, (), True, lambda soak: set_efer(1, 0xD01) if soak.cycles == 3 else None)
    probe = SoakProbe(Sysroot(str(tmp_path)), plan)
    probe.run(False)
    soak = probe.extra_evidence()["soak"]
    assert (soak["cycles"], soak["interfered"], soak["failed"]) == (5, 3, 2)
    assert {(one["reason"], one["what"]) for one in soak["failures"]} == {
        ("svme-not-set", "EFER.SVME is 0 on cpu1 while a VM lives")
    }


@pytest.fixture
def failing() -> tuple[str, ...]:
    """A command that, put before kvmprobe's, makes its KVM ioctls fail after some cycles."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    files = f"-P /dev/kvm -P {VM_INODE} -P {VCPU_INODE}:0"
    return tuple(f"strace -f -qqq -o /dev/null {files} -e inject=ioctl:error=EINVAL:when=200+".split())


@kvm
def test_the_first_failure_ends_the_soak_and_is_its_evidence(failing: tuple[str, ...]) -> None:
    status, report = soak("--cycles", "1000", prefix=failing)
    found = report["evidence"]["soak"]
    assert status == 1
    assert report["verdict"]["status"] == "failed"
    assert found["failed"] == len(found["failures"]) == 1
    assert found["cycles"] == found["failures"][0]["cycle"] < 1000
    assert "EINVAL" in found["failures"][0]["what"]
    assert report["verdict"]["reason"] == found["failures"][0]["reason"]
    assert found["failures"][0]["what"] in text.render(report)


@kvm
def test_keep_going_goes_on_and_counts_the_failures(failing: tuple[str, ...]) -> None:
    status, report = soak("--cycles", "150", "--keep-going", prefix=failing)
    found = report["evidence"]["soak"]
    assert status == 1
    assert found["cycles"] == 150
    assert found["failed"] > len(found["failures"]) == 100


@kvm
@pytest.mark.parametrize("step", ["--keep-going", "--kill"])
@pytest.mark.usefixtures("no_vm_left")
def test_ctrl_c_ends_the_soak_with_the_report_of_what_was_done(step: str, own_processes: OwnProcesses) -> None:
    process = own_processes.start([*PROGRAM, "--time", "600", "--json", step])
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    report = json.loads(stdout)
    soak = report["evidence"]["soak"]
    assert soak["cycles"] > 0
    assert (soak["failed"], soak["interfered"]) == (0, 0)
    assert soak["limits"][-1] == f"SIGINT ended it after {soak['cycles']:,} cycles"
    assert f"{soak['cycles']} cycles in " in report["verdict"]["summary"]


@kvm
@pytest.mark.usefixtures("no_vm_left")
def test_sigint_that_the_caller_ignores_does_not_end_the_soak(own_processes: OwnProcesses) -> None:
    process = own_processes.start(["bash", "-c", 'trap "" INT; exec "$@"', "bash", *PROGRAM, "--time", "6", "-q"])
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode != 130
    assert "SIGINT" not in stdout
    assert re.search(r"[1-9][0-9]* cycles in [0-9.]+ s", " ".join(stdout.split()))


@kvm
@pytest.mark.usefixtures("no_vm_left")
def test_sigterm_ends_the_soak_at_once(own_processes: OwnProcesses) -> None:
    process = own_processes.start([*PROGRAM, "--time", "600", "--kill"])
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert not stdout
    assert "nothing is left behind" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments", [("--cycles", "0"), ("--vms", "-1"), ("--time", "nan"), ("--cycles", "2", "--time", "1")]
)
def test_amounts_that_are_refused(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "Traceback" not in done.stderr


def test_percentiles_are_exact_to_one_percent() -> None:
    choose = random.Random(5)
    values = [int(choose.lognormvariate(12, 1)) for _ in range(20_000)]
    times = TimeHistogram()
    for value in values:
        times.add(value)
    found = times.percentiles()
    assert found["count"] == 20_000
    assert (found["min"], found["max"]) == (round(min(values) / 1000, 1), round(max(values) / 1000, 1))
    cuts = statistics.quantiles(values, n=1000)
    for name, cut in (("p50", cuts[499]), ("p90", cuts[899]), ("p99", cuts[989]), ("p99_9", cuts[998])):
        assert found[name] == pytest.approx(cut / 1000, rel=0.02)  # type: ignore[literal-required]


def test_without_times_the_percentiles_are_unknown() -> None:
    assert set(TimeHistogram().percentiles().values()) == {0, None}


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("soak/bookworm", "pass", "svme-set-by-create-vm"),
        ("soak/bookworm-resources", "pass", "svme-set-by-create-vm"),
        ("soak/trixie-backports", "pass", "svme-set-at-module-load"),
        ("soak/bookworm-svme-not-cleared", "fail", "svme-not-cleared"),
    ],
)
def test_soaks_of_real_kernels(name: str, status: str, reason: str) -> None:
    report = judge(recorded(name))
    assert report["verdict"]["reason"] == reason
    assert next(check["status"] for check in report["checks"] if check["id"] == "cycles") == status


def test_failures_that_are_only_counted_fail_the_check() -> None:
    evidence = recorded("soak/bookworm")
    evidence["soak"]["failed"] = 3
    assert judge(evidence)["checks"][0]["status"] == "fail"


def test_a_failure_with_a_confirming_reason_is_refused(tmp_path: Path) -> None:
    report = json.loads((EVIDENCE / "soak/bookworm-svme-not-cleared.json").read_text())
    report["evidence"]["soak"]["failures"][0]["reason"] = "svme-set-by-create-vm"
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert kvmprobe("judge", tmp_path / "report.json").returncode == 65


@kvm
def test_kvmprobe_waits_for_its_children_where_its_parent_ignores_sigchld() -> None:
    """Where SIGCHLD is ignored, the kernel keeps no exit status."""
    done = subprocess.run(
        ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", *PROGRAM, "-q", "--cycles", "3", "--kill"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 4), done.stderr


def test_a_soak_of_disturbed_cycles_only_is_inconclusive() -> None:
    evidence = recorded("soak/bookworm")
    evidence["soak"]["interfered"] = evidence["soak"]["cycles"]
    report = judge(evidence)
    assert report["checks"][0]["status"] == "unknown"
    assert (report["verdict"]["status"], report["verdict"]["reason"]) == ("inconclusive", "interfered")
