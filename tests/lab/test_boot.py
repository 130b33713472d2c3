"""Real boots by `kvmprobe lab run`: the registers in the report, and the messages if a guest does not answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kvmprobe.lab import cache, kernels, payload, qemu, userspace
from kvmprobe.lab.boot_result import ANSWERED, LOST
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_USAGE, Problem
from tests.helpers.real_kernels import unavailable
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

pytestmark = pytest.mark.kernel

RealKernel = Callable[[str], Kernel]

_ON, _OFF = "0x1d01", "0xd01"


@pytest.fixture
def lab(tmp_path: Path, real_kernel: RealKernel) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs `kvmprobe lab run` with the kernels of the usual cache and an own folder for logs."""
    for row in kernels.DEBIAN:
        entry = real_kernel(row.suite).image.parent
        link = tmp_path / "cache" / entry.parent.name / entry.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(entry)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return kvmprobe("lab", "run", "--cache", tmp_path / "cache", *arguments)

    return run


def _logs(tmp_path: Path) -> list[str]:
    return [path.read_text("utf-8", "replace") for path in (tmp_path / "cache/logs").iterdir()]


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_ctime_ns) for path in folder.rglob("*")}


def _efer(report: Any) -> dict[str, set[str]]:
    return {
        snapshot["phase"]: {registers["EFER"] for registers in snapshot["cpus"].values()}
        for snapshot in report["evidence"]["snapshots"]
    }


def test_junit_of_a_boot(lab: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = lab("bookworm", "--format", "junit")
    assert done.returncode == EXIT_CONFIRMED, done.stderr
    (suite,) = ElementTree.fromstring(done.stdout)
    assert (suite.attrib["name"], suite.attrib["failures"], suite.attrib["errors"]) == ("bookworm", "0", "0")


@pytest.mark.parametrize(
    ("name", "parameters", "reason", "efer"),
    [
        ("bookworm", "", "svme-set-by-create-vm", (_OFF, _ON, _OFF)),
        ("trixie", "", "svme-set-at-module-load", (_ON, _ON, _ON)),
        ("trixie", "kvm.enable_virt_at_load=0", "svme-set-by-create-vm", (_OFF, _ON, _OFF)),
    ],
)
def test_svme_before_during_and_after_the_vm(
    name: str,
    parameters: str,
    reason: str,
    efer: tuple[str, str, str],
    lab: Callable[..., subprocess.CompletedProcess[str]],
    real_kernel: RealKernel,
    tmp_path: Path,
) -> None:
    kernel = real_kernel(name)
    done = lab(name, "--append", parameters, "--reports", tmp_path, "--json")
    assert done.returncode == EXIT_CONFIRMED, done.stderr
    report = json.loads(done.stdout)
    assert report["verdict"]["reason"] == reason
    assert _efer(report) == {phase: {value} for phase, value in zip(("before", "created", "closed"), efer)}
    assert [len(snapshot["cpus"]) for snapshot in report["evidence"]["snapshots"]] == [2, 2, 2]
    assert report["evidence"]["kernel"]["release"] == kernel.release
    assert json.loads((tmp_path / f"{name}.json").read_text()) == report
    assert _logs(tmp_path) == []
    assert f"confirmed {reason}" in done.stderr


def test_several_kernels_one_after_another(lab: Callable[..., Any], tmp_path: Path) -> None:
    done = lab("bookworm", "trixie", "-q", "--cpu", "EPYC,-svm", "--keep-console")
    assert done.returncode == EXIT_FAILED, done.stderr
    verdicts = [line.split(":")[0] for line in done.stdout.splitlines()[::2]]  # below each stands what to do
    assert verdicts == ["FAILED cpu-lacks-svm"] * 2
    # kvm_amd refuses to load there
    assert done.stderr.count("the preparation ended with status 1") == 2
    assert len(_logs(tmp_path)) == 2


def test_the_exit_status_is_the_guests(lab: Callable[..., Any], tmp_path: Path) -> None:
    done = lab("bookworm", "--", "--bogus")
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert "in the guest: kvmprobe: check: unrecognized arguments: --bogus" in done.stderr


def test_a_verdicts_status_without_a_report_is_lost(lab: Callable[..., Any], tmp_path: Path) -> None:
    done = lab("bookworm", "--", "--output", "/tmp/elsewhere")
    assert (done.returncode, done.stdout) == (EXIT_INCONCLUSIVE, "")
    assert "lost: the command ended with status 0 and without a report" in done.stderr
    assert len(_logs(tmp_path)) == 1


def test_a_guest_that_panics_is_lost(lab: Callable[..., Any], tmp_path: Path) -> None:
    done = lab("bookworm", "--append", "rdinit=/nonexistent")
    assert (done.returncode, done.stdout) == (EXIT_INCONCLUSIVE, "")
    assert "lost: the kernel never reached init: Kernel panic - not syncing" in done.stderr
    assert str(tmp_path / "cache/logs") in done.stderr
    assert any("Kernel panic" in log for log in _logs(tmp_path))


def test_a_boot_that_takes_too_long(lab: Callable[..., Any], tmp_path: Path) -> None:
    started = time.monotonic()
    done = lab("bookworm", "--deadline", "0.5")
    assert time.monotonic() - started < DEADLINE_S / 2
    assert (done.returncode, done.stdout) == (EXIT_INCONCLUSIVE, "")
    assert "timed out: the kernel never reached init" in done.stderr
    assert len(_logs(tmp_path)) == 1


def test_qemu_that_does_not_start(lab: Callable[..., Any], tmp_path: Path) -> None:
    done = lab("bookworm", "--cpu", "nonsense")
    assert (done.returncode, done.stdout) == (EXIT_INCONCLUSIVE, "")
    assert "could not start: qemu-system-x86_64: unable to find CPU model 'nonsense'" in done.stderr


@pytest.mark.parametrize("index", ["indexed", "not indexed"])
def test_a_kernel_of_the_users_own(index: str, lab: Callable[..., Any], own_kernel: tuple[Path, Path]) -> None:
    vmlinuz, modules = own_kernel
    if index == "not indexed":
        for path in modules.glob("modules.*"):
            path.unlink()
    before = _state(modules)
    given = modules if index == "indexed" else modules.parents[2]  # INSTALL_MOD_PATH
    done = lab("--kernel", vmlinuz, "--modules", given, "-q")
    assert done.returncode == EXIT_CONFIRMED, done.stderr
    assert done.stdout.startswith("CONFIRMED svme-set-by-create-vm")
    assert _state(modules) == before


def test_a_missing_module_is_named(lab: Callable[..., Any], own_kernel: tuple[Path, Path]) -> None:
    vmlinuz, modules = own_kernel
    for path in modules.rglob("9p*.ko"):
        path.unlink()
    (modules / "modules.dep.bin").unlink()
    done = lab("--kernel", vmlinuz, "--modules", modules)
    assert done.returncode == EXIT_INCONCLUSIVE
    options = "CONFIG_9P_FS CONFIG_NET_9P CONFIG_NET_9P_VIRTIO"  # by the guest's own console
    assert f"lost: init could not build the guest's root: this kernel has no 9p ({options})" in done.stderr
    absent = f"{modules} has no module, and its modules.builtin no entry, for CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS"
    assert f"{absent} ('kvmprobe lab config' prints what the lab needs)" in done.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [(["sh", "-c", "echo out; echo err >&2; exit 7"], 7), (["/nonexistent"], 127), (["sh", "-c", "kill -9 $$"], 137)],
)
def test_any_command_and_its_status(command: list[str], status: int, real_kernel: RealKernel, tmp_path: Path) -> None:
    boot = Boot(real_kernel("bookworm"), payload.archive(["touch /etc/kvmprobe-lab-was-here"], command))
    result = qemu.boot(boot, tmp_path)
    assert (result.outcome, result.status) == (ANSWERED, status)
    if status == 7:
        assert (result.stdout, result.stderr) == (b"out\n", "err\n")
    assert not Path("/etc/kvmprobe-lab-was-here").exists()


