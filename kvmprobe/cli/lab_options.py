"""Options that the commands of the lab share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from kvmprobe.lab import kernels
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import UsageProblem
from kvmprobe.report.messages import say


def add_own_kernel(parser: argparse.ArgumentParser) -> None:
    """Add --kernel and --modules."""
    parser.add_argument("--kernel", metavar="VMLINUZ", type=Path, help="boot your own kernel instead of Debian's")
    parser.add_argument(
        "--modules",
        metavar="DIR",
        type=Path,
        help="its modules: /lib/modules/RELEASE, or the INSTALL_MOD_PATH of 'make modules_install'; not needed if all "
        "that 'kvmprobe lab config' prints is built in",
    )


def add_boot(parser: argparse.ArgumentParser, deadline: float) -> None:
    """Add --deadline (default: `deadline`, in seconds) and --cache."""
    parser.add_argument(
        "--deadline",
        metavar="SECONDS",
        type=float,
        default=deadline,
        help="end a boot after this time (default: %(default)g)",
    )
    parser.add_argument(
        "--cache", metavar="DIR", type=Path, help="keep kernels and logs in DIR (default: $XDG_CACHE_HOME/kvmprobe)"
    )


def check_boot(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise UsageProblem if the options of add_own_kernel and add_boot are wrong, or do not fit the `names` of Debian
    kernels that the user gave."""
    if not math.isfinite(options.deadline) or options.deadline <= 0:
        raise UsageProblem(f"--deadline {options.deadline}: not a time", "Give seconds, more than 0.")
    if options.kernel is None and options.modules is not None:
        raise UsageProblem("--modules needs --kernel", "Give both.")
    if options.kernel is not None and names:
        raise UsageProblem("--kernel replaces Debian's kernels", "Give --kernel or the names of Debian's kernels.")
    for name in names:
        kernels.debian(name)


def chosen_kernels(options: argparse.Namespace, names: Sequence[str], folder: Path) -> Iterator[Kernel]:
    """Yield the kernel of --kernel, or else Debian's kernels `names`, prepared in the cache `folder`.

    Each is prepared only when its turn comes. Raises Problem.
    """
    if options.kernel is not None:
        yield kernels.custom(options.kernel, options.modules, folder, say)
        return
    for name in names:
        yield kernels.fetch(kernels.debian(name), folder, say)
