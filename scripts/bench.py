"""What a probe costs, as ratios to other processes of the same run, interleaved so that noise hits all alike."""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time

BASE = "python3 -I, importing ctypes and json"
PROBE = "kvmprobe check --json"
KVMPROBE = os.path.join(os.path.dirname(sys.executable), "kvmprobe")

COMMANDS = {
    BASE: [sys.executable, "-I", "-c", "import ctypes, json"],
    PROBE: [KVMPROBE, "check", "--json"],
    "kvm-ok": ["kvm-ok"],
    "virt-host-validate": ["virt-host-validate", "qemu"],
}

# What is compiled stays compiled, as where kvmprobe is installed.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def run(command: list[str]) -> tuple[float, int]:
    """Wall time in seconds and peak resident memory in KiB of one process."""
    null = subprocess.DEVNULL
    started = time.perf_counter()
    process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=_ENVIRONMENT)
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0  # it has been waited for
    return time.perf_counter() - started, usage.ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="how often each command is run (%(default)s)")
    rounds = parser.parse_args().rounds
    commands = {name: command for name, command in COMMANDS.items() if shutil.which(command[0])}
    results: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for command in commands.values():
        run(command)  # compiles what is to be compiled
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(run(command))
    medians = {name: statistics.median(seconds for seconds, _ in runs) for name, runs in results.items()}
    print(f"median of {rounds} rounds on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}\n")
    print(f"{'':40}{'time':>10}{'to base':>10}{'memory':>12}")
    for name, runs in results.items():
        ratio = medians[name] / medians[BASE]
        print(f"{name:40}{medians[name] * 1000:7.1f} ms{ratio:10.2f}{max(kib for _, kib in runs) / 1024:9.1f} MiB")
    print(f"\n{PROBE} takes {medians[PROBE] / medians[BASE]:.2f} times the base (aim: 2.5 or less)")
    for name in list(COMMANDS)[2:]:
        if name in medians:
            print(f"{PROBE} takes {medians[PROBE] / medians[name]:.2f} times {name}")
        else:
            print(f"{name} is not installed")
    print(f"its peak memory is {max(kib for _, kib in results[PROBE]) / 1024:.1f} MiB (aim: under 30)")


if __name__ == "__main__":
    main()
