"""The commands and their arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.errors import EXIT_USAGE, Problem, UsageProblem
from kvmprobe.output import add_arguments, say

if TYPE_CHECKING:
    from typing import NoReturn

    from kvmprobe.shape import Evidence


_EPILOG = """\
exit status:
  0   confirmed       the registers show that KVM can use SVM here
  1   failed          this host cannot use SVM now, or the kernel did not do what it says
  3   inconclusive    it could not be found out (rights, msr device, ...)
  4   not applicable  other vendor, or KVM through another backend
  64  wrong arguments; 65  a file given is not what it should be; 70  a defect of kvmprobe
  130 interrupted; 143  terminated

Without a command it is 'check'. 'kvmprobe COMMAND --help' shows a command's own arguments.
"""

_COMPARE = """\
What changed between two reports in verdict, checks, registers, features, parameters,
trace and timing, and whether it is worse. Both are judged anew. Touches nothing.

Of two folders ('kvmprobe lab matrix --reports') those reports are compared that have
the same path in both; where each holds one kernel only, those of the same scenario.
"""

_COMPARE_STATUS = """\
exit status:
  0   the same or better
  1   something is worse, or a lab has lost a report that it had
  64  wrong arguments; 65  a file given is not what it should be (1 where something is worse, too)
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        say(self.format_usage().strip())
        say(f"{self.prog}: {message}")
        raise SystemExit(EXIT_USAGE)


