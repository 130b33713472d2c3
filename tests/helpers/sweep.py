"""Makes the system calls of a real probe fail, one after the other, each with each errno it can have, by strace.

A program of its own, for this host and for guests of the lab:
`python3 -m tests.helpers.sweep [--only REGEX] [--first] [--children N] [--jobs N] -- COMMAND…`
COMMAND is `kvmprobe check --json`, started by Python's -m. --children: also the calls of the children that kvmprobe
forks, each by itself; N faults of each call, 0 for all. It prints one JSON object: what was tried, what was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.left_behind import VARIABLE, kill_processes_of, left_behind, machine_state

DEADLINE_S = 120  # Generous: it only keeps the sweep from waiting for ever.
PROMISED = (0, 1, 3, 4)
TRACED_CHILD = Path(__file__).with_name("traced_child.py")

# The files on which calls are of interest, as strace names them.
_PATH = re.compile(
    r"/dev/kvm\b|anon_inode:kvm-[\w:]+|/dev/cpu/\d+/\w+|/dev/kmsg|/sys/[^\"<>]*|(?:/usr)?/sbin/modprobe|/proc/modules|/proc/cpuinfo"
)
# Files that one piece of code reads in the same way: the first and the last one of a folder stand for all.
_ALIKE = re.compile(
    r"/sys/module/[^/]+/parameters/|/sys/devices/system/cpu/vulnerabilities/|/sys/kernel/mm/hugepages/"
    r"|/sys/kernel/iommu_groups/|/sys/class/misc/"
)
_CALL = re.compile(r"(?:\d+\s+)?(\w+)\(")
_STAT = ("ENOENT", "EACCES", "ELOOP")
_MODULE = ("EPERM", "EBUSY", "ENOEXEC", "ENOMEM")
# What each system call can answer. A number is a result, shorter than expected.
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

# The same for the calls of a child, which are of interest whatever file they are on. ENOENT is not among them: it is
# what shows that a module is not loaded.
CHILD_ERRORS: dict[str, tuple[str, ...]] = {
    "read": ("EIO", "0"),
    "write": ("EIO", "EPIPE", "1"),
    "wait4": ("ECHILD",),
    "poll": ("EIO", "0"),
    "ppoll": ("EIO", "0"),
    "select": ("EIO", "0"),
    "pselect6": ("EIO", "0"),
    "getdents64": ("EIO",),
    "getrandom": ("ENOSYS",),
    "openat": ("EMFILE", "EIO"),
    "close": ("EIO",),
    "pipe2": ("EMFILE",),
    "fork": ("EAGAIN",),
    "vfork": ("EAGAIN",),
    "clone": ("EAGAIN",),
    "clone3": ("EAGAIN",),
    "dup2": ("EMFILE",),
    "fcntl": ("EMFILE",),
    "newfstatat": ("EACCES", "EIO"),
    "stat": ("EACCES", "EIO"),
    "access": ("EACCES", "EIO"),
    "readlink": ("EACCES",),
    "lseek": ("EIO",),
    "setsid": ("EPERM",),
    "rt_sigaction": ("EINVAL",),
    "rt_sigprocmask": ("EINVAL",),
    "sched_setaffinity": ("EINVAL",),
    "clock_nanosleep": ("EINVAL",),
    "mmap": ("ENOMEM",),
    "kill": ("EPERM",),
}


# Errors that show what a process may do or has, whatever call answers so: never a failure of the host.
OWN_ERRORS = ("EACCES", "EPERM", "ENOSYS", "EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN")


class Fault(NamedTuple):
    """The call number `when` on a file fails. `path` is "" for a call that has no file.

    `child`: the number of the child of kvmprobe whose call it is; 0: whoever makes it.
    """

    call: str
    path: str
    when: int
    error: str
    child: int = 0

    def inject(self) -> list[str]:
        """Return strace's arguments."""
        what = f"retval={self.error}" if self.error.isdigit() else f"error={self.error}"
        where = ["-P", self.path] if self.path else []
        return [*where, "-e", f"trace={self.call}", "-e", f"inject={self.call}:{what}:when={self.when}"]


