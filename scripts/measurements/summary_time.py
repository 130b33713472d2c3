"""The time of a summary of 100,000 stored reports, against two processes that only parse the files with json.loads."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kvmprobe import __version__

REPORTS = 100_000
CPUS = 16
AIM_S, AIM_MIB, AIM_JUDGED = 60, 300, 3
_EVIDENCE = Path(__file__).parents[2] / "tests/evidence/matrix/bookworm/epyc.json"
# The reference: every report has to be read and parsed.
_PARSE = """
import json, os, sys
part = int(sys.argv[2])
for number, (folder, _, names) in enumerate(sorted(os.walk(sys.argv[1]))):
    if number % 2 == part:
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                json.loads(file.read())
"""


def report(cpus: int) -> Any:
    """A recorded report whose host has `cpus` CPUs, all like its first."""
    data = json.loads(_EVIDENCE.read_text())
    evidence = data["evidence"]
    evidence["host"]["name"] = "@"
    evidence["cpus"]["online"] = evidence["cpus"]["online_at_end"] = f"0-{cpus - 1}"
    places = [evidence["cpus"]["cpuid"], evidence["cpus"]["cpuinfo"], *(one["cpus"] for one in evidence["snapshots"])]
    for place in places:
        place.update({str(cpu): copy.deepcopy(place["0"]) for cpu in range(cpus)})
    for cpu, registers in evidence["snapshots"][1]["cpus"].items():
        registers["VM_HSAVE_PA"] = hex(0x1000 * (int(cpu) + 1))
    evidence["guest"] = [{**evidence["guest"][0], "cpu": cpu} for cpu in range(cpus)]
    return data


def fill(folder: Path, number: int, version: str = __version__) -> int:
    """Writes the reports of `number` hosts, a thousand per folder. Returns the size of one in bytes."""
    data = report(CPUS)
    data["tool"]["version"] = version
    before, after = (json.dumps(data, indent=1) + "\n").encode().split(b'"@"')
    for index in range(number):
        place = folder / f"{index // 1000:03}"
        if not index % 1000:
            place.mkdir(parents=True)
        (place / f"{index}.json").write_bytes(b'%b"node-%d"%b' % (before, index, after))
    return len(before) + len(after)


def parsed(folder: Path) -> float:
    """Seconds that two processes need to parse all files."""
    started = time.perf_counter()
    processes = [subprocess.Popen([sys.executable, "-I", "-c", _PARSE, str(folder), str(part)]) for part in range(2)]
    for process in processes:
        process.wait()
    return time.perf_counter() - started


def summarized(folder: Path, *arguments: str) -> float:
    """Seconds of a whole `kvmprobe summary`."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "kvmprobe", "summary", "-q", *arguments, str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    """Prints times, ratios and memory."""
    with tempfile.TemporaryDirectory(prefix="kvmprobe-bench-") as temp:
        number = REPORTS
        while shutil.disk_usage(temp).free < number * 60_000 and number > 1000:
            number //= 2
        size = fill(Path(temp, "own"), number)
        # One at a time: RUSAGE_CHILDREN has the peak of the largest child so far.
        times = [(summarized(Path(temp, "own")), parsed(Path(temp, "own"))) for _ in range(rounds)]
        own, parse = (statistics.median(found) for found in zip(*times))
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        page = summarized(Path(temp, "own"), "--format", "html")
        fill(Path(temp, "others"), number // 20, "0.0.0")
        judged = summarized(Path(temp, "others")) * 20
    share = f" (of {REPORTS:,}: the disk is too small)" if number < REPORTS else ""
    print(
        f"{number:,} reports{share} of {CPUS} CPUs, {size / 1000:.0f} kB each, {len(os.sched_getaffinity(0))} CPUs here"
    )
    print(f"summary {own:.1f} s (aim: {AIM_S} for {REPORTS:,}), json.loads in two processes {parse:.1f} s: ", end="")
    print(f"{own / parse:.2f} times; the page {page:.1f} s")
    print(f"reports of another version, judged again: {judged:.0f} s (extrapolated from a twentieth), ", end="")
    print(f"{judged / own:.2f} times (aim: {AIM_JUDGED} or less)")
    print(f"the largest process used {memory:.0f} MiB (aim: {AIM_MIB} or less)")
