"""The command `kvmprobe lab config`: prints what the lab needs of a kernel's configuration."""

from __future__ import annotations

import argparse

from kvmprobe.lab import kernel_config
from kvmprobe.model.errors import EXIT_CONFIRMED, UsageProblem
from kvmprobe.report import output

DESCRIPTION = """\
Prints what the lab needs of a kernel's configuration, as a fragment for the
kernel's own merge_config.sh.
"""
EPILOG = """\
In the kernel's tree:
  kvmprobe lab config >lab.config
  scripts/kconfig/merge_config.sh .config lab.config
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no arguments."""


def run(options: argparse.Namespace) -> int:
    """Print the fragment. Returns 0; raises UsageProblem for arguments after `--`."""
    if options.guest_arguments:
        raise UsageProblem(f"unrecognized arguments: -- {' '.join(options.guest_arguments)}", "Omit them.")
    output.write(kernel_config.fragment(), None)
    return EXIT_CONFIRMED
