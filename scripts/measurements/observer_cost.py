"""What trace and watch add to the time of KVM_CREATE_VM and of a whole QEMU process.

Interleaved with runs without them, so that noise affects all.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

from kvmprobe.collect.trace import trace_lines
from kvmprobe.collect.trace.trace_instance import TraceInstance
from kvmprobe.collect.trace.tracefs import find_tracefs
from kvmprobe.model import kernel_steps
from kvmprobe.model.errors import Problem

PYTHON = [sys.executable, "-I", "-c"]
# Prints the seconds of one KVM_CREATE_VM.
CREATE_VM = [
    *PYTHON,
    (
        "from kvmprobe.host.kvm import Kvm; import time; kvm = Kvm('/dev/kvm'); started = time.perf_counter(); "
        "vm = kvm.create_vm(); print(time.perf_counter() - started, flush=True); vm.close()"
    ),
]
QEMU = [
    "qemu-system-x86_64",
    "-accel",
    "kvm",
    "-machine",
    "q35",
    "-nodefaults",
    "-display",
    "none",
    "-monitor",
    "stdio",
]
WATCH = [sys.executable, "-m", "kvmprobe", "watch", "-q", "-o", os.devnull, "--"]


def create_vm(prefix: list[str]) -> float:
    """Seconds of KVM_CREATE_VM as its caller measures them, run after `prefix`."""
    done = subprocess.run([*prefix, *CREATE_VM], capture_output=True, text=True, check=False)
    return float(done.stdout.split()[0])


def qemu(prefix: list[str]) -> float:
    """Seconds of a QEMU that gets `quit` as soon as its machine runs, run after `prefix`."""
    started = time.perf_counter()
    subprocess.run([*prefix, *QEMU], input=b"quit\n", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    """Prints the ratios."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("skipping the observers: /dev/kvm cannot be opened")
        return
    measures = {"KVM_CREATE_VM": create_vm}
    if shutil.which(QEMU[0]):
        measures["a whole QEMU"] = qemu
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for what, measure in measures.items():
            for how in ("alone", "traced", "watched"):
                with ExitStack() as stack:
                    if how == "traced":
                        try:
                            _record(stack.enter_context(TraceInstance(find_tracefs(mount=True))))
                        except Problem as problem:
                            if not number:
                                print(f"{what}: skipping the trace: {problem.message}")
                            continue
                    seconds = measure(WATCH if how == "watched" else [])
                if number:  # the first round warms up
                    times.setdefault((what, how), []).append(seconds)
    print(f"\n{'':40}{'time':>10}{'to alone':>10}")
    for (what, how), found in times.items():
        median, alone = statistics.median(found), statistics.median(times[what, "alone"])
        print(f"{what + ', ' + how:40}{median * 1000:7.2f} ms{median / alone:10.2f}")


def _record(instance: TraceInstance) -> None:
    """Traces the same registers and functions as `kvmprobe trace`."""
    instance.trace_writes(trace_lines.REGISTERS)
    instance.trace_functions(name for name, _ in instance.available_functions() if kernel_steps.step_of(name))
    instance.record(True)
