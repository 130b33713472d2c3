"""A boot of the lab with a probe in it, against the same boot that powers off at once."""

from __future__ import annotations

import statistics
import sys

from kvmprobe.lab import cache, guest_program, kernels
from kvmprobe.lab.booted_probe import GUEST, boot
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED
from kvmprobe.model.errors import Problem

KERNEL = "bookworm"
AIM = 1.3


def seconds(kernel: Kernel, command: list[str]) -> float:
    """Of one boot with this command in it."""
    result = boot(kernel, cache.default(), command)
    result.console.unlink(missing_ok=True)
    if result.outcome != ANSWERED:
        raise Problem(f"a boot was {result.outcome}: {result.reason}")
    return result.seconds


def main(rounds: int) -> None:
    """Prints both, interleaved, and their ratio."""
    probe = guest_program.python(GUEST.root).command("-m", "kvmprobe", "check", "--json")
    try:
        kernel = kernels.fetch(kernels.debian(KERNEL), cache.default(), lambda line: print(line, file=sys.stderr))
        pairs = [(seconds(kernel, ["true"]), seconds(kernel, probe)) for _ in range(rounds)]
    except Problem as problem:
        print(f"the lab is not measured: {problem.message}")
        return
    bare, probed = (statistics.median(times) for times in zip(*pairs))
    print(f"a boot of {kernel.release}, median of {rounds}: {bare:.1f} s, with a probe {probed:.1f} s: ", end="")
    print(f"{probed / bare:.2f} times (aim: {AIM} or less)")
