"""Causes that only another boot can end: the report names each, and the boot that its hint asks for confirms SVM.

A guest of the lab is gone after its boot. So a reboot is a new boot of the same machine, and what the hint asks for
outside of the kernel is done outside of the guest: another parameter of the kernel, another CPU model, no Xen. The
commands that would edit a boot loader's configuration have none to edit here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import MACHINE, Machine
from kvmprobe.model.errors import Problem
from tests.helpers import stub_modules, xen
from tests.helpers.hinted_guests import Case, faults, follow
from tests.helpers.real_kernels import unavailable

pytestmark = pytest.mark.kernel

_CHECK, _LOAD_KVM, _LOADED = "kvmprobe check", "kvmprobe check --load-kvm", "modprobe kvm_amd"
_REBOOT = "systemctl reboot"
_FRESH = Case("", "", _LOADED)  # what a guest is after a reboot
_MODULES = "/lib/modules/$(uname -r)"
_GRUB = ("grub-mkconfig -o /boot/grub/grub.cfg", _REBOOT)

_REBOOTED = (
    Case(
        "svm-owner-not-found",
        "svm-held-by-another-owner",
        f"{_LOADED}; wrmsr -p 1 0xc0000080 0x1d01",
        not_here=(_REBOOT,),
        undo="wrmsr -p 1 0xc0000080 0xd01",
    ),
    Case(
        "modules-gone",
        "kvm-amd-not-loaded",
        f"mv {_MODULES} /lib/modules/updated",
        not_here=(_REBOOT,),
        undo=f"mv /lib/modules/updated {_MODULES}",
    ),
    Case(
        "module-loading-disabled",
        "kvm-amd-not-loaded",
        "echo 1 >/proc/sys/kernel/modules_disabled",
        not_here=(_REBOOT,),
        action=("grep -x kvm_amd /etc/modules-load.d/kvm_amd.conf",),
    ),
)

Verdict = Callable[..., Any]


@pytest.fixture(scope="module")
def one_guest(real_kernel: Callable[[str], Kernel], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The results of _FRESH and then of _REBOOTED, all in one guest: its first check is what a reboot gives back."""
    try:
        return follow(real_kernel("bookworm"), (_FRESH, *_REBOOTED), tmp_path_factory.mktemp("boot"))
    except Problem as problem:
        unavailable(problem)


@pytest.fixture(scope="module")
def verdict(
    real_kernel: Callable[[str], Kernel], one_guest: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> Verdict:
    """A function that boots 6.1 on a machine, runs kvmprobe there and returns the verdict."""

    def get(machine: Machine, check: str = _CHECK, state: str = _LOADED) -> Any:
        if machine == MACHINE:
            return one_guest[0]["before"]["verdict"]
        folder = tmp_path_factory.mktemp("boot")
        (result,) = follow(real_kernel("bookworm"), [Case("", "", state, check)], folder, machine=machine)
        return result["before"]["verdict"]

    return get


@pytest.mark.parametrize(
    ("parameter", "reason", "cause"),
    [
        ("clearcpuid=svm", "kvm-amd-load-failed", "svm-cleared-by-clearcpuid"),
        ("module_blacklist=kvm_amd", "kvm-amd-load-failed", "module-blacklisted"),
    ],
)
def test_without_the_parameter_that_the_hint_removes(parameter: str, reason: str, cause: str, verdict: Verdict) -> None:
    before = verdict(Machine(parameters=parameter), _LOAD_KVM, "")
    assert (before["reason"], before["cause"]) == (reason, cause)
    (removed,) = re.findall("`grubby --update-kernel=ALL --remove-args='([^']*)'`", before["hint"])
    assert f"Remove {removed} from the kernel's command line" in before["hint"]
    after = verdict(Machine(parameters=parameter.replace(removed, "")))
    assert after["status"] == "confirmed", after


@pytest.mark.parametrize(
    ("cpu", "reason", "cause", "asked_for"),
    [
        ("EPYC,-svm", "cpu-lacks-svm", "qemu-without-svm", "-cpu EPYC,+svm`"),
        ("EPYC,+svm,-nx", "kvm-amd-load-failed", "no-nx", "give this VM the CPU feature NX"),
    ],
)
def test_with_the_cpu_that_the_hint_asks_for(
    cpu: str, reason: str, cause: str, asked_for: str, verdict: Verdict
) -> None:
    before = verdict(Machine(cpu), _LOAD_KVM, "")
    assert (before["reason"], before["cause"]) == (reason, cause)
    assert asked_for in before["hint"]
    model = re.search(r"-cpu ([^ `]+)`", before["hint"])
    after = verdict(Machine(model[1] if model else "EPYC,+svm"))
    assert after["status"] == "confirmed", after


def test_after_the_reboot_that_the_hint_asks_for(one_guest: list[Any], verdict: Verdict) -> None:
    rebooted = verdict(MACHINE)
    assert rebooted["status"] == "confirmed"
    wrong = [faults(case, result, rebooted) for case, result in zip(_REBOOTED, one_guest[1:])]
    assert wrong == [[], [], []]


def test_an_unsigned_module_under_lockdown(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    kernel = real_kernel("bookworm")
    modules = stub_modules.unpack(kernel, tmp_path / "modules")
    unsigned = stub_modules.unsigned(next(modules.rglob("kvm-amd.ko")).read_bytes())
    case = Case(
        "module-unsigned",
        "kvm-amd-load-failed",
        f"cp /opt/unsigned.ko {_MODULES}/kernel/arch/x86/kvm/kvm-amd.ko",
        _LOAD_KVM,
    )
    machine = Machine(parameters="lockdown=integrity")
    try:
        (result,) = follow(kernel, [case], tmp_path, {"opt/unsigned.ko": unsigned}, machine)
    except Problem as problem:
        unavailable(problem)
    assert result["before"]["evidence"]["kernel"]["lockdown"] == "integrity"
    assert faults(case, result) == []


def test_a_dom0_of_xen_booted_without_xen(
    real_kernel: Callable[[str], Kernel], verdict: Verdict, tmp_path: Path
) -> None:
    override = "sh -c 'echo XEN_OVERRIDE_GRUB_DEFAULT=0 >>/etc/default/grub.d/xen.cfg'"
    case = Case("xen-dom0", "cpu-lacks-svm", "", _LOAD_KVM, not_here=(override, *_GRUB))
    try:
        (result,) = follow(real_kernel("bookworm"), [case], tmp_path, machine=Machine(xen.CPU, 1), boot=xen.boot)
    except Problem as problem:
        unavailable(problem)
    assert result["before"]["evidence"]["surroundings"]["hypervisor_type"] == "xen"
    assert faults(case, result, verdict(MACHINE)) == []
