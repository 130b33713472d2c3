"""The commands and their arguments."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.errors import Problem, UsageProblem
from kvmprobe.output import add_report_arguments, say

if TYPE_CHECKING:
    from typing import Any, NoReturn


DEFAULT = "check"  # where no command is named
_EPILOG = """\
exit status:
  0    confirmed: the registers show that KVM can use SVM here
  1    failed: KVM cannot use SVM now, or the kernel did not do what it says
  3    inconclusive: it could not be found out (rights, msr device, ...)
  4    not applicable: other vendor, or KVM through another backend
  64   wrong arguments
  65   a file given is not what it should be
  70   a defect of kvmprobe itself
  130  interrupted (143: by SIGTERM, 129: by SIGHUP); nothing is left behind
  With --format nagios it is a Nagios plugin's, 0 to 3.

Without a command it is 'check': 'kvmprobe --json' is 'kvmprobe check --json'.
'kvmprobe COMMAND --help' shows the arguments of a command.
"""


_NAGIOS_MAX_AGE_S = 26 * 3600  # a daily timer, its random delay, and a long probe


class _Parser(argparse.ArgumentParser):
    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.set_defaults(parser=self)  # the innermost's is what stays

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, but what nobody knows is the command's concern, whose usage is then shown."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options

    def error(self, message: str) -> NoReturn:
        say(self.format_usage().strip())
        text = f"{self.prog}: {message}".removeprefix("kvmprobe").lstrip(": ")
        raise UsageProblem(text, f"'{self.prog} --help' shows what there is.")


def run(arguments: Sequence[str]) -> int:
    """Parses `arguments` and runs the command. Returns the exit status; raises Problem and Interrupted."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = [DEFAULT, *arguments]
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    command = None
    if arguments[0] == "watch" and "--" in arguments:  # what follows is another program's, whatever it looks like
        at = arguments.index("--")
        arguments, command = arguments[:at], list(arguments[at + 1 :])
    try:
        options = _parser(arguments[0]).parse_args(arguments, argparse.Namespace(command=command))
    except SystemExit:  # --help, --version
        return 0
    status: int = options.run(options)
    return status


def parser() -> argparse.ArgumentParser:
    """The parser with the arguments of every command, for what describes them all."""
    return _parser(None)


def _parser(command: str | None) -> _Parser:
    parser = _Parser(
        prog="kvmprobe",
        description="Shows from the registers of every CPU whether KVM can use AMD SVM on this host,\nand why not.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kvmprobe {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (text, add) in _COMMANDS.items():
        parser_of_command = commands.add_parser(name, help=text)
        if command in (None, name):
            add(parser_of_command)
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Takes evidence on this host, creates and destroys one VM, judges, reports. Reads MSRs, never writes one. As "
        "root it sees everything; as an ordinary user what the rights allow."
    )
    parser.add_argument("--no-load", action="store_true", help="do not load msr and cpuid for the time of the probe")
    parser.add_argument("--load-kvm", action="store_true", help="try to load kvm_amd where it is missing, and leave it")
    parser.add_argument(
        "--passive", action="store_true", help="create no VM, do not open /dev/kvm: what stands in the way, if anything"
    )
    parser.add_argument(
        "--sysroot", metavar="DIR", default="/", help="read /proc, /sys and /dev below DIR instead of /"
    )
    add_report_arguments(parser)
    parser.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from kvmprobe import report
    from kvmprobe.observe import Options, observe
    from kvmprobe.probe import PassiveProbe, Probe

    if not os.path.isdir(options.sysroot):
        raise UsageProblem(f"--sysroot {options.sysroot}: is not a folder")
    if options.load_kvm and os.path.realpath(options.sysroot) != "/":
        raise UsageProblem("--load-kvm would load it on this machine, not in --sysroot", "Leave one of them out.")
    if options.load_kvm and options.passive:
        raise UsageProblem("--passive changes nothing, and --load-kvm would load kvm_amd", "Leave one of them out.")
    if not sys.platform.startswith("linux"):
        raise Problem("KVM is part of Linux, and this is not Linux")
    report.check_targets(options)
    wanted = Options(load=not options.no_load, load_kvm=options.load_kvm, sysroot=options.sysroot)
    evidence = observe(wanted, PassiveProbe if options.passive else Probe)
    return report.write_here(evidence, options)


def _add_judge(parser: argparse.ArgumentParser) -> None:
    from kvmprobe import durations

    parser.description = "Judges the evidence in FILE again: a report or bare evidence in JSON. Touches nothing."
    parser.add_argument("file", metavar="FILE", help="a report made by 'kvmprobe --json'; - is standard input")
    parser.add_argument(
        "--max-age",
        metavar="DURATION",
        type=durations.seconds,
        help="no verdict (exit status 3) if the evidence is older, such as 90m, 26h, 7d, or of the future; without, "
        "nagios has 26h, other formats no limit",
    )
    add_report_arguments(parser)
    parser.set_defaults(run=_judge)


def _judge(options: argparse.Namespace) -> int:
    from kvmprobe import report
    from kvmprobe.load import load

    report.check_targets(options)
    evidence = load(options.file)
    max_age = _NAGIOS_MAX_AGE_S if options.max_age is None and options.format == "nagios" else options.max_age
    if max_age is not None:
        report.check_age(evidence, max_age, options.file)
    return report.write(evidence, options)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = "Explains a reason of the verdict; without REASON it lists them all."
    parser.add_argument("reason", metavar="REASON", nargs="?", help="its name, as the verdict has it")
    parser.set_defaults(run=_explain)


def _explain(options: argparse.Namespace) -> int:
    from kvmprobe import output
    from kvmprobe.formats import explain

    output.write(explain.render(options.reason), None)
    return 0


def _add_trace(parser: argparse.ArgumentParser) -> None:
    from kvmprobe.trace import run

    run.add_arguments(parser)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    from kvmprobe.watch import run

    run.add_arguments(parser)


def _add_soak(parser: argparse.ArgumentParser) -> None:
    from kvmprobe.soak import run

    run.add_arguments(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    from kvmprobe.compare import run

    run.add_arguments(parser)


def _add_summary(parser: argparse.ArgumentParser) -> None:
    from kvmprobe.summary import run

    run.add_arguments(parser)


def _add_lab(parser: argparse.ArgumentParser) -> None:
    try:
        from kvmprobe.lab import run
    except ModuleNotFoundError as error:
        if error.name != "kvmprobe.lab":
            raise
        hint = "Run it from a checkout, or install kvmprobe's wheel."
        raise UsageProblem("lab is not in kvmprobe.pyz, which is for the hosts themselves", hint) from error

    run.add_arguments(parser)


# Each adds its arguments, and says what is to be run; only the one that is asked for is imported.
_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "check": ("take evidence on this host, judge it, report (the default)", _add_check),
    "judge": ("judge evidence taken earlier or elsewhere", _add_judge),
    "explain": ("what a reason means, what the kernel does there, what to do", _add_explain),
    "trace": ("show the kernel's own functions and EFER writes during KVM_CREATE_VM", _add_trace),
    "watch": ("run a VMM under ptrace and read the registers at its KVM ioctls", _add_watch),
    "soak": ("the cycle many times: create, check every CPU, run the guest, close, check", _add_soak),
    "compare": ("what changed between two reports, or two folders of lab reports", _add_compare),
    "summary": ("count the hosts of many stored reports, the odd ones out first", _add_summary),
    "lab": ("boot real kernels on emulated AMD machines and probe them", _add_lab),
}