def run(arguments: Sequence[str]) -> int:
    """Parses `arguments` and runs the command. Returns the exit status; raises Problem and Interrupted."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["check", *arguments]
    command = None
    if arguments[0] == "watch" and "--" in arguments:  # what follows is another program's, whatever it looks like
        at = arguments.index("--")
        arguments, command = arguments[:at], list(arguments[at + 1 :])
    try:
        options = _parser(arguments[0]).parse_args(arguments, argparse.Namespace(command=command))
    except SystemExit as end:  # --help, --version, wrong arguments
        return int(end.code or 0)
    status: int = options.run(options)
    return status


def _parser(command: str) -> _Parser:
    parser = _Parser(
        prog="kvmprobe",
        description="Shows from the registers of every CPU whether KVM can use AMD SVM on this host, and why not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kvmprobe {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    check = commands.add_parser(
        "check",
        help="take evidence on this host, judge it, report (the default)",
        description="Takes evidence on this host, creates and destroys one VM, judges, reports. Reads MSRs, never "
        "writes one. As root it sees everything; as an ordinary user what the rights allow.",
    )
    check.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the probe")
    check.add_argument("--load-kvm", action="store_true", help="try to load kvm_amd where it is missing, and leave it")
    check.add_argument("--sysroot", metavar="DIR", default="/", help="read /proc, /sys and /dev below DIR instead of /")
    add_arguments(check)
    check.set_defaults(run=_check)

    trace = commands.add_parser(
        "trace",
        help="show the kernel's own functions and EFER writes during KVM_CREATE_VM",
        description="A check during which the kernel's own tracing is a witness too: its functions from the ioctl to "
        "the register on each CPU, and each write of EFER and VM_HSAVE_PA. By a trace instance of its own, which is "
        "removed again.",
    )
    if command == "trace":
        from kvmprobe.trace import run as trace_run

        trace_run.add_arguments(trace)
        add_arguments(trace)
    trace.set_defaults(run=_trace)

    soak = commands.add_parser(
        "soak",
        help="the cycle many times: create, check every CPU, run the guest, close, check",
        description="A check, and then its cycle many times: VMs are created, every CPU is checked, the guest runs, "
        "the VMs are closed, every CPU is checked again. The first failure is kept whole as the report.",
    )
    if command == "soak":
        from kvmprobe.soak import run as soak_run

        soak_run.add_arguments(soak)
        add_arguments(soak)
    soak.set_defaults(run=_soak)

    judge = commands.add_parser(
        "judge",
        help="judge evidence taken earlier or elsewhere",
        description="Judges the evidence in FILE again: a report or bare evidence in JSON. Touches nothing.",
    )
    judge.add_argument("file", metavar="FILE", help="a report made by 'kvmprobe --json'; - is standard input")
    add_arguments(judge)
    judge.set_defaults(run=_judge)

    compare = commands.add_parser(
        "compare",
        help="what changed between two reports, or two folders of lab reports",
        description=_COMPARE,
        epilog=_COMPARE_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if command == "compare":
        from kvmprobe.compare import run as compare_run

        compare_run.add_arguments(compare)
    compare.set_defaults(run=_compare)

    explain = commands.add_parser(
        "explain",
        help="what a reason means, what the kernel does there, what to do",
        description="Explains a reason of the verdict; without REASON it lists them all.",
    )
    explain.add_argument("reason", metavar="REASON", nargs="?")
    explain.set_defaults(run=_explain)

    watch = commands.add_parser("watch", help="run a VMM under ptrace and read the registers at its KVM ioctls")
    if command == "watch":
        from kvmprobe.watch import run as watch_run

        watch_run.add_arguments(watch)
        add_arguments(watch)
        watch.set_defaults(run=_watch)

    lab = commands.add_parser("lab", help="boot real kernels on emulated AMD machines and probe them")
    if command == "lab":
        from kvmprobe.lab import run as lab_run

        lab_run.add_arguments(lab)
    return parser


def _check(options: argparse.Namespace) -> int:
    from kvmprobe.observe import Options, observe

    if not os.path.isdir(options.sysroot):
        raise UsageProblem(f"--sysroot {options.sysroot}: is not a folder")
    if options.load_kvm and os.path.realpath(options.sysroot) != "/":
        raise UsageProblem("--load-kvm would load it on this machine, not in --sysroot", "Leave one of them out.")
    if not sys.platform.startswith("linux"):
        raise Problem("KVM is part of Linux, and this is not Linux")
    _check_output(options)
    evidence = observe(Options(load=not options.no_load, load_kvm=options.load_kvm, sysroot=options.sysroot))
    return _report_here(evidence, options)


def _trace(options: argparse.Namespace) -> int:
    from kvmprobe.trace import run

    _check_output(options)
    return _report_here(run.take(options), options)


def _soak(options: argparse.Namespace) -> int:
    from kvmprobe.soak import run

    _check_output(options)
    return _report_here(run.take(options), options)


def _watch(options: argparse.Namespace) -> int:
    from kvmprobe.watch import run

    _check_output(options)
    evidence, follower = run.watch(options)
    return run.exit_status(options, follower, _report_here(evidence, options))


def _report_here(evidence: Evidence, options: argparse.Namespace) -> int:
    """Reports evidence of this host, and says on the way what a report's reader would not look for."""
    if evidence["uevents"]["error"] and not options.quiet:
        say(f"kvmprobe: one witness less: {evidence['uevents']['error']}")
    for load in evidence["loads"]:
        if load["unloaded"] is False:
            say(f"kvmprobe: the module {load['module']} is in use and stays loaded")
    return _report(evidence, options)


def _judge(options: argparse.Namespace) -> int:
    from kvmprobe.load import load

    _check_output(options)
    return _report(load(options.file), options)


def _compare(options: argparse.Namespace) -> int:
    from kvmprobe.compare import run

    _check_output(options)
    return run.main(options)


def _check_output(options: argparse.Namespace) -> None:
    from kvmprobe.output import check_target

    if options.output is not None:
        check_target(options.output)


def _report(evidence: Evidence, options: argparse.Namespace) -> int:
    from kvmprobe import formats, judge, output
    from kvmprobe.reasons import EXIT_STATUS

    report = judge.judge(evidence)
    colour = options.output is None and output.wants_colour()
    text = formats.render(report, options.format, -1 if options.quiet else options.verbose, colour)
    output.write(text, options.output)
    return EXIT_STATUS[report["verdict"]["status"]]


def _explain(options: argparse.Namespace) -> int:
    from kvmprobe import output
    from kvmprobe.formats import explain

    output.write(explain.render(options.reason), None)
    return 0
