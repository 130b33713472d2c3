"""Many cycles on the real /dev/kvm of this host, whatever is behind it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.collect.soak.cycle import Cycle, Failed
from kvmprobe.collect.soak.histogram import Times
from kvmprobe.collect.soak.hotplug import Hotplug
from kvmprobe.collect.soak.open_msrs import Registers
from kvmprobe.formats import text
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.udev import Udev
from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import EVIDENCE, recorded
from tests.helpers.run_kvmprobe import kvmprobe

PROGRAM = (sys.executable, "-m", "kvmprobe", "soak")

kvm = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm to be had here")


def soak(*arguments: str, prefix: tuple[str, ...] = ()) -> Any:
    """The evidence `soak` and the verdict of a soak that was run."""
    command = [*prefix, *PROGRAM, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    return done.returncode, report


@kvm
def test_as_many_cycles_as_were_asked_for() -> None:
    _, report = soak("--cycles", "40", "--vms", "3")
    found = report["evidence"]["soak"]
    assert (found["cycles"], found["vms"], found["failed"], found["failures"]) == (40, 3, 0, [])
    assert found["create"]["count"] == found["close"]["count"] == 120
    for times in (found["create"], found["close"]):
        ordered = [times[name] for name in ("min", "p50", "p90", "p99", "p99_9", "max")]
        assert ordered == sorted(ordered)
        assert ordered[0] > 0


@kvm
def test_as_many_cycles_as_fit_into_the_time() -> None:
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
def test_what_cannot_be_done_is_said_and_the_rest_goes_on() -> None:
    if os.path.exists("/sys/module/kvm_amd") or os.geteuid() != 0:
        pytest.skip("needs root, and a host without kvm_amd")
    found = soak("--cycles", "5", "--reload")[1]["evidence"]["soak"]
    assert (found["cycles"], found["steps"]) == (5, {"reload": 0})
    assert any("kvm_amd is not there as a module" in limit for limit in found["limits"])


@kvm
def test_killed_children_leave_nothing() -> None:
    _, report = soak("--cycles", "30", "--kill")
    assert report["evidence"]["soak"]["steps"] == {"kill": 30}
    assert not report["evidence"]["soak"]["failed"]


@pytest.fixture
def failing() -> tuple[str, ...]:
    """A command before kvmprobe's that makes its ioctls fail after some cycles."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    return tuple("strace -f -qqq -o /dev/null -e trace=ioctl -e inject=ioctl:error=ENOMEM:when=200+".split())


@kvm
def test_a_failure_ends_it_and_is_kept_whole(failing: tuple[str, ...]) -> None:
    status, report = soak("--cycles", "1000", prefix=failing)
    found = report["evidence"]["soak"]
    assert status == 1
    assert report["verdict"]["status"] == "failed"
    assert found["failed"] == len(found["failures"]) == 1
    assert found["cycles"] == found["failures"][0]["cycle"] < 1000
    assert "ENOMEM" in found["failures"][0]["what"]
    assert report["verdict"]["reason"] == found["failures"][0]["reason"]
    assert found["failures"][0]["what"] in text.render(report)


@kvm
def test_keep_going_goes_on_and_counts(failing: tuple[str, ...]) -> None:
    status, report = soak("--cycles", "150", "--keep-going", prefix=failing)
    found = report["evidence"]["soak"]
    assert status == 1
    assert found["cycles"] == 150
    assert found["failed"] > len(found["failures"]) == 100


@kvm
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(signum: signal.Signals) -> None:
    process = subprocess.Popen([*PROGRAM, "--time", "600", "--kill"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1)
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert not stdout
    assert b"nothing is left behind" in stderr
    assert b"Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments", [("--cycles", "0"), ("--vms", "-1"), ("--time", "nan"), ("--cycles", "2", "--time", "1")]
)
def test_wrong_amounts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 64
    assert "Traceback" not in done.stderr


def put_registers(sysroot: Path) -> None:
    """Two CPUs whose registers are 0."""
    (sysroot / "sys/devices/system/cpu").mkdir(parents=True)
    (sysroot / "sys/devices/system/cpu/online").write_text("0-1\n")
    for cpu in (0, 1):
        (sysroot / f"sys/devices/system/cpu/cpu{cpu}").mkdir()
        (sysroot / f"sys/devices/system/cpu/cpu{cpu}/online").touch()
        (sysroot / f"dev/cpu/{cpu}").mkdir(parents=True)
        with (sysroot / f"dev/cpu/{cpu}/msr").open("wb") as file:
            file.truncate((0xC0010117 + 1) * 8)


