"""Makes the system calls of a real probe fail, one after the other, each with each errno it can have, by strace.

A program of its own, for this host and for guests of the lab: sweep.py [--only REGEX] [--first] [--jobs N] -- COMMAND…
COMMAND is `kvmprobe check --json`, however it is started. Prints one JSON object: what was tried, and what was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

DEADLINE_S = 120  # generous: only against hanging
PROMISED = (0, 1, 3, 4)
BORROWED = ("msr", "cpuid")

# Whose calls are of interest, and what strace calls them.
_PATH = re.compile(
    r"/dev/kvm\b|anon_inode:kvm-[\w:]+|/dev/cpu/\d+/\w+|/dev/kmsg|/sys/[^\"<>]*|(?:/usr)?/sbin/modprobe|/proc/modules|/proc/cpuinfo"
)
_CALL = re.compile(r"\d+\s+(\w+)\(")
_STAT = ("ENOENT", "EACCES", "ELOOP")
_MODULE = ("EPERM", "EBUSY", "ENOEXEC", "ENOMEM")
# What each can answer; a number is an answer that is too short.
ERRORS: dict[str, tuple[str, ...]] = {
    "openat": ("ENOENT", "EACCES", "EPERM", "ENXIO", "ENODEV", "EBUSY", "EMFILE", "ENOMEM", "EIO", "EINTR"),
    "read": ("EIO", "EINTR", "EPERM", "ENODEV", "0", "1"),
    "pread64": ("EIO", "EINTR", "EPERM", "ENXIO", "0", "3"),
    "ioctl": ("EINVAL", "EIO", "ENOMEM", "EBUSY", "EPERM", "EFAULT", "ENOTTY", "EMFILE", "EINTR"),
    "mmap": ("ENOMEM", "EACCES", "ENODEV"),
    "fcntl": ("EMFILE",),
    "newfstatat": _STAT,
    "stat": _STAT,
    "access": _STAT,
    "readlink": _STAT,
    "getdents64": ("EIO", "ENOENT"),
    "close": ("EIO", "EINTR"),
    "execve": ("ENOENT", "EACCES", "ENOMEM"),
    "finit_module": _MODULE,
    "init_module": _MODULE,
    "delete_module": ("EBUSY", "EPERM"),
}


class Fault(NamedTuple):
    call: str
    path: str  # "" where it is not about a file
    when: int
    error: str

    def inject(self) -> list[str]:
        what = f"retval={self.error}" if self.error.isdigit() else f"error={self.error}"
        where = ["-P", self.path] if self.path else []
        return [*where, "-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.when}"]


def strace(arguments: list[str], command: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    traced = ["strace", "-f", "-y", "-qq", "-o", str(log), *arguments, *command]
    return subprocess.run(traced, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def faults(command: list[str], folder: Path, only: str, first: bool) -> Iterator[Fault]:
    """What an undisturbed run shows: each call on each file, the first time and the last."""
    log = folder / "undisturbed"
    strace(["-e", "trace=" + ",".join(f"?{call}" for call in ERRORS)], command, log)
    seen: dict[tuple[str, str], int] = {}
    for line in log.read_text(errors="replace").splitlines():
        call, path = _CALL.match(line), _PATH.search(line)
        if call and (path or "module" in call[1]):
            key = (call[1], path[0] if path else "")
            seen[key] = seen.get(key, 0) + 1
    for (name, file), count in seen.items():
        if re.search(only, f"{name} {file}"):
            for when in sorted({1, count}):
                for error in ERRORS[name][: 1 if first else None]:
                    yield Fault(name, file, when, error)


def try_one(fault: Fault, command: list[str], log: Path) -> str | None:
    """What was wrong, if anything."""
    before = borrowed()
    try:
        done = strace(fault.inject(), command, log)
    except subprocess.TimeoutExpired:
        return "hang"
    return _wrong(done) or left_loaded(before, done.stdout)


def _wrong(done: subprocess.CompletedProcess[str]) -> str | None:
    if "Traceback" in done.stderr or "internal error" in done.stderr:
        return done.stderr
    if done.returncode not in PROMISED:
        return f"exit status {done.returncode}: {done.stderr}"
    if not done.stdout:
        return None if done.stderr.startswith("kvmprobe: ") else f"no report and no word: {done.stderr!r}"
    report = json.loads(done.stdout)
    if report["verdict"]["status"] == "confirmed" and not _shown_by_registers(report["evidence"]):
        return f"confirmed without the registers: {report['verdict']['summary']}"
    return None


def left_loaded(before: set[str], said: str) -> str | None:
    """Modules that stayed although no report says so. They are unloaded, so that the next probe borrows them again."""
    left = borrowed() - before
    for name in left:
        subprocess.run(["rmmod", name], check=False)
    admitted = (
        {load["module"] for load in json.loads(said)["evidence"]["loads"] if load["unloaded"] is False} if said else ()
    )
    return f"left loaded: {left}" if left.difference(admitted) else None


def borrowed() -> set[str]:
    return {name for name in BORROWED if os.path.exists(f"/sys/module/{name}/initstate")}


def _shown_by_registers(evidence: Any) -> bool:
    created = [snapshot["cpus"].values() for snapshot in evidence["snapshots"] if snapshot["phase"] == "created"]
    values = [registers["EFER"] for cpus in created for registers in cpus]
    return bool(values) and all(isinstance(value, str) and int(value, 16) >> 12 & 1 for value in values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="calls and files that this matches")
    parser.add_argument("--first", action="store_true", help="one errno each")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = list(faults(options.command, folder, options.only, options.first))
        with ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(lambda i: try_one(plan[i], options.command, folder / str(i)), range(len(plan)))
            wrong = {" ".join(map(str, fault)): what for fault, what in zip(plan, found) if what}
        injected = sum("INJECTED" in (folder / str(i)).read_text(errors="replace") for i in range(len(plan)))
    json.dump(
        {"tried": len(plan), "injected": injected, "wrong": wrong, "calls": len({f[:2] for f in plan})}, sys.stdout
    )


if __name__ == "__main__":
    main()
