"""The processes that one test starts, directly or not, and the VMs that they have open.

They are known by a variable in their environment, which every child inherits. Processes of other tests, users and
VMMs on the same machine do not count.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from kvmprobe.host.kvm import VM_INODE
from tests.helpers.waiting import wait_until

VARIABLE = "KVMPROBE_TEST"
_END_DEADLINE_S = 10.0  # A child that reverts a change ends by itself, a moment after kvmprobe.


class OwnProcesses:
    """`mark`: the value of VARIABLE in the environment of these processes."""

    def __init__(self, mark: str) -> None:
        self._entry = f"{VARIABLE}={mark}".encode()
        self._started: list[subprocess.Popen[str]] = []

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process with pipes for its standard descriptors, unless `options` give others."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: subprocess.Popen[str] = subprocess.Popen(command, **{**pipes, "text": True, **options})
        self._started.append(process)
        return process

    def pids(self) -> list[int]:
        """Return those that are alive now."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self._entry in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                pass  # It has ended, or belongs to another user.
        return found

    def vms(self) -> int:
        """Return how many descriptors of VMs they have open."""
        return sum(link == VM_INODE for pid in self.pids() for link in open_files(pid))

    def end(self) -> None:
        """Wait until they have ended, kill those that have not, and close the pipes to those that `start` started."""
        ends = time.monotonic() + _END_DEADLINE_S
        for process in self._started:
            if process.poll() is None:
                process.kill()
        while (left := self.pids()) and time.monotonic() < ends:
            time.sleep(0.02)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for process in self._started:
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout, process.stderr)):
                with suppress(BrokenPipeError):  # What was not yet written.
                    pipe.close()
        wait_until(lambda: not self.pids())


def open_files(pid: int) -> list[str]:
    """Return what the descriptors of a process refer to ("anon_inode:kvm-vm"), [] where it has ended."""
    found = []
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # It was closed by now, as that which reads the folder.
                found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    except OSError:
        pass
    return found
