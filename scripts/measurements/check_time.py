"""The time and memory of a check, against other processes of the same run, interleaved so that noise affects all."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time

BASE = "python3 -I, importing ctypes and json"
CHECK = "kvmprobe check --json"
KVMPROBE = os.path.join(os.path.dirname(sys.executable), "kvmprobe")

COMMANDS = {
    BASE: [sys.executable, "-I", "-c", "import ctypes, json"],
    CHECK: [KVMPROBE, "check", "--json"],
    "kvm-ok": ["kvm-ok"],
    "virt-host-validate": ["virt-host-validate", "qemu"],
}

# Compiled modules are kept, as where kvmprobe is installed.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: list[str]) -> float:
    """Wall time in seconds of one process."""
    null = subprocess.DEVNULL
    started = time.perf_counter()
    subprocess.run(command, stdin=null, stdout=null, stderr=null, env=_ENVIRONMENT, check=False)
    return time.perf_counter() - started


def peak_memory(code: str) -> float:
    """The peak resident memory, in MiB, of a Python that runs `code`, from its own /proc/self/status.

    wait4() would include the parent's memory before the child's exec.
    """
    own = "; import re; print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; {code}{own}"]
    done = subprocess.run(command, capture_output=True, text=True, env=_ENVIRONMENT, check=True)
    return int(done.stderr.split()[-1]) / 1024


def main(rounds: int) -> None:
    """Prints times and ratios to the base."""
    commands = {name: command for name, command in COMMANDS.items() if shutil.which(command[0])}
    results: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)  # compiles the modules
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(run(command))
    medians = {name: statistics.median(times) for name, times in results.items()}
    print(f"median of {rounds} rounds on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}\n")
    print(f"{'':40}{'time':>10}{'to base':>10}")
    for name, seconds in medians.items():
        print(f"{name:40}{seconds * 1000:7.1f} ms{seconds / medians[BASE]:10.2f}")
    print(f"\n{CHECK} takes {medians[CHECK] / medians[BASE]:.2f} times the base (aim: 2.5 or less)")
    for name in list(COMMANDS)[2:]:
        if name in medians:
            print(f"{CHECK} takes {medians[CHECK] / medians[name]:.2f} times {name}")
        else:
            print(f"{name} is not installed")
    memory = peak_memory("from kvmprobe.cli import parser; parser.run(['check', '--json'])")
    base = peak_memory("import ctypes, json")
    print(f"its peak memory is {memory:.1f} MiB (aim: under 30), {memory / base:.2f} times the base's {base:.1f} MiB")
