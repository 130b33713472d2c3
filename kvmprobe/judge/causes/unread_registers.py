"""EFER or VM_CR could not be read: what kept them from this process."""

from __future__ import annotations

import re

from kvmprobe.judge.capabilities import CAP_SYS_RAWIO, has_capability
from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.modprobe_setup import CONFIGURATION
from kvmprobe.judge.causes.quotes import container, hypervisor_text, is_root, rights
from kvmprobe.judge.facts import Facts

_REASONS = ("msr-unreadable",)


def _errors(facts: Facts) -> set[str]:
    pairs = [(phase, name) for phase in ("before", "created") for name in ("EFER", "VM_CR")]  # those that decide
    return {error for pair in pairs for error in facts.register_errors(*pair).values()}


def not_root(facts: Facts) -> Found | None:
    if is_root(facts) or not _errors(facts) & {"EACCES", "EPERM", "ENOENT"}:
        return None
    return Found([f"effective user id: {facts.evidence['host']['euid']}"])


def in_container(facts: Facts) -> Found | None:
    kind = container(facts)
    if kind is None or not _errors(facts):
        return None
    return Found([f"kvmprobe ran in a container ({kind})"])


def no_capability(facts: Facts) -> Found | None:
    if not is_root(facts) or "EPERM" not in _errors(facts):
        return None
    found = rights(facts)
    if found and has_capability(found, CAP_SYS_RAWIO) is False:
        return Found([f"CapEff: {found['capabilities']}"])
    return Found([])


def not_loaded(facts: Facts) -> Found | None:
    if not is_root(facts) or "ENOENT" not in _errors(facts):
        return None
    loads = {load["module"]: load for load in facts.evidence["loads"]}
    attempt = loads.get("msr")
    if attempt is None:
        return Found(["the module msr is not loaded, and kvmprobe did not try to load it"])
    if attempt["status"] == 0:
        in_vain = ["`modprobe msr` succeeded, but msr is not loaded"]
        return None if facts.has_kvm_amd is None or "msr" in facts.modules else Found(in_vain, _INSTALL_LINE)
    quoted = [f"`modprobe msr` failed: {attempt['output'] or attempt['status']}"]
    if re.search("not found", attempt["output"]):
        return Found(quoted, _NOT_FOUND)
    if re.search("install command", attempt["output"]):
        return Found(quoted, _INSTALL_LINE)
    return Found(quoted, _REFUSED)


_NOT_FOUND = (
    "The running kernel has no module msr. If an update replaced the kernel since the last boot, reboot:",
    "# systemctl reboot",
    (
        "Else install the rest of the kernel's modules (Ubuntu: linux-modules-extra-$(uname -r)), or boot a kernel "
        "with CONFIG_X86_MSR."
    ),
)
_INSTALL_LINE = (
    "An install line of modprobe's configuration runs another command in place of loading msr. Find the line:",
    f"$ grep -rnsE '^[[:space:]]*install[[:space:]]+msr' {CONFIGURATION}",
    "Remove this install line from its file. Then load the module:",
    "# modprobe msr",
)
_REFUSED = (
    (
        "The kernel refused the module msr. Read the reason in its log, and check whether loading modules is disabled "
        "until the next boot (kernel.modules_disabled = 1):"
    ),
    "# dmesg -T",
    "# sysctl kernel.modules_disabled",
)


def refused_by_hypervisor(facts: Facts) -> Found | None:
    if "EIO" not in _errors(facts):
        return None
    return Found(hypervisor_text(facts))


CAUSES = (
    Cause(
        "registers-need-root",
        _REASONS,
        "kvmprobe ran as an ordinary user, and only root (CAP_SYS_RAWIO) may read MSRs.",
        not_root,
        ("Run kvmprobe as root:", "$ sudo kvmprobe check"),
    ),
    Cause(
        "container-without-msr",
        _REASONS,
        "kvmprobe ran in a container without the devices /dev/cpu/N/msr or without CAP_SYS_RAWIO.",
        in_container,
        (
            (
                "Run kvmprobe on the host, or give the container the devices and the capability, after 'modprobe "
                "msr' on the host:"
            ),
            "$ docker run --privileged -v /dev/cpu:/dev/cpu IMAGE",
        ),
    ),
    Cause(
        "registers-need-capability",
        _REASONS,
        "Root without CAP_SYS_RAWIO may not open /dev/cpu/N/msr (arch/x86/kernel/msr.c).",
        no_capability,
        (
            (
                "This process lacks CAP_SYS_RAWIO. Run kvmprobe outside its container or sandbox; in a systemd "
                "unit, add CAP_SYS_RAWIO to CapabilityBoundingSet= and remove PrivateDevices=."
            ),
        ),
    ),
    Cause(
        "msr-module-missing",
        _REASONS,
        "There is no /dev/cpu/N/msr: the module msr is not loaded.",
        not_loaded,
        ("Load the module msr, or run kvmprobe without --no-load:", "# modprobe msr"),
    ),
    Cause(
        "registers-refused-by-hypervisor",
        _REASONS,
        "The CPU, or the hypervisor outside, refuses to read the register (EIO).",
        refused_by_hypervisor,
        (
            (
                "The hypervisor outside does not let this VM read the register, so kvmprobe cannot confirm SVM "
                "here. Ask whoever runs it to enable nested virtualization for this VM."
            ),
        ),
    ),
)
