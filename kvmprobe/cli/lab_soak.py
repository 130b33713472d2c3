"""The command `kvmprobe lab soak`: boots kernels and runs `kvmprobe soak` in each."""

from __future__ import annotations

import argparse

from kvmprobe.cli import lab_boots
from kvmprobe.cli.lab_boots import GuestCommand
from kvmprobe.lab import kernels
from kvmprobe.lab.qemu import DEADLINE_S

_SOAK = GuestCommand(
    "soak",
    tuple(row.suite for row in kernels.DEBIAN),
    ("--cycles", "20", "--vms", "2", "--hotplug", "--reload", "--kill"),
    5 * DEADLINE_S,
)

DESCRIPTION, EPILOG = lab_boots.texts(_SOAK)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kvmprobe lab soak`."""
    lab_boots.add_arguments(parser, _SOAK)


def run(options: argparse.Namespace) -> int:
    """Boot the kernels. Returns the worst exit status; raises Problem."""
    return lab_boots.run(options, _SOAK)
