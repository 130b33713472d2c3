"""The time of a lab boot with a check in it, against the same boot that powers off at once."""

from __future__ import annotations

import statistics
import sys

from kvmprobe.lab import cache, guest_program, kernels
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.booted_probe import GUEST, boot
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem

KERNEL = "bookworm"
AIM = 1.3


def seconds(kernel: Kernel, command: list[str]) -> float:
    """The time of one boot that runs `command`. Raises Problem if the guest did not answer."""
    result = boot(kernel, cache.default(), command)
    result.console.unlink(missing_ok=True)
    if result.outcome != ANSWERED:
        raise Problem(f"a boot ended as {result.outcome}: {result.reason}")
    return result.seconds


def main(rounds: int) -> None:
    """Measures both, interleaved, and prints times and ratio."""
    probe = guest_program.python(GUEST.root).command("-m", "kvmprobe", "check", "--json")
    try:
        kernel = kernels.fetch(kernels.debian(KERNEL), cache.default(), lambda line: print(line, file=sys.stderr))
        pairs = [(seconds(kernel, ["true"]), seconds(kernel, probe)) for _ in range(rounds)]
    except Problem as problem:
        print(f"skipping the lab: {problem.message}")
        return
    bare, probed = (statistics.median(times) for times in zip(*pairs))
    print(f"a boot of {kernel.release}, median of {rounds}: {bare:.1f} s, with a check {probed:.1f} s: ", end="")
    print(f"{probed / bare:.2f} times (aim: {AIM} or less)")
