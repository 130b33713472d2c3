"""For the tests of `kvmprobe watch`: commands to watch, and the state of their processes as the kernel shows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.own_processes import OwnProcesses
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

# A VMM in Python. It makes its ioctls in another way than kvmprobe: by fcntl, not by ctypes.
VMM = """
import fcntl, os, signal, sys, threading, time
from kvmprobe.host.kvm import REQUESTS
def ask(fd, name):
    while True:
        try:
            return fcntl.ioctl(fd, REQUESTS[name], 0)
        except InterruptedError:
            pass
def vm():
    device = os.open("/dev/kvm", os.O_RDWR)
    assert ask(device, "KVM_GET_API_VERSION") == 12
    vm = ask(device, "KVM_CREATE_VM")
    return device, vm, ask(vm, "KVM_CREATE_VCPU")
def close(fds):
    for fd in reversed(fds):
        os.close(fd)
"""


def vmm(code: str) -> list[str]:
    """Return the command that runs `code` after VMM."""
    return [sys.executable, "-c", VMM + code]


def watch(tmp_path: Path, *arguments: str | Path, **options: Any) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """Run `kvmprobe watch` to its end and return its report and its process."""
    report = tmp_path / "report.json"
    done = kvmprobe("watch", "--json", "-o", report, *arguments, **options)
    return json.loads(report.read_text()), done


def start_watch(
    own_processes: OwnProcesses, tmp_path: Path, *arguments: str | Path, **options: Any
) -> subprocess.Popen[str]:
    """Start `kvmprobe watch`. When it has ended, its report is in report.json."""
    command = [sys.executable, "-m", "kvmprobe", "watch", "--json", "-o", tmp_path / "report.json", *arguments]
    return own_processes.start(list(map(str, command)), cwd=PROJECT, **options)


def qemu(tmp_path: Path, *arguments: str) -> list[str]:
    """Return the command of a QEMU with KVM whose guest ends it with status 33 as soon as it runs.

    An option ROM writes to the device isa-debug-exit.
    """
    binary = shutil.which("qemu-system-x86_64")
    if binary is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        reason = "no qemu-system-x86_64 (apt-get install qemu-system-x86) or no /dev/kvm here"
        if binary is None and os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail(reason)
        pytest.skip(reason)
    code = b"\xb0\x10\xe6\xf4\xcb"  # mov al, 0x10; out 0xf4, al; retf
    rom = (b"\x55\xaa\x01" + code).ljust(511, b"\0")
    path = tmp_path / "exit.rom"
    path.write_bytes(rom + bytes([-sum(rom) & 0xFF]))
    return [
        *(binary, "-accel", "kvm", "-machine", "q35", "-m", "64M", "-nodefaults", "-display", "none", "-no-reboot"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-option-rom", str(path), *arguments),
    ]


def status(pid: int) -> dict[str, str]:
    """Return the fields of /proc/PID/status, {} where the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def is_free(pid: int) -> bool:
    """Return whether a process or thread is gone, or neither traced nor stopped."""
    fields = status(pid)
    return not fields or fields["State"][0] == "Z" or (fields["TracerPid"] == "0" and fields["State"][0] not in "Tt")


def names(report: Any) -> list[str]:
    """Return the names of the watched calls, without those that a signal interrupted: the program retried them."""
    calls = report["evidence"]["watch"]["calls"]
    return [call["name"] for call in calls if call["answer"] != {"error": "EINTR"}]
