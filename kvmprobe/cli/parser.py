"""The commands and their arguments."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report.messages import say

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
    for name, (module, text) in _COMMANDS.items():
        parser_of_command = commands.add_parser(name, help=text)
        if command in (None, name):
            _add(module, parser_of_command)
    return parser


# By name: the module below kvmprobe.cli, imported where the command is asked for, and its line in --help.
_COMMANDS = {
    "check": ("check", "take evidence on this host, judge it, report (the default)"),
    "judge": ("judge", "judge evidence taken earlier or elsewhere"),
    "explain": ("explain", "what a reason means, what the kernel does there, what to do"),
    "trace": ("trace", "show the kernel's own functions and EFER writes during KVM_CREATE_VM"),
    "watch": ("watch", "run a VMM under ptrace and read the registers at its KVM ioctls"),
    "soak": ("soak", "the cycle many times: create, check every CPU, run the guest, close, check"),
    "compare": ("compare", "what changed between two reports, or two folders of lab reports"),
    "summary": ("summary", "count the hosts of many stored reports, the odd ones out first"),
    "lab": ("lab", "boot real kernels on emulated AMD machines and probe them"),
}


def _add(name: str, parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of a command; imports its module."""
    try:
        module = importlib.import_module(f"kvmprobe.cli.{name}")
    except ModuleNotFoundError as error:
        if error.name != "kvmprobe.lab":
            raise
        hint = "Run it from a checkout, or install kvmprobe's wheel."
        raise UsageProblem("lab is not in kvmprobe.pyz, which is for the hosts themselves", hint) from error
    module.add_arguments(parser)
