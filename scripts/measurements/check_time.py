"""The time and memory of a check, against other processes of the same run, interleaved so that noise affects all.

The time is that of the CPU, of a process and its children: other processes of the machine change it less.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

BASE = "python3 -I, importing ctypes and json"
CHECK = "kvmprobe check --json"
PYZ = "kvmprobe.pyz check --json"
AIM, PYZ_AIM = 2.2, 1.5
KVMPROBE = os.path.join(os.path.dirname(sys.executable), "kvmprobe")

COMMANDS = {
    BASE: [sys.executable, "-I", "-c", "import ctypes, json"],
    CHECK: [KVMPROBE, "check", "--json"],
    PYZ: [str(Path(__file__).parents[2] / "dist/kvmprobe.pyz"), "check", "--json"],  # where scripts/build has run
    "kvm-ok": ["kvm-ok"],
    "virt-host-validate": ["virt-host-validate", "qemu"],
}

# Compiled modules are kept, as where kvmprobe is installed.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: list[str]) -> float:
    """Seconds of CPU time, user and system, of one process and its children."""
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=_ENVIRONMENT)
    usage = os.wait4(process.pid, 0)[2]
    process.returncode = 0  # wait4() has taken it
    return usage.ru_utime + usage.ru_stime


def peak_memory(code: str) -> float:
    """The peak resident memory, in MiB, of a Python that runs `code`, from its own /proc/self/status.

    wait4() would include the parent's memory before the child's exec.
    """
    own = "; import re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; {code}{own}"]
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, check=True)
    return int(done.stderr.split()[-1]) / 1024


def _ratio(times: list[float], others: list[float]) -> float:
    """The median of the ratios within each round, in which the machine was about equally busy."""
    return statistics.median(one / other for one, other in zip(times, others))


def main(rounds: int) -> None:
    """Prints times and ratios to the base."""
    commands = {name: command for name, command in COMMANDS.items() if shutil.which(command[0])}
    results: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)  # compiles the modules
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(run(command))
    print(f"CPU time, median of {rounds} rounds on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}\n")
    print(f"{'':40}{'time':>10}{'to base':>10}")
    for name, times in results.items():
        print(f"{name:40}{statistics.median(times) * 1000:7.1f} ms{_ratio(times, results[BASE]):10.2f}")
    print(f"\n{CHECK} takes {_ratio(results[CHECK], results[BASE]):.2f} times the base (aim: {AIM} or less)")
    for name in list(COMMANDS)[2:]:
        if name not in results:
            print(f"{COMMANDS[name][0]} is not there" + (": scripts/build makes it" if name == PYZ else ""))
        elif name == PYZ:
            print(f"{PYZ} takes {_ratio(results[PYZ], results[CHECK]):.2f} times {CHECK} (aim: {PYZ_AIM} or less)")
        else:
            print(f"{CHECK} takes {_ratio(results[CHECK], results[name]):.2f} times {name}")
    memory = peak_memory("from kvmprobe.cli import parser; parser.run(['check', '--json'])")
    base = peak_memory("import ctypes, json")
    print(f"its peak memory is {memory:.1f} MiB (aim: under 30), {memory / base:.2f} times the base's {base:.1f} MiB")
