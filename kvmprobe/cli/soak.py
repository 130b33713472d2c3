"""The command `soak`, and its progress."""

from __future__ import annotations

import os
import sys
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli import report_arguments
from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.collect.soak.soak_probe import SoakPlan, SoakProbe
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report import write_report
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    import argparse

_CYCLES = 1000
_STEPS = {
    "hotplug": "while a VM lives, switch each CPU but the first off and on again (root)",
    "reload": "unload kvm_amd and load it again after each cycle, if nothing uses it (root)",
    "kill": "kill a child that has a VM with SIGKILL, at a random moment, after each cycle",
}
_TERMINAL_S, _ELSEWHERE_S = 0.2, 60.0  # between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "A check, and then its cycle many times: VMs are created, every CPU is checked, the guest runs, the VMs are "
        "closed, every CPU is checked again. The first failure is kept whole as the report."
    )
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--cycles", metavar="N", type=int, help=f"how many cycles ({_CYCLES})")
    amount.add_argument("--time", metavar="SECONDS", type=float, help="as many cycles as fit into this time")
    parser.add_argument("--vms", metavar="N", type=int, default=1, help="VMs at once (%(default)s)")
    for step, what in _STEPS.items():
        parser.add_argument(f"--{step}", action="store_true", help=what)
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the soak")
    report_arguments.add_report_arguments(parser)
    parser.set_defaults(run=main)


def main(options: argparse.Namespace) -> int:
    """The soak, and its report. Raises UsageProblem."""
    write_report.check_targets(options)
    for name, value in (("cycles", options.cycles), ("time", options.time), ("vms", options.vms)):
        if value is not None and not 0 < value < 1e12:
            raise UsageProblem(f"--{name} {value}: is not a number above 0")
    steps = tuple(step for step in _STEPS if getattr(options, step))
    for step in ("hotplug", "reload"):
        if step in steps and os.geteuid() != 0:
            raise UsageProblem(f"--{step} needs root")
    cycles = options.cycles if options.time is None else None
    plan = SoakPlan(
        cycles=_CYCLES if cycles is None and options.time is None else cycles,
        seconds=options.time,
        vms=options.vms,
        steps=steps,
        keep_going=options.keep_going,
        progress=(lambda _: None) if options.quiet else _Progress(),
    )
    evidence = take_evidence(CollectOptions(load=not options.no_load), lambda root: SoakProbe(root, plan))
    return write_report.write_here(evidence, options)


class _Progress:
    """A line that is written over on a terminal, a line a minute elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._every = _TERMINAL_S if self._terminal else _ELSEWHERE_S
        self._next = time.monotonic() + self._every

    def __call__(self, soak: SoakProbe) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        rate = soak.cycles / soak.seconds
        if soak.plan.cycles is not None:
            left, of = (soak.plan.cycles - soak.cycles) / rate, f" of {soak.plan.cycles}"
        else:
            left, of = (soak.plan.seconds or 0.0) - soak.seconds, ""
        text = f"kvmprobe: {soak.cycles}{of} cycles, {rate:.0f} a second, {soak.failed} failed, {left:.0f} s left"
        if self._terminal:
            try:
                sys.stderr.write(f"\r{text}\x1b[K" + ("" if left > self._every else "\r\x1b[K"))
                sys.stderr.flush()
            except OSError:
                pass  # the terminal is gone, the soak is not
        else:
            say(text)
