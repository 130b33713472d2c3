"""`kvmprobe watch`: run a VMM under ptrace, and end as it ended or as the verdict asks."""

from __future__ import annotations

import os
import signal

from kvmprobe import TYPE_CHECKING
from kvmprobe.cli.report_arguments import add_no_load, add_report_arguments
from kvmprobe.model.errors import Problem, UsageProblem

if TYPE_CHECKING:
    import argparse

    from kvmprobe.collect.watch.follower import Follower
    from kvmprobe.collect.watch.watch_probe import Target, WatchProbe
    from kvmprobe.host.sysroot import Sysroot
    from kvmprobe.model.evidence import Evidence

DESCRIPTION = """\
Runs COMMAND, a VMM such as QEMU, under ptrace. At the entry and exit of its
KVM_GET_API_VERSION, KVM_CREATE_VM and KVM_CREATE_VCPU, and of the first KVM_RUN
that runs its guest, it reads EFER and VM_CR on every CPU. When COMMAND and all
its children have ended, it judges and reports as 'check' does. Without COMMAND
it watches kvmprobe's own guest.

Threads, children and the programs that they execute are watched, too. After the
first KVM_RUN that runs its guest, by the exit reason in kvm_run, a process runs
at full speed, and VMs that it creates later are not seen. A watched process
cannot trace others with ptrace.

COMMAND uses kvmprobe's standard input, output and error, and its terminal. The
report comes after the output of COMMAND; -o FILE keeps them apart. Ctrl-C
reaches COMMAND, and kvmprobe passes SIGTERM and SIGHUP on to it. kvmprobe
reports when COMMAND has ended. With -p PID these signals detach kvmprobe, and
the process continues, as it does if kvmprobe is killed. Set-user-ID bits have
no effect unless kvmprobe runs as root.
"""
EPILOG = """\
exit status: that of the verdict, see 'kvmprobe --help', and
  130  COMMAND was killed when kvmprobe was interrupted
  143  kvmprobe got SIGTERM (129: SIGHUP); the report is written
  64   COMMAND cannot be started, or no process has this PID
  3    the kernel refuses to attach to the process
"""

_WATCHING = "kvmprobe: watching {}; Ctrl-C detaches and reports"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe watch`."""
    parser.usage = "%(prog)s [option ...] [-p PID | -- COMMAND ...]"
    parser.add_argument(
        "-p", "--pid", metavar="PID", type=int, help="watch the running process PID until it ends, or until Ctrl-C"
    )
    add_no_load(parser)
    parser.add_argument(
        "--exit-status",
        choices=("verdict", "command"),
        default="verdict",
        help="end with the exit status of the verdict (default), or of COMMAND (128 + signal if it was killed)",
    )
    add_report_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Watch, and report. Returns the exit status; raises Problem where nothing can be watched."""
    from kvmprobe.report import write_report

    write_report.check_targets(options)
    evidence, follower = _watch(options)
    return _exit_status(options, follower, write_report.write_host_report(evidence, options))


def _watch(options: argparse.Namespace) -> tuple[Evidence, Follower]:
    """Take evidence while a target is watched. Raises Problem."""
    from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
    from kvmprobe.report.messages import say

    if options.pid is not None and options.command is not None:
        raise UsageProblem("give either -p PID or -- COMMAND", "Omit one of them.")
    if options.command == []:
        raise UsageProblem("there is no COMMAND after --", "Without -- it watches kvmprobe's own guest.")
    if os.uname().machine != "x86_64":
        what = f"watch knows the system calls of x86-64 only, and this host is {os.uname().machine}"
        raise Problem(what, "Use 'kvmprobe check'.")
    try:
        from kvmprobe.collect.watch.watch_probe import WatchProbe
        from kvmprobe.collect.watch.watch_targets import Command, OwnGuest, RunningProcess
    except (ImportError, NotImplementedError) as error:
        hint = "Install it: apt-get install python3-ptrace, or pip install python-ptrace."
        raise Problem(f"watch needs python-ptrace, which cannot be used: {error}", hint) from error
    target: Target
    if options.pid is not None:
        target = RunningProcess(options.pid, lambda: None if options.quiet else say(_WATCHING.format(options.pid)))
    else:
        target = OwnGuest() if options.command is None else Command(options.command)
    probes: list[WatchProbe] = []

    def make(root: Sysroot) -> WatchProbe:
        probes.append(WatchProbe(root, target))
        return probes[-1]

    evidence = take_evidence(CollectOptions(load=not options.no_load), make)
    follower = probes[0].follower
    if follower is None:
        raise Problem("nothing was watched")
    return evidence, follower


def _exit_status(options: argparse.Namespace, follower: Follower, verdict: int) -> int:
    """Return the process's exit status; `verdict` is the verdict's."""
    if options.exit_status == "command" and follower.status is not None:
        return 128 + follower.status if follower.ended == "killed" else follower.status
    if follower.ending_signal is not None and (follower.ending_signal != signal.SIGINT or follower.ended == "killed"):
        return 128 + follower.ending_signal
    return verdict
