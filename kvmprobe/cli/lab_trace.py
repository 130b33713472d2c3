"""The command `kvmprobe lab trace`: boots kernels and runs `kvmprobe trace` in each."""

from __future__ import annotations

import argparse

from kvmprobe.cli import lab_boots
from kvmprobe.cli.lab_boots import GuestCommand
from kvmprobe.lab import kernels

_TRACE = GuestCommand("trace", kernels.DEFAULT_SUITES, ("--mount", "--reload"))

DESCRIPTION, EPILOG = lab_boots.texts(_TRACE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe lab trace`."""
    lab_boots.add_arguments(parser, _TRACE)


def run(options: argparse.Namespace) -> int:
    """Boot the kernels. Returns the worst exit status; raises Problem."""
    return lab_boots.run(options, _TRACE)
