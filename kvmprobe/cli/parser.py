"""The table of commands, and the parser for the one that is asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.cli.report_arguments import choose_format
from kvmprobe.host.stand_ins import OF_ARGPARSE, StandIns
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report import terminal
from kvmprobe.report.messages import say

if TYPE_CHECKING:
    from typing import Any, NoReturn

try:
    with StandIns(OF_ARGPARSE):
        import argparse
except ImportError:  # This Python's argparse imports more of them.
    import argparse

# Each command and its line in --help. The module kvmprobe.cli.COMMAND has the rest: DESCRIPTION, EPILOG,
# add_arguments(parser), and run(options), which returns the exit status. (A group such as lab has commands of its own,
# whose parsers set `run`.) The module is imported when the command is asked for: `check` pays for no other.
COMMANDS = {
    "check": "probe this host and report (the default)",
    "judge": "judge stored evidence again, on any host",
    "explain": "explain a reason or a cause of a verdict, and what to do",
    "trace": "probe this host while the kernel traces its own functions",
    "watch": "run a VMM under ptrace, read the registers at its KVM ioctls",
    "soak": "create and close VMs many times, check every CPU each time",
    "compare": "compare two reports, or two folders of reports",
    "summary": "count the hosts of many reports and list the outliers",
    "lab": "boot kernels on emulated AMD machines and probe them",
}
DEFAULT = "check"
_WITH_COMMAND = ("watch",)  # what follows -- on their command line is another program's

_COLUMNS = 80  # of --help where standard output is no terminal
_TOP_OPTIONS = ("-h", "--help", "-V", "--version")
_DESCRIPTION = """\
Shows from the registers of every CPU whether KVM can use AMD SVM on this host,
and why not.
"""
_EPILOG = """\
exit status:
  0    confirmed or usable: KVM can use SVM on this host
  1    failed: KVM cannot use SVM, or used it wrongly, or a --require is not met
  3    inconclusive: the evidence does not decide (rights, module msr, ...)
  4    not applicable: another CPU vendor, or KVM with another backend
  64   wrong arguments
  65   a file is damaged, or is no report
  70   a defect of kvmprobe
  129, 130, 143   ended by SIGHUP, SIGINT, SIGTERM; all changes are undone
With --format nagios it is the exit status of a Nagios plugin: 0 OK (confirmed,
usable or not applicable), 1 WARNING (confirmed, and a check warns), 2 CRITICAL
(failed), 3 UNKNOWN (inconclusive, or any problem).

The default COMMAND is check: 'kvmprobe --json' means 'kvmprobe check --json'.
'kvmprobe COMMAND --help' lists the arguments of a command.
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As usual. To find out the width itself, it would import shutil, and with that zlib, bz2 and lzma.

    argparse makes one for each argument that is added.
    """

    def __init__(self, prog: str) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdecimal() else 0
        super().__init__(prog, width=(width or terminal.width() or _COLUMNS) - 2)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **keywords: Any) -> None:
        # Abbreviated, "--load" would silently mean "--load-kvm".
        super().__init__(**{"allow_abbrev": False, "formatter_class": _HelpFormatter, **keywords})
        self.color = False  # since Python 3.14 argparse paints, also what goes to a file
        self.set_defaults(parser=self)  # of a command within a command, the innermost parser

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, but arguments that no parser knows are an error with the usage of the innermost command."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = f"The command comes first: kvmprobe {unknown[0]} ..." if unknown[0] in COMMANDS else None
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}", hint)
        return options

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write --help or --version to standard output. Raises Problem where it is closed or full."""
        from kvmprobe.report import output

        output.write(message, None)

    def error(self, message: str, hint: str | None = None) -> NoReturn:
        """Write the usage to standard error, and raise UsageProblem."""
        for line in self.format_usage().strip().splitlines():
            say(line)
        text = f"{self.prog}: {message}".removeprefix("kvmprobe").lstrip(": ")
        raise UsageProblem(text, hint or f"'{self.prog} --help' lists the arguments.")


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` (without the program's name) ask for.

    Returns the exit status. Raises Problem and Interrupted.
    """
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _TOP_OPTIONS):
        arguments = [DEFAULT, *arguments]
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    command = None
    if arguments[0] in _WITH_COMMAND and "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], list(arguments[at + 1 :])
    try:
        options = _parser(arguments[0]).parse_args(arguments, argparse.Namespace(command=command))
    except SystemExit:  # --help, --version
        return 0
    if "choices" in options:
        choose_format(options)
    status: int = options.run(options)
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser with the arguments of all commands, to describe them: manual page, completions."""
    return _parser(None)


def _parser(command: str | None) -> _Parser:
    """Return a parser that knows the arguments of `command` only; of all commands where it is None.

    Where `command` is not in the table, it knows the names of all commands: enough for --help and for errors.
    """
    parser = _Parser(prog="kvmprobe", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("-V", "--version", action="version", version=f"kvmprobe {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        if command in COMMANDS and name != command:
            continue
        parser_of_command = commands.add_parser(name, help=text)
        if command in (None, name):
            _add_command(name, parser_of_command)
    return parser


def _add_command(name: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command to its parser; imports its module."""
    try:
        module = importlib.import_module(f"kvmprobe.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name != "kvmprobe.lab":
            raise
        hint = "Run it from a checkout, or install kvmprobe's wheel."
        raise UsageProblem("lab is not in kvmprobe.pyz, which is for hosts", hint) from error
    parser.description, parser.epilog = module.DESCRIPTION, module.EPILOG
    if hasattr(module, "run"):
        parser.set_defaults(run=module.run)
    module.add_arguments(parser)
