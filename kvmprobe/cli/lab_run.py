"""The command `kvmprobe lab run`: boots kernels and runs `kvmprobe check` in each."""

from __future__ import annotations

import argparse

from kvmprobe.cli import lab_boots
from kvmprobe.cli.lab_boots import GuestCommand
from kvmprobe.lab import kernels

_CHECK = GuestCommand("check", kernels.DEFAULT_SUITES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `kvmprobe lab run`."""
    lab_boots.add_arguments(parser, _CHECK)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Boots the kernels and returns the worst exit status. Raises Problem."""
    return lab_boots.run(options, _CHECK)
