"""The time per CPU, from 2 to 4,096 CPUs, with a folder of sparse files in place of /dev/cpu (--sysroot).

The reference for the reads is a C program with the same preads. The time of a whole check must grow linearly, as must
time, memory and size of what is made of a stored report.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kvmprobe.host import cpuid, msr
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.registers import LEAVES, SNAPSHOT_REGISTERS
from scripts.measurements.summary_time import report

CPUS = (2, 16, 128, 1024, 4096)
# What is made of a stored report: arguments before the file.
MADE = {
    "text": ("judge",),
    "json": ("judge", "--format", "json"),
    "html": ("judge", "--format", "html"),
    "summary": ("summary",),
    "summary html": ("summary", "--format", "html"),
}
_WITH_PEAK = "import resource, sys; from kvmprobe.cli import parser; parser.run(sys.argv[1:]); \
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
SNAPSHOTS = ("before", "created", "closed")
SVM_LEAVES = {
    0x0: (0xD, 0x68747541, 0x444D4163, 0x69746E65),
    0x80000000: (0x8000001F, 0, 0, 0),
    0x80000001: (0, 0, 4, 0),
}


def tree(folder: Path, cpus: int) -> None:
    """Writes a host with this many CPUs into `folder`: what a check reads there. The files are sparse."""
    online = folder / "sys/devices/system/cpu/online"
    online.parent.mkdir(parents=True, exist_ok=True)
    online.write_text(f"0-{cpus - 1}\n")
    for cpu in range(cpus):
        place = folder / f"dev/cpu/{cpu}"
        place.mkdir(parents=True)
        with (place / "cpuid").open("wb") as file:
            for leaf in LEAVES:
                words = SVM_LEAVES.get(leaf, (0, 0, 0, 0))
                file.seek(leaf * 16)
                file.write(b"".join(word.to_bytes(4, "little") for word in words))
        with (place / "msr").open("wb") as file:
            for register in SNAPSHOT_REGISTERS:
                file.seek(register.number * 8)
                file.write((0xD01 if register.name == "EFER" else 0).to_bytes(8, "little"))


def in_c(program: str, folder: Path, cpus: int) -> float:
    """Seconds of the reads in C."""
    return float(subprocess.run([program, str(folder), str(cpus)], capture_output=True, check=True).stdout)


def in_kvmprobe(folder: Path, cpus: int) -> float:
    """Seconds of the same reads by kvmprobe's own functions, with their results."""
    root = Sysroot(str(folder))
    started = time.perf_counter()
    for cpu in range(cpus):
        cpuid.read_leaves(root, cpu)
    for phase in SNAPSHOTS:
        msr.take_snapshot(root, range(cpus), phase)
    return time.perf_counter() - started


def whole(folder: Path) -> float:
    """Seconds of a whole check of that host, from start to exit, with judging and writing."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "kvmprobe", "check", "--json", "--sysroot", str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def made(file: Path, arguments: tuple[str, ...]) -> tuple[float, float, int, int]:
    """Seconds, MiB at the peak, bytes and lines of what `kvmprobe` makes of a report."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _WITH_PEAK, *arguments, str(file)]
    done = subprocess.run(command, capture_output=True, check=True)
    seconds = time.perf_counter() - started
    return seconds, int(done.stderr.split()[-1]) / 1024, len(done.stdout), done.stdout.count(b"\n")


def stored(rounds: int) -> None:
    """Prints what a stored report of many CPUs costs."""
    print(f"\n{'':14}{'CPUs':>6}{'time':>11}{'memory':>10}{'bytes':>12}{'lines':>8}")
    with tempfile.TemporaryDirectory(prefix="kvmprobe-bench-") as temp:
        file = Path(temp, "report.json")
        for name, arguments in MADE.items():
            for cpus in (16, *CPUS[-2:]):
                file.write_text(json.dumps(report(cpus), indent=1))
                found = [made(file, arguments) for _ in range(rounds)]
                seconds, memory, size, lines = (statistics.median(values) for values in zip(*found))
                print(f"{name:14}{cpus:6}{seconds * 1e3:8.0f} ms{memory:6.0f} MiB{size:12,.0f}{lines:8,.0f}")


def main(rounds: int) -> None:
    """Prints times and ratios by number of CPUs."""
    with tempfile.TemporaryDirectory(prefix="kvmprobe-bench-") as temp:
        program = os.path.join(temp, "preads")
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("preads.c")], check=True)
        print(f"\n{'CPUs':>6}{'reads in C':>14}{'in kvmprobe':>14}{'ratio':>8}{'whole check':>14}")
        found: dict[int, tuple[float, float, float]] = {}
        for cpus in CPUS:
            folder = Path(temp, str(cpus))
            tree(folder, cpus)
            times = [(in_c(program, folder, cpus), in_kvmprobe(folder, cpus), whole(folder)) for _ in range(rounds)]
            c, own, check = found[cpus] = tuple(map(statistics.median, zip(*times)))
            print(f"{cpus:6}{c * 1e3:11.2f} ms{own * 1e3:11.2f} ms{own / c:8.2f}{check * 1e3:11.1f} ms")
        c, own, _ = found[CPUS[-1]]
        print(f"reading {CPUS[-1]} CPUs takes {own / c:.2f} times the time in C (aim: 3 or less)")
        cost = [(found[b][2] - found[a][2]) / (b - a) * 1e6 for a, b in zip(CPUS[1:], CPUS[2:])]
        costs = " and then ".join(f"{one:.0f} µs" for one in cost)
        print(f"one more CPU adds {costs} to a whole check (aim: equal, so linear)")
    stored(rounds)