def test_a_guest_that_panics_during_the_command(real_kernel: RealKernel, tmp_path: Path) -> None:
    boot = Boot(real_kernel("bookworm"), payload.archive([], ["sh", "-c", "echo c >/proc/sysrq-trigger"]))
    result = qemu.boot(boot, tmp_path)
    assert (result.outcome, result.status) == (LOST, None)
    assert result.reason == "the command never ended: Kernel panic - not syncing: sysrq triggered crash"


def test_qemu_is_not_installed(real_kernel: RealKernel, tmp_path: Path, only: Callable[..., None]) -> None:
    kernel = real_kernel("bookworm")
    only()
    with pytest.raises(Problem, match="qemu-system-x86_64 is not installed") as caught:
        qemu.boot(Boot(kernel, b""), tmp_path / "logs")
    assert "qemu-system-x86" in str(caught.value.hint)
    assert not (tmp_path / "logs").exists()


_RUN = ("run", "bookworm")
_MATRIX = ("matrix", "--only", "epyc,no-svm", "--kernels", "bookworm", "--jobs", "2")


@pytest.mark.parametrize(
    ("signum", "command"),
    [(signal.SIGTERM, _RUN), (signal.SIGINT, _RUN), (signal.SIGKILL, _RUN), (signal.SIGTERM, _MATRIX)],
    ids=["TERM", "INT", "KILL", "TERM of a matrix"],
)
def test_a_signal_leaves_no_qemu_and_no_files(
    signum: signal.Signals, command: tuple[str, ...], lab: Callable[..., Any], tmp_path: Path
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    try:
        home = userspace.fetch("bookworm", cache.default(), print).image.parent
    except Problem as problem:
        unavailable(problem)
    link = tmp_path / "cache" / home.parent.name / home.name
    link.parent.mkdir()
    link.symlink_to(home)
    process = subprocess.Popen(
        [sys.executable, "-m", "kvmprobe", "lab", *command, "--cache", str(tmp_path / "cache")],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(temp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(lambda: _qemus(temp))
        process.send_signal(signum)
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
    _wait_for(lambda: not _qemus(temp))
    _wait_for(lambda: not list(temp.iterdir()))
    if signum != signal.SIGKILL:
        assert process.returncode == 128 + signum
        assert f"ended by {signum.name}".encode() in output
        assert _logs(tmp_path) == []


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _qemus(temp: Path) -> list[str]:
    """The running QEMUs that boot something from the folder `temp`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu-system" in arguments[0] and any(bytes(temp) in argument for argument in arguments):
            found.append(path.parent.name)
    return found
