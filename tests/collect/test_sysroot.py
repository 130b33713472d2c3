"""Hosts made of files below --sysroot: missing, empty, wrong, short. The program itself reads them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

CPUINFO = """\
processor	: {cpu}
vendor_id	: AuthenticAMD
cpu family	: 23
model		: 1
model name	: AMD EPYC Processor
stepping	: 2
microcode	: 0x1000065
flags		: fpu svm npt lm hypervisor

"""

MSRS = {0xC0000080: 0xD01, 0xC0010114: 0x0, 0xC0010117: 0x0}
LEAVES = {
    0x0: (0xD, 0x68747541, 0x444D4163, 0x69746E65),
    0x1: (0x800F12, 0, 0, 0),
    0x80000000: (0x8000001F, 0, 0, 0),
    0x80000001: (0, 0, 0x4, 0),
    0x8000000A: (1, 16, 0, 0x1),
}


class Host:
    """A folder with the files of an EPYC host with two CPUs and kvm_amd loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("/sys/devices/system/cpu/online", "0-1\n")
        self.write("/sys/devices/system/cpu/offline", "\n")
        self.write("/proc/cpuinfo", "".join(CPUINFO.format(cpu=cpu) for cpu in (0, 1)))
        self.write("/proc/modules", "kvm_amd 163840 0 - Live 0x0\n")
        self.write("/sys/module/kvm/initstate", "live\n")
        self.write("/sys/module/kvm/refcnt", "1\n")
        self.write("/sys/module/kvm/parameters/enable_virt_at_load", "Y\n")
        self.write("/sys/module/kvm_amd/initstate", "live\n")
        self.write("/sys/module/kvm_amd/parameters/npt", "Y\n")
        self.write("/sys/class/misc/kvm/dev", "10:232\n")
        self.write("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        for cpu in (0, 1):
            self.registers(cpu, MSRS)
            self.sparse(f"/dev/cpu/{cpu}/cpuid", {leaf: struct.pack("<4I", *words) for leaf, words in LEAVES.items()})

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file, named as on the host."""
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def sparse(self, name: str, content: dict[int, bytes], size: int = 16) -> None:
        """Write a file with `size` bytes for every number, in the place of an MSR or CPUID device."""
        path = self.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for number, data in content.items():
                os.pwrite(file.fileno(), data, number * size)

    def registers(self, cpu: int, values: dict[int, int]) -> None:
        """Set the MSRs of a CPU."""
        self.sparse(f"/dev/cpu/{cpu}/msr", {msr: struct.pack("<Q", value) for msr, value in values.items()}, 8)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.path / name.lstrip("/")).unlink()

    def probe(self) -> Any:
        """Run kvmprobe on this host and return its report."""
        done = kvmprobe("--json", "--sysroot", self.path)
        report = json.loads(done.stdout)
        assert done.returncode == {"failed": 1, "inconclusive": 3, "not applicable": 4}[report["verdict"]["status"]]
        for verbosity in ("-v", "-q"):
            assert kvmprobe(verbosity, "--sysroot", self.path).returncode == done.returncode
        return report


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def check(report: Any, name: str) -> Any:
    return next(check for check in report["checks"] if check["id"] == name)


def test_all_files_are_read_below_the_root(host: Host) -> None:
    report = host.probe()
    evidence = report["evidence"]
    assert evidence["snapshots"][0]["cpus"]["1"] == {"EFER": "0xd01", "VM_CR": "0x0", "VM_HSAVE_PA": "0x0"}
    assert evidence["kernel"]["lockdown"] == "integrity"
    assert evidence["modules"]["kvm"]["refcount"] == 1
    assert check(report, "svm-bit")["status"] == "pass"
    # There is no /dev/kvm below this root, and the real one is not touched.
    assert report["verdict"]["reason"] == "kvm-device-missing"


def test_a_folder_without_dev_is_no_running_machine(host: Host) -> None:
    """What is not there is unknown, not failed; a stored kernel log still counts."""
    shutil.rmtree(host.path / "dev")
    report = host.probe()
    assert report["evidence"]["device"]["opened"] is None
    assert check(report, "kvm-device")["status"] == "unknown"
    assert report["verdict"]["status"] == "inconclusive"
    host.write("/var/log/dmesg", "[    1.5] kvm: disabled by bios\n")
    report = host.probe()
    assert report["verdict"]["reason"] == "firmware-disabled"
    assert "kernel log: kvm: disabled by bios" in report["verdict"]["because"]


def test_a_file_in_the_place_of_the_node(host: Host) -> None:
    host.write("/dev/kvm", "")
    report = host.probe()
    assert report["evidence"]["device"]["type"] == "file"
    assert report["verdict"]["reason"] == "api-version"
    assert "ENOTTY" in report["verdict"]["summary"]


def test_a_folder_in_the_place_of_the_node(host: Host) -> None:
    (host.path / "dev/kvm").mkdir()
    report = host.probe()
    assert report["verdict"]["reason"] == "kvm-device-missing"
    assert "EISDIR" in report["verdict"]["summary"]


def test_a_node_without_its_driver_is_not_opened(host: Host) -> None:
    """systemd-tmpfiles makes the node at boot, and opening it would load kvm.ko."""
    host.write("/dev/kvm", "")
    host.remove("/sys/class/misc/kvm/dev")
    (host.path / "sys/class/misc/kvm").rmdir()
    host.write("/sys/class/misc/fuse/dev", "10:229")
    report = host.probe()
    assert report["evidence"]["device"]["opened"] is None
    assert report["verdict"]["reason"] == "kvm-device-missing"


@pytest.mark.parametrize("content", ["", "\n", "garbage", "0-", "1-0", "0-99999999", "-1", "0,,1", b"\xff\xfe", "٣"])
def test_a_list_of_cpus_that_cannot_be_parsed(host: Host, content: str | bytes) -> None:
    """Then /proc/cpuinfo lists the CPUs."""
    host.write("/sys/devices/system/cpu/online", content)
    assert host.probe()["evidence"]["cpus"]["online"] == "0-1"


def test_no_list_of_cpus_at_all(host: Host) -> None:
    host.remove("/sys/devices/system/cpu/online")
    host.remove("/proc/cpuinfo")
    report = host.probe()
    assert report["evidence"]["cpus"]["cpuinfo"] == {"error": "ENOENT"}
    assert check(report, "cpuinfo-flag")["status"] == "unknown"


@pytest.mark.parametrize(
    "content", ["", "\n\n\n", "processor\n", "processor : x\n", "processor : 0", ":", "a:b:c\n\n: :", b"\xff" * 1000]
)
def test_a_cpuinfo_that_cannot_be_parsed(host: Host, content: str | bytes) -> None:
    host.write("/proc/cpuinfo", content)
    report = host.probe()
    assert check(report, "svm-bit")["status"] == "pass"  # Raw CPUID has the bit.
    assert check(report, "cpuinfo-flag")["status"] == "unknown"


@pytest.mark.parametrize("name", ["refcnt", "initstate", "parameters/npt", "parameters/nested"])
@pytest.mark.parametrize("content", ["", "garbage\n", b"\x00\xff", "-1"])
def test_module_files_with_wrong_content(host: Host, name: str, content: str | bytes) -> None:
    host.write(f"/sys/module/kvm_amd/{name}", content)
    assert check(host.probe(), "kvm-amd")["status"] == "pass"


def test_a_folder_in_the_place_of_a_file(host: Host) -> None:
    host.remove("/sys/module/kvm_amd/parameters/npt")
    (host.path / "sys/module/kvm_amd/parameters/npt").mkdir()
    assert host.probe()["evidence"]["modules"]["kvm_amd"]["parameters"]["npt"] == {"error": "EISDIR"}


def test_without_sysfs_modules_are_unknown_not_absent(host: Host) -> None:
    os.rename(host.path / "sys", host.path / "elsewhere")
    report = host.probe()
    assert report["evidence"]["modules"] is None
    assert check(report, "kvm-amd")["status"] == "unknown"


def test_an_empty_root(tmp_path: Path) -> None:
    report = Host.probe(_bare(tmp_path))
    assert report["verdict"]["status"] in ("failed", "inconclusive")
    assert {c["status"] for c in report["checks"]} & {"pass", "warn"} <= {"pass"}


def _bare(path: Path) -> Host:
    host = Host.__new__(Host)
    host.path = path
    return host


def test_registers_of_one_cpu_only(host: Host) -> None:
    host.remove("/dev/cpu/1/msr")
    report = host.probe()
    assert report["evidence"]["snapshots"][0]["cpus"]["1"]["VM_CR"] == {"error": "ENOENT"}
    assert check(report, "firmware")["status"] == "unknown"
    assert "could not be read on cpu1" in check(report, "firmware")["message"]


def test_a_short_read_is_not_a_value(host: Host) -> None:
    host.sparse("/dev/cpu/1/msr", {0xC0010114: b"\x18\x00\x00"}, 8)
    vm_cr = host.probe()["evidence"]["snapshots"][0]["cpus"]["1"]["VM_CR"]
    assert vm_cr == {"error": "short read: 3 of 8 bytes"}


def test_a_pipe_in_the_place_of_a_device_does_not_block(host: Host) -> None:
    host.remove("/dev/cpu/0/msr")
    os.mkfifo(host.path / "dev/cpu/0/msr")
    assert host.probe()["evidence"]["snapshots"][0]["cpus"]["0"]["EFER"] == {"error": "ESPIPE"}


def test_an_empty_read_is_not_zero(host: Host) -> None:
    host.write("/dev/cpu/0/msr", "")
    host.write("/dev/cpu/0/cpuid", "")
    evidence = host.probe()["evidence"]
    assert evidence["snapshots"][0]["cpus"]["0"]["EFER"] == {"error": "short read: 0 of 8 bytes"}
    assert evidence["cpus"]["cpuid"]["0"]["0x0"] == {"error": "short read: 0 of 16 bytes"}


@pytest.mark.parametrize(
    ("cpus", "vm_cr", "leaf", "reason"),
    [
        ((0, 1), 0x18, 0x0, "firmware-disabled"),
        ((0, 1), 0x10, 0x0, "firmware-disabled"),
        ((0, 1), 0x18, 0x4, "firmware-disabled"),
        ((1,), 0x18, 0x0, "cpus-disagree"),
        ((0, 1), 0x8, 0x0, "kvm-amd-not-loaded"),
    ],
)
def test_firmware_that_disables_svm(host: Host, cpus: tuple[int, ...], vm_cr: int, leaf: int, reason: str) -> None:
    for name in ("initstate", "parameters/npt"):
        host.remove(f"/sys/module/kvm_amd/{name}")
    (host.path / "sys/module/kvm_amd/parameters").rmdir()
    (host.path / "sys/module/kvm_amd").rmdir()
    for cpu in (0, 1):
        host.registers(cpu, {**MSRS, 0xC0010114: vm_cr if cpu in cpus else 0})
        leaves = {**LEAVES, 0x8000000A: (1, 16, 0, leaf)}
        host.sparse(f"/dev/cpu/{cpu}/cpuid", {n: struct.pack("<4I", *words) for n, words in leaves.items()})
    assert host.probe()["verdict"]["reason"] == reason


def test_a_host_that_is_itself_an_sev_guest(host: Host) -> None:
    for cpu in (0, 1):
        leaves = {**LEAVES, 0x1: (0x800F12, 0, 1 << 31, 0), 0x8000001F: (0x2, 0, 0, 0)}
        host.sparse(f"/dev/cpu/{cpu}/cpuid", {n: struct.pack("<4I", *words) for n, words in leaves.items()})
        host.registers(cpu, {**MSRS, 0xC0010131: 0x1})
    assert host.probe()["verdict"]["reason"] == "sev-guest"


@pytest.mark.usefixtures("kvm_device")
@pytest.mark.parametrize(
    ("efer", "results"),
    [
        ((0x1D01, 0x1D01), {0: "ok", 1: "ok"}),
        ((0x1D01, 0xD01), {0: "ok", 1: "skipped"}),
        ((0x1D01, None), {0: "ok", 1: "skipped"}),
        ((0xD01, None), {0: "skipped", 1: "skipped"}),
        ((0xD01, 0xD01), {0: "skipped", 1: "skipped"}),
        ((None, None), {0: "ok", 1: "ok"}),  # As with a backend that does not use SVM.
    ],
    ids=str,
)
def test_the_guest_runs_only_where_svme_is_known_to_be_1(
    host: Host, efer: tuple[int | None, ...], results: dict[int, str]
) -> None:
    """The real /dev/kvm, with registers from files: where SVME is 0, VMRUN would be an oops."""
    if not {0, 1} <= os.sched_getaffinity(0):
        pytest.skip("needs two CPUs")
    os.mknod(host.path / "dev/kvm", stat.S_IFCHR | 0o600, os.stat("/dev/kvm").st_rdev)
    for cpu, value in enumerate(efer):
        if value is None:
            host.remove(f"/dev/cpu/{cpu}/msr")
        else:
            host.registers(cpu, {**MSRS, 0xC0000080: value})
    evidence = json.loads(kvmprobe("check", "--json", "--sysroot", host.path).stdout)["evidence"]
    assert evidence["ioctls"]["KVM_CREATE_VM"] == 0
    assert {run["cpu"]: run["result"] for run in evidence["guest"]} == results


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside of the root, with a file that may not be read through it."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("kvm: secret\n")
    return folder


@pytest.mark.parametrize("up", ["", "../../../../../../../../../.."])
def test_no_link_leads_out_of_the_root(host: Host, outside: Path, up: str) -> None:
    """As after chroot(2): an absolute link, and one with too many "..", starts at the root."""
    for name in ("/proc/cmdline", "/var/log/dmesg", "/sys/module/kvm_amd/parameters/npt", "/proc/sys/kernel/hostname"):
        path = host.path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(f"{up}{outside}/secret")
    (host.path / "etc").symlink_to(f"{up}{outside}")
    (outside / "modprobe.d").mkdir()
    (outside / "modprobe.d/a.conf").write_text("blacklist kvm_amd # secret\n")
    assert "secret" not in json.dumps(host.probe())


def test_links_within_the_root_are_followed(host: Host) -> None:
    """As in sysfs: a relative link, an absolute one, and a folder that is a link."""
    os.rename(host.path / "sys/module", host.path / "modules")
    (host.path / "sys/module").symlink_to("/modules")
    host.write("/sys/devices/virtual/misc/kvm/dev", "10:232\n")
    host.remove("/sys/class/misc/kvm/dev")
    (host.path / "sys/class/misc/kvm").rmdir()
    (host.path / "sys/class/misc/kvm").symlink_to("../../devices/virtual/misc/kvm")
    os.rename(host.path / "proc/cpuinfo", host.path / "cpuinfo")
    (host.path / "proc/cpuinfo").symlink_to("../../../cpuinfo")
    evidence = host.probe()["evidence"]
    assert evidence["modules"]["kvm_amd"]["parameters"] == {"npt": "Y"}
    assert evidence["device"]["registered"] is True
    assert evidence["cpus"]["cpuinfo"]["1"]["vendor_id"] == "AuthenticAMD"


def test_links_in_a_circle_are_an_error(host: Host) -> None:
    host.remove("/proc/cpuinfo")
    (host.path / "proc/cpuinfo").symlink_to("cpuinfo")
    assert host.probe()["evidence"]["cpus"]["cpuinfo"] == {"error": "ELOOP"}


@pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here")
def test_the_devices_of_this_host_are_not_opened(host: Host, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("dev/kvm", "dev/kmsg"):
        (host.path / name).symlink_to(f"/{name}")
    log = tmp_path_factory.mktemp("strace") / "calls"
    command = ["strace", "-f", "-y", "-qq", "-e", "trace=openat,open", "-o", str(log)]
    command += [sys.executable, "-m", "kvmprobe", "check", "--sysroot", str(host.path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode in (1, 3), done.stderr
    opened = [line.rpartition("= ")[2] for line in log.read_text().splitlines()]
    assert opened
    assert not [call for call in opened if "</dev/k" in call]


NEVER_ENDING = {
    "a sparse file": lambda path: os.truncate(path, 1 << 40),
    "digits": lambda path: path.write_bytes((b"7," + b"9" * 8000 + b"," + b"9" * 8000 + b",-;x\n") * 4000),
    "short lines": lambda path: path.write_bytes(b"7,1,1,-;kvm: x\n" * 5_000_000),
}


@pytest.mark.parametrize("fill", NEVER_ENDING.values(), ids=NEVER_ENDING.keys())
def test_a_log_without_end_takes_seconds(host: Host, fill: Callable[[Path], object]) -> None:
    host.write("/dev/kmsg", "")
    fill(host.path / "dev/kmsg")
    started = time.monotonic()
    report = json.loads(kvmprobe("--json", "--sysroot", host.path).stdout)
    assert time.monotonic() - started < 15
    assert len(report["evidence"]["log"]["lines"]) <= 100


def test_files_without_end_take_seconds(host: Host) -> None:
    for index in range(100):
        host.write(f"/etc/modprobe.d/{index}.conf", "")
        os.truncate(host.path / f"etc/modprobe.d/{index}.conf", 1 << 40)
    started = time.monotonic()
    kvmprobe("--json", "--sysroot", host.path)
    assert time.monotonic() - started < 15


def test_a_thousand_cpus_fold_into_one_line(host: Host) -> None:
    host.write("/sys/devices/system/cpu/online", "0-1023\n")
    for cpu in range(1024):
        host.registers(cpu, MSRS)
    done = kvmprobe("--sysroot", host.path)
    assert [line for line in done.stdout.splitlines() if line.startswith("EFER 0xd01,") and "on cpu0-1023" in line]


def test_without_proc_and_sys_it_is_unknown_which_cpus_are_online(host: Host) -> None:
    """Every format bears that no CPU is known, and the CPUs that have a device are read."""
    for name in ("/sys/devices/system/cpu/online", "/proc/cpuinfo"):
        host.remove(name)
    evidence = host.probe()["evidence"]
    assert (evidence["cpus"]["online"], evidence["cpus"]["online_at_end"]) == (None, None)
    assert sorted(evidence["snapshots"][0]["cpus"]) == ["0", "1"]
    shutil.rmtree(host.path / "dev/cpu")
    assert host.probe()["evidence"]["snapshots"][0]["cpus"] == {}
    text = kvmprobe("-v", "--sysroot", host.path).stdout
    assert "no CPU found, whether there are more is unknown" in text
    assert "on no CPU" not in text
    assert 'kvmprobe_cpus{state="online"' not in kvmprobe("--format", "prometheus", "--sysroot", host.path).stdout
    assert "cpus" not in kvmprobe("--format", "nfd", "--sysroot", host.path).stdout
    assert " cpus=" not in kvmprobe("--format", "nagios", "--sysroot", host.path).stdout
