"""`kvmprobe soak`: the cycle of a check, many times, and its progress."""

from __future__ import annotations

import os
import signal
import sys
import time

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_no_load, add_report_arguments
from kvmprobe.model.errors import Problem, UsageProblem
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    import argparse

    from kvmprobe.collect.soak.soak_probe import SoakProbe
    from kvmprobe.host.sysroot import Sysroot

DESCRIPTION = """\
Checks this host, then repeats a cycle: create VMs, check every CPU, run a
guest, close the VMs, check every CPU again. It ends with the first cycle that
fails, and reports all that it read in that cycle.
"""
EPILOG = """\
Ctrl-C ends it after the cycle that is under way, with the report of what was
done so far.

exit status: that of the verdict, see 'kvmprobe --help'; 130 after Ctrl-C.
"""

_CYCLES = 1000
_STEPS = {
    "hotplug": "take each CPU except the first offline and online while a VM exists (root)",
    "reload": "unload kvm_amd and load it again after each cycle, if it is unused (root)",
    "suspend": "suspend and resume while a VM exists, in the kernel's test mode, which takes some 5 s (root)",
    "kill": "after each cycle, end a child process that has a VM by SIGKILL at a random moment",
    "nested": "run a guest in each guest, too; a defect of nested virtualization can crash the host",
}
_TERMINAL_S, _ELSEWHERE_S = 0.2, 60.0  # between two lines of progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe soak`."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument("--cycles", metavar="N", type=int, help=f"run N cycles (default: {_CYCLES})")
    amount.add_argument("--time", metavar="SECONDS", type=float, help="run cycles for this time")
    parser.add_argument("--vms", metavar="N", type=int, default=1, help="create N VMs at once (default: %(default)s)")
    for step, what in _STEPS.items():
        parser.add_argument(f"--{step}", action="store_true", help=what)
    parser.add_argument("--keep-going", action="store_true", help="continue after a cycle that failed")
    add_no_load(parser)
    add_report_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Soak this host. Returns the exit status; raises Problem."""
    from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
    from kvmprobe.collect.soak.soak_probe import SoakPlan, SoakProbe
    from kvmprobe.report import write_report

    write_report.check_targets(options)
    for name, value in (("cycles", options.cycles), ("time", options.time), ("vms", options.vms)):
        if value is not None and not 0 < value < 1e12:
            raise UsageProblem(f"--{name} {value}: is not a number above 0", "Give a larger number.")
    steps = tuple(step for step in _STEPS if getattr(options, step))
    for step in ("hotplug", "reload", "suspend"):
        if step in steps and os.geteuid() != 0:
            raise UsageProblem(f"--{step} needs root", "Run kvmprobe as root, or omit it.")
    if "suspend" in steps:
        from kvmprobe.collect.soak.suspend_test import suspend_limit
        from kvmprobe.host.sysroot import Sysroot

        limit = suspend_limit(Sysroot())
        if limit:
            raise Problem(f"--suspend: {limit}", "Omit --suspend.")
    progress = _Progress(options.quiet)
    plan = SoakPlan(
        cycles=_CYCLES if options.cycles is None and options.time is None else options.cycles,
        seconds=options.time,
        vms=options.vms,
        steps=steps,
        keep_going=options.keep_going,
        progress=progress,
    )
    probes: list[SoakProbe] = []

    def make_probe(root: Sysroot) -> SoakProbe:
        probes.append(SoakProbe(root, plan))
        return probes[0]

    evidence = take_evidence(CollectOptions(load=not options.no_load), make_probe)
    progress.end()
    status = write_report.write_host_report(evidence, options)
    return 128 + signal.SIGINT if probes[0].interrupted else status


class _Progress:
    """Reports progress unless `quiet`: one line that is rewritten on a terminal, a line per minute elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._every = _TERMINAL_S if self._terminal else _ELSEWHERE_S
        self._next = time.monotonic() + self._every

    def __call__(self, soak: SoakProbe) -> None:
        if self._quiet or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        rate = soak.cycles / soak.seconds
        if soak.plan.cycles is not None:
            left, of = (soak.plan.cycles - soak.cycles) / rate, f" of {soak.plan.cycles}"
        else:
            left, of = (soak.plan.seconds or 0.0) - soak.seconds, ""
        text = f"kvmprobe: {soak.cycles}{of} cycles, {rate:.0f} a second, {soak.failed} failed, {left:.0f} s left"
        if self._terminal:
            self._rewrite(text)
        else:
            say(text)

    def end(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal and not self._quiet:
            self._rewrite("")

    def _rewrite(self, text: str) -> None:
        try:
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
        except OSError:
            pass  # the terminal is gone, the soak goes on