def test_registers_that_can_no_longer_be_read_are_a_failure(tmp_path: Path) -> None:
    put_registers(tmp_path)
    root = Sysroot(str(tmp_path))
    with Registers(root) as registers:
        assert registers.readable
        cycle = Cycle(root, None, registers, Udev(root), at_load=False, vms=1)  # type: ignore[arg-type]
        cycle.check_released("closed")
        (tmp_path / "dev/cpu/1/msr").unlink()
        registers.close()  # as for a CPU that goes offline
        with pytest.raises(Failed, match="can no longer be read"):
            cycle.check_released("closed")


def test_a_cpu_of_which_nothing_can_be_read_is_not_done(tmp_path: Path) -> None:
    """The sysroot's CPU comes online again without its registers."""
    put_registers(tmp_path)
    root = Sysroot(str(tmp_path))
    with Registers(root) as registers:
        hotplug = Hotplug(root, registers)
        (tmp_path / "dev/cpu/1/msr").unlink()
        with pytest.raises(Failed, match="can no longer be read"):
            hotplug.run()
        assert hotplug.done == 0


def test_a_device_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    put_registers(tmp_path)
    with Registers(Sysroot(str(tmp_path))) as registers:
        cycle = Cycle(Sysroot(str(tmp_path)), None, registers, Udev(Sysroot()), at_load=False, vms=1)  # type: ignore[arg-type]
        with pytest.raises(Failed, match="kvm cannot be opened again: ENOENT"):
            cycle.open(str(tmp_path / "dev/kvm"))


def test_percentiles_are_right_to_one_in_a_hundred() -> None:
    choose = random.Random(5)
    values = [int(choose.lognormvariate(12, 1)) for _ in range(20_000)]
    times = Times()
    for value in values:
        times.add(value)
    found = times.percentiles()
    assert found["count"] == 20_000
    assert (found["min"], found["max"]) == (round(min(values) / 1000, 1), round(max(values) / 1000, 1))
    cuts = statistics.quantiles(values, n=1000)
    for name, cut in (("p50", cuts[499]), ("p90", cuts[899]), ("p99", cuts[989]), ("p99_9", cuts[998])):
        assert found[name] == pytest.approx(cut / 1000, rel=0.02)  # type: ignore[literal-required]


def test_nothing_collected_is_nothing_known() -> None:
    assert set(Times().percentiles().values()) == {0, None}


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("soak/bookworm", "pass", "svme-set-by-create-vm"),
        ("soak/trixie-backports", "pass", "svme-set-at-module-load"),
        ("soak/bookworm-svme-not-cleared", "fail", "svme-not-cleared"),
    ],
)
def test_soaks_of_real_kernels(name: str, status: str, reason: str) -> None:
    report = judge(recorded(name))
    assert report["verdict"]["reason"] == reason
    assert next(check["status"] for check in report["checks"] if check["id"] == "cycles") == status


def test_failures_that_were_not_kept_are_failures() -> None:
    evidence = recorded("soak/bookworm")
    evidence["soak"]["failed"] = 3
    assert judge(evidence)["checks"][0]["status"] == "fail"


def test_a_failure_cannot_have_a_confirming_reason(tmp_path: Path) -> None:
    report = json.loads((EVIDENCE / "soak/bookworm-svme-not-cleared.json").read_text())
    report["evidence"]["soak"]["failures"][0]["reason"] = "svme-set-by-create-vm"
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert kvmprobe("judge", tmp_path / "report.json").returncode == 65


@kvm
def test_children_that_a_parent_ignores_are_waited_for_all_the_same() -> None:
    """With SIGCHLD ignored the kernel keeps no exit status."""
    done = subprocess.run(
        ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh", *PROGRAM, "-q", "--cycles", "3", "--kill"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 4), done.stderr


def test_cycles_that_say_nothing_are_no_success() -> None:
    evidence = recorded("soak/bookworm")
    evidence["soak"]["interfered"] = evidence["soak"]["cycles"]
    report = judge(evidence)
    assert report["checks"][0]["status"] == "unknown"
    assert (report["verdict"]["status"], report["verdict"]["reason"]) == ("inconclusive", "interfered")