def strace(arguments: list[str], command: list[str], log: Path, child: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command under strace, or one child of it, whose output goes to `log`."""
    if child:
        at = command.index("-m")
        traced = [*command[:at], str(TRACED_CHILD), str(child), str(log), *arguments, "--", *command[at:]]
    else:
        traced = ["strace", "-f", "-y", "-qq", "-o", str(log), *arguments, *command]
    environment = {**os.environ, VARIABLE: log.name}
    return subprocess.run(traced, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=environment)


def faults(command: list[str], folder: Path, only: str, first: bool) -> Iterator[Fault]:
    """Return the faults to try: of each call on each file that an undisturbed run makes, the first and the last.

    `only`: calls and files that this regular expression matches. `first`: one errno for each call.
    """
    log = folder / "undisturbed"
    strace(["-e", "trace=" + ",".join(f"?{call}" for call in ERRORS)], command, log)
    counts: dict[tuple[str, str], int] = {}
    for line in log.read_text(errors="replace").splitlines():
        call, path = _CALL.match(line), _PATH.search(line)
        if call and (path or "module" in call[1]):
            key = (call[1], path[0] if path else "")
            counts[key] = counts.get(key, 0) + 1
    for (name, file), count in _without_alike(counts).items():
        if re.search(only, f"{name} {file}"):
            for when in sorted({1, count}):
                for error in ERRORS[name][: 1 if first else None]:
                    yield Fault(name, file, when, error)


def _without_alike(counts: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """The counts without the files between the first and the last of a folder whose files are read alike."""
    folders: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for call, file in counts:
        found = _ALIKE.match(file)
        folders.setdefault((call, found[0] if found else file), []).append((call, file))
    kept = {key for keys in folders.values() for key in (keys[0], keys[-1])}
    return {key: count for key, count in counts.items() if key in kept}


def child_faults(command: list[str], folder: Path, only: str, most: int) -> Iterator[Fault]:
    """Return the faults to try in the children: of each call, those that an undisturbed run makes.

    `most`: of each call so many, chosen at random; 0: all.
    """
    child = 1
    while (log := folder / f"child {child}") and strace([], command, log, child) and log.exists():
        calls: dict[str, list[int]] = {}
        counts: dict[str, int] = {}
        for line in log.read_text(errors="replace").splitlines():
            call = _CALL.match(line)
            name = call[1] if call else ""
            counts[name] = counts.get(name, 0) + 1
            if name in CHILD_ERRORS and re.search(only, f"{name} child"):
                calls.setdefault(name, []).append(counts[name])
        for name, all_numbers in calls.items():
            every = [Fault(name, "", when, error, child) for when in all_numbers for error in CHILD_ERRORS[name]]
            yield from random.sample(every, min(most or len(every), len(every)))
        child += 1


def try_fault(fault: Fault, command: list[str], log: Path, usual: str) -> str | None:
    """Run the command with one fault and return what was wrong, None where nothing was.

    `usual`: the status of the verdict without it.
    """
    before = machine_state()
    try:
        done = strace(fault.inject(), command, log, fault.child)
    except subprocess.TimeoutExpired:
        kill_processes_of(log.name)
        return "hang"
    return _wrong(done) or _blamed(done, fault, usual) or left_behind(before, log.name, done.stdout)


def _blamed(done: subprocess.CompletedProcess[str], fault: Fault, usual: str) -> str | None:
    """An error of this process's own that became a failure of the host."""
    if not done.stdout or usual == "failed" or fault.error not in OWN_ERRORS:
        return None
    verdict = json.loads(done.stdout)["verdict"]
    return f"failed {verdict['reason']}: {verdict['summary']}" if verdict["status"] == "failed" else None


def _wrong(done: subprocess.CompletedProcess[str]) -> str | None:
    if "Traceback" in done.stderr or "internal error" in done.stderr:
        return done.stderr
    if done.returncode not in PROMISED:
        return f"exit status {done.returncode}: {done.stderr}"
    if not done.stdout:
        return None if done.stderr.startswith("kvmprobe: ") else f"neither a report nor a message: {done.stderr!r}"
    report = json.loads(done.stdout)
    if report["verdict"]["status"] == "confirmed" and not _registers_confirm(report["evidence"]):
        return f"confirmed without the registers: {report['verdict']['summary']}"
    return None


def _registers_confirm(evidence: Any) -> bool:
    created = [snapshot["cpus"].values() for snapshot in evidence["snapshots"] if snapshot["phase"] == "created"]
    values = [registers["EFER"] for cpus in created for registers in cpus]
    return bool(values) and all(isinstance(value, str) and int(value, 16) >> 12 & 1 for value in values)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="calls and files that this matches")
    parser.add_argument("--first", action="store_true", help="one errno each")
    parser.add_argument("--children", type=int, metavar="N", help="also calls of the children, N of each, 0: all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = list(faults(options.command, folder, options.only, options.first))
        if options.children is not None:
            plan += child_faults(options.command, folder, options.only, options.children)
        undisturbed = subprocess.run(options.command, capture_output=True, text=True, check=False).stdout
        usual = json.loads(undisturbed)["verdict"]["status"]
        with ThreadPoolExecutor(options.jobs) as pool:
            logs = [folder / f"{os.getpid()}-{i}" for i in range(len(plan))]
            run = lambda i: try_fault(plan[i], options.command, logs[i], usual)  # noqa: E731
            found = pool.map(run, range(len(plan)))
            wrong = {" ".join(map(str, fault)): what for fault, what in zip(plan, found) if what}
        injected = sum(log.exists() and "INJECTED" in log.read_text(errors="replace") for log in logs)
    counts = {
        "tried": len(plan),
        "injected": injected,
        "calls": len({fault[:2] for fault in plan}),
        "children": len({fault.child for fault in plan if fault.child}),
    }
    json.dump({**counts, "wrong": wrong}, sys.stdout)


if __name__ == "__main__":
    main()
