"""The command `watch`: its arguments, and how it ends."""

from __future__ import annotations

import argparse
import os
import signal

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli import report_arguments
from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.model.errors import Problem, UsageProblem
from kvmprobe.report import messages, write_report

if TYPE_CHECKING:
    from kvmprobe.collect.watch.follower import Follower
    from kvmprobe.collect.watch.watch_probe import Target, WatchProbe
    from kvmprobe.host.sysroot import Sysroot
    from kvmprobe.model.evidence import Evidence

_DESCRIPTION = """\
Runs COMMAND, a VMM such as QEMU, under ptrace. At the entry and exit of its
KVM_GET_API_VERSION, KVM_CREATE_VM and KVM_CREATE_VCPU, and of its first KVM_RUN
that succeeds, it reads EFER and VM_CR on every CPU. When the command and all it
started have ended it judges and reports as 'check' does. Without COMMAND it
watches kvmprobe's own guest.

A process is followed with its threads, children and the programs they execute.
After its first KVM_RUN that succeeds its system calls run at full speed: VMs
that the same process creates later are not seen. A program that traces others
itself cannot do so meanwhile.

COMMAND has kvmprobe's standard input, output and error and its terminal; the
report comes after its own output, so rather give -o FILE. Ctrl-C reaches the
command, SIGTERM and SIGHUP are passed on to it, and kvmprobe reports when it
has ended. With -p PID they make kvmprobe let go, and the process runs on. If
kvmprobe is killed, what it watched runs on as well. The set-user-ID bits of a
program have no effect unless kvmprobe runs as root.
"""

_WATCHING = "kvmprobe: watching {}; Ctrl-C lets go of it and reports"

_EPILOG = """\
exit status: the verdict's, as for 'check', and
  130  the command was killed as kvmprobe was interrupted
  143  kvmprobe got SIGTERM (129: SIGHUP); the report is written all the same
  64   the command cannot be started, or there is no such PID
  3    the kernel refuses to attach
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [option ...] [-p PID | -- COMMAND ...]"
    parser.description = _DESCRIPTION
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-p", "--pid", metavar="PID", type=int, help="watch a process that runs already, until Ctrl-C")
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the watch")
    parser.add_argument(
        "--exit-status",
        choices=("verdict", "command"),
        default="verdict",
        help="whose exit status kvmprobe gives: the verdict's, or the command's (128 + signal if it was killed)",
    )
    report_arguments.add_report_arguments(parser)
    parser.set_defaults(run=main)


def main(options: argparse.Namespace) -> int:
    """Watches, and reports. Raises Problem where that cannot be done."""
    write_report.check_targets(options)
    evidence, follower = watch(options)
    return exit_status(options, follower, write_report.write_here(evidence, options))


def watch(options: argparse.Namespace) -> tuple[Evidence, Follower]:
    """Takes evidence while a target is watched. Raises Problem where that cannot be done."""
    if options.pid is not None and options.command is not None:
        raise UsageProblem("watch: either -p PID or -- COMMAND", "Leave one of them out.")
    if options.command == []:
        raise UsageProblem("watch: there is no COMMAND after --", "Without -- it watches kvmprobe's own guest.")
    if os.uname().machine != "x86_64":
        raise Problem(f"watch knows the system calls of x86-64 only, and this is a {os.uname().machine} machine")
    try:
        from kvmprobe.collect.watch.targets import Command, OwnGuest, RunningProcess
        from kvmprobe.collect.watch.watch_probe import WatchProbe
    except (ImportError, NotImplementedError) as error:
        hint = "Install it: apt-get install python3-ptrace, or pip install python-ptrace."
        raise Problem(f"watch needs python-ptrace, which cannot be used: {error}", hint) from error
    target: Target
    if options.pid is not None:
        target = RunningProcess(
            options.pid, lambda: None if options.quiet else messages.say(_WATCHING.format(options.pid))
        )
    else:
        target = OwnGuest() if options.command is None else Command(options.command)
    made: list[WatchProbe] = []

    def make(root: Sysroot) -> WatchProbe:
        made.append(WatchProbe(root, target))
        return made[-1]

    evidence = take_evidence(CollectOptions(load=not options.no_load), make)
    follower = made[0].follower
    if follower is None:
        raise Problem("nothing was watched")
    return evidence, follower


def exit_status(options: argparse.Namespace, follower: Follower, verdict: int) -> int:
    """What kvmprobe ends with."""
    if options.exit_status == "command" and follower.status is not None:
        return 128 + follower.status if follower.ended == "killed" else follower.status
    if follower.ending_signal is not None and (follower.ending_signal != signal.SIGINT or follower.ended == "killed"):
        return 128 + follower.ending_signal
    return verdict
