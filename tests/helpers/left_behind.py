"""What a run of kvmprobe leaves behind: modules, trace instances, offline CPUs, processes with their VMs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

VARIABLE = "KVMPROBE_RUN"  # in the environment of all processes of one run
TEMPORARY = ("msr", "cpuid")  # The modules that a probe loads and unloads.
_INSTANCES = ("/sys/kernel/tracing/instances", "/sys/kernel/debug/tracing/instances")
_OFFLINE = Path("/sys/devices/system/cpu/offline")
_DEADLINE_S = 60.0  # Generous. A child that reverts a change ends by itself, a moment after kvmprobe.


def machine_state() -> set[str]:
    """Return the modules of TEMPORARY that are loaded, the trace instances, and which CPUs are offline."""
    modules = {name for name in TEMPORARY if os.path.exists(f"/sys/module/{name}/initstate")}
    instances = {str(path) for folder in _INSTANCES for path in Path(folder).glob("kvmprobe-*")}
    return modules | instances | {f"offline: {_OFFLINE.read_text().strip() if _OFFLINE.exists() else ''}"}


def processes_of(run: str) -> list[int]:
    """Return the processes that have VARIABLE=`run` in their environment, apart from zombies."""
    entry, found = f"{VARIABLE}={run}".encode(), []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and entry in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            pass  # It has ended.
    return found


def kill_processes_of(run: str) -> None:
    """End all processes of a run."""
    for pid in processes_of(run):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def left_behind(before: set[str], run: str, stdout: str) -> str | None:
    """Return what a run left behind although its report does not state it, None where that is nothing.

    `before`: machine_state() before the run. `stdout`: the report as JSON, if there is one. It waits until the
    processes of the run have ended. Modules are unloaded for the next run.
    """
    ends = time.monotonic() + _DEADLINE_S
    while (left := processes_of(run)) and time.monotonic() < ends:
        time.sleep(0.02)
    if left:
        kill_processes_of(run)
        return f"processes {left} run on"
    changed = machine_state() ^ before
    loads = json.loads(stdout)["evidence"]["loads"] if stdout else ()
    reported = {load["module"] for load in loads if load["unloaded"] is False}
    for name in changed.intersection(TEMPORARY):
        subprocess.run(["rmmod", name], check=False)
    return f"left behind: {sorted(changed)}" if changed - reported else None
