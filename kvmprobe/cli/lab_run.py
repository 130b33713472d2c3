"""The command `kvmprobe lab run`: boots kernels and runs `kvmprobe check` in each."""

from __future__ import annotations

import argparse

from kvmprobe.cli import lab_boots
from kvmprobe.cli.lab_boots import GuestCommand
from kvmprobe.lab import kernels

_CHECK = GuestCommand("check", kernels.DEFAULT_SUITES)

DESCRIPTION, EPILOG = lab_boots.texts(_CHECK)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe lab run`."""
    lab_boots.add_arguments(parser, _CHECK)


def run(options: argparse.Namespace) -> int:
    """Boot the kernels. Returns the worst exit status; raises Problem."""
    return lab_boots.run(options, _CHECK)
