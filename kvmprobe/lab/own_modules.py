"""Finds the folder of a kernel's modules (/lib/modules/RELEASE) in what the user gives."""

from __future__ import annotations

import os
from pathlib import Path

from kvmprobe.lab import guest_modules
from kvmprobe.model.errors import DataProblem

_BELOW = ("lib/modules", "usr/lib/modules")  # where modules_install puts them below INSTALL_MOD_PATH
_MOST = 5  # that a message names


def find(given: Path, release: str | None) -> Path:
    """Returns the folder with the modules of the kernel `release` (None: not known), named as that release.

    `given` is that folder, or the INSTALL_MOD_PATH in which it is. Raises DataProblem if it is neither, or has no
    modules.
    """
    given = Path(os.path.abspath(given))  # resolve() would lose the name of a link
    if not given.is_dir():
        raise DataProblem(f"{given} is not a folder", "Give the kernel's /lib/modules/RELEASE.")
    parents = [given / name for name in _BELOW if (given / name).is_dir()]
    found = _below(parents[0], release) if parents else given
    if release not in (None, found.name):
        raise DataProblem(
            f"the kernel is {release}, but {found} has the modules of {found.name}",
            "The last part of the folder's name must be the kernel's release.",
        )
    if not guest_modules.files(found) and not (found / guest_modules.BUILTIN).is_file():
        raise DataProblem(
            f"{found} has no modules and no {guest_modules.BUILTIN}",
            "Run 'make modules_install' for this kernel, or omit --modules if kvm_amd is built in.",
        )
    return found


def _below(parent: Path, release: str | None) -> Path:
    """The folder of `release`, or the only one."""
    names = sorted(path.name for path in parent.iterdir() if path.is_dir())
    if release in names or (release is None and len(names) == 1):
        return parent / (release or names[0])
    known = ", ".join(names[:_MOST]) + (", …" if len(names) > _MOST else "") if names else "no kernel"
    wanted = f"not of {release}" if release else "and the kernel's image does not contain its release"
    raise DataProblem(f"{parent} has the modules of {known}, {wanted}", "Give the kernel's /lib/modules/RELEASE.")
