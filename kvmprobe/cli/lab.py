"""The command `kvmprobe lab`: its commands, each in a file of its own, and the arguments after `--` for the guest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from kvmprobe.cli import lab_config, lab_matrix, lab_run, lab_soak, lab_trace

DESCRIPTION = """\
Boots real kernels on emulated AMD machines. Needs QEMU, but neither KVM nor an
AMD CPU.
"""
EPILOG = ""

# Each command: its module, and its line in --help. The module has the rest, as the commands of parser.py: DESCRIPTION,
# EPILOG, add_arguments(parser) and run(options).
_COMMANDS = {
    "run": (lab_run, "boot kernels and run 'kvmprobe check' in each"),
    "trace": (lab_trace, "boot kernels and run 'kvmprobe trace' in each"),
    "soak": (lab_soak, "boot kernels and run 'kvmprobe soak' in each"),
    "matrix": (lab_matrix, "boot every scenario on every kernel and check the reported reason"),
    "config": (lab_config, "print what the lab needs of a kernel's configuration"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands of `kvmprobe lab`. Their parsers set `run`, the function to call."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_splitting(type(parser)))
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=module.DESCRIPTION, epilog=module.EPILOG)
        command.set_defaults(run=module.run)
        module.add_arguments(command)


def _splitting(parser_class: type[argparse.ArgumentParser]) -> type[argparse.ArgumentParser]:
    """A parser that leaves the arguments after the first `--` for the guest, and accepts KERNEL anywhere before it.

    argparse alone would take the arguments after `--` for KERNEL, and would accept no KERNEL after an option.
    """

    class Splitting(parser_class):  # type: ignore[misc, valid-type]
        def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
            own = list(sys.argv[1:] if args is None else args)
            cut = own.index("--") if "--" in own else len(own)
            namespace, unknown = super().parse_known_args(own[:cut], namespace)
            namespace.guest_arguments = own[cut + 1 :]
            if hasattr(namespace, "kernels"):
                namespace.kernels += [word for word in unknown if not word.startswith("-")]
                unknown = [word for word in unknown if word.startswith("-")]
            return namespace, unknown

    return Splitting
