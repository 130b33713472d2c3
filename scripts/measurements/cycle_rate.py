"""Cycles per second of `kvmprobe soak`, against a C program with the same system calls."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CYCLES = 400
SOAK = [sys.executable, "-m", "kvmprobe", "soak", "-q", "--json", "--cycles", str(CYCLES)]
AIM = 0.9


def in_kvmprobe() -> float:
    """Cycles per second, as kvmprobe's own report states them."""
    done = subprocess.run(SOAK, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    soak = json.loads(done.stdout)["evidence"]["soak"]
    return float(soak["cycles"] / soak["seconds"])


def main(rounds: int) -> None:
    """Measures both, interleaved, and prints rates and ratio."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipping the cycles: /dev/kvm cannot be opened")
        return
    with tempfile.TemporaryDirectory(prefix="kvmprobe-bench-") as temp:
        program = os.path.join(temp, "cycle")
        subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("cycle.c")], check=True)
        pairs = []
        for _ in range(rounds):
            in_c = float(subprocess.run([program, str(CYCLES)], capture_output=True, check=True).stdout)
            pairs.append((in_c, in_kvmprobe()))
    in_c, own = (statistics.median(rates) for rates in zip(*pairs))
    ratio = statistics.median(own / in_c for in_c, own in pairs)
    print(
        f"cycles per second, median of {rounds}: {in_c:.0f} in C, {own:.0f} in kvmprobe soak: {ratio:.2f} (aim: {AIM})"
    )
