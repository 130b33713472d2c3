"""Options that the lab's commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from kvmprobe.lab import kernels
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report.messages import say


def add_own_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", metavar="VMLINUZ", type=Path, help="a kernel of your own in place of Debian's")
    parser.add_argument("--modules", metavar="DIR", type=Path, help="its modules: /lib/modules/RELEASE")


def own_kernel(chosen: argparse.Namespace, named: object, folder: Path) -> Kernel | None:
    """The kernel of --kernel and --modules, made ready in the cache `folder`; None where neither was given.

    `named`: the Debian kernels that were asked for, which leave no room for it.
    """
    if (chosen.kernel is None) != (chosen.modules is None):
        raise UsageProblem("--kernel and --modules belong together", "Give both.")
    if chosen.kernel is not None and named:
        raise UsageProblem("--kernel takes the place of Debian's kernels", "Give one of them.")
    return None if chosen.kernel is None else kernels.custom(chosen.kernel, chosen.modules, folder, say)


def add_boot(parser: argparse.ArgumentParser, deadline: float) -> None:
    parser.add_argument("--deadline", metavar="SECONDS", type=float, default=deadline, help="for a boot (%(default)g)")
    parser.add_argument("--cache", metavar="DIR", type=Path, help="kernels and logs ($XDG_CACHE_HOME/kvmprobe)")


def check_boot(chosen: argparse.Namespace) -> None:
    if not math.isfinite(chosen.deadline) or chosen.deadline <= 0:
        raise UsageProblem(f"--deadline {chosen.deadline}: not a time", "Give seconds, more than 0.")
