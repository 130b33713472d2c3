"""The command `kvmprobe lab trace`: boots kernels and runs `kvmprobe trace` in each."""

from __future__ import annotations

import argparse

from kvmprobe.cli import lab_boots
from kvmprobe.cli.lab_boots import GuestCommand
from kvmprobe.lab import kernels

_TRACE = GuestCommand("trace", kernels.DEFAULT_SUITES, ("--mount", "--load"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `kvmprobe lab trace`."""
    lab_boots.add_arguments(parser, _TRACE)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Boots the kernels and returns the worst exit status. Raises Problem."""
    return lab_boots.run(options, _TRACE)
