"""How a distribution installs the modules of its kernel, by the running kernel's release. Where the release shows no
distribution, the steps are those of Debian and Ubuntu, and their text names these."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.steps import REBOOT

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts

_FEDORA = r"\.(?:fc|el)[0-9]|\.amzn[0-9]"
_ARCH = r"-(?:arch|zen|hardened|cachyos)[0-9]|-MANJARO"
_SUSE = r"-default$"
_PROXMOX = r"-pve$"

# Distribution, steps that install the running kernel again, those for a module that is missing, those for kmod.
_TABLE = (
    (
        _FEDORA,
        ('# dnf reinstall "kernel*-$(uname -r)"',),
        ("# dnf install kernel-core-$(uname -r) kernel-modules-$(uname -r)",),
        ("# dnf install kmod",),
    ),
    (
        _ARCH,
        ("# pacman -Syu linux", *REBOOT),
        ("# pacman -Syu linux", *REBOOT),
        ("# pacman -S kmod",),
    ),
    (
        _SUSE,
        ("# zypper install --force kernel-default",),
        ("# zypper install kernel-default",),
        ("# zypper install kmod",),
    ),
    (
        _PROXMOX,
        ("# apt-get install --reinstall proxmox-kernel-$(uname -r)",),
        ("# apt-get install --reinstall proxmox-kernel-$(uname -r)",),
        ("# apt-get install kmod",),
    ),
)


def _row(facts: Facts) -> tuple[tuple[str, ...], ...] | None:
    release = facts.evidence["kernel"]["release"]
    return next((tuple(steps) for pattern, *steps in _TABLE if re.search(pattern, release)), None)


def reinstall_kernel(facts: Facts) -> tuple[str, ...] | None:
    """The steps that install the running kernel's package again; None where the release shows no distribution."""
    row = _row(facts)
    return row[0] if row else None


def install_module(facts: Facts) -> tuple[str, ...] | None:
    """The steps that install the packages with all modules of the running kernel; None as above."""
    row = _row(facts)
    return row[1] if row else None


def install_kmod(facts: Facts) -> tuple[str, ...] | None:
    """The steps that install modprobe; None as above."""
    row = _row(facts)
    return row[2] if row else None
