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
from scripts.cause_guests import software
from scripts.cause_guests.cases import REBOOTED, UNSIGNED, WITH_PARAMETER, WITHOUT_NX, WITHOUT_SVM, XEN_DOM0, Case
from tests.helpers import xen
from tests.helpers.hinted_guests import faults, follow
from tests.helpers.real_kernels import unavailable

pytestmark = pytest.mark.kernel

_FRESH = Case("", "", "", "modprobe kvm_amd")  # what a guest is after a reboot

Verdict = Callable[..., Any]


@pytest.fixture(scope="module")
def one_guest(real_kernel: Callable[[str], Kernel], tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The results of _FRESH and then of REBOOTED, all in one guest: its first check is what a reboot gives back."""
    try:
        return follow(real_kernel("bookworm"), (_FRESH, *REBOOTED), tmp_path_factory.mktemp("boot"))
    except Problem as problem:
        unavailable(problem)


@pytest.fixture(scope="module")
def verdict(
    real_kernel: Callable[[str], Kernel], one_guest: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> Verdict:
    """A function that boots 6.1 on a machine, brings it into a case's state and returns the verdict of its check."""

    def get(machine: Machine, case: Case = _FRESH) -> Any:
        if machine == MACHINE and case is _FRESH:
            return one_guest[0]["before"]["verdict"]
        (result,) = follow(real_kernel("bookworm"), [case], tmp_path_factory.mktemp("boot"), machine=machine)
        return result["before"]["verdict"]

    return get


@pytest.mark.parametrize("case", WITH_PARAMETER, ids=lambda case: case.cause)
def test_without_the_parameter_that_the_hint_removes(case: Case, verdict: Verdict) -> None:
    before = verdict(case.machine, case)
    assert (before["reason"], before["cause"]) == (case.reason, case.cause)
    (removed,) = re.findall("`grubby --update-kernel=ALL --remove-args='([^']*)'`", before["hint"])
    assert f"Remove {removed} from the kernel's command line" in before["hint"]
    after = verdict(Machine(parameters=case.machine.parameters.replace(removed, "")))
    assert after["status"] == "confirmed", after


@pytest.mark.parametrize(
    ("case", "asked_for"),
    [(WITHOUT_SVM, "-cpu EPYC,+svm`"), (WITHOUT_NX, "give this VM the CPU feature NX")],
)
def test_with_the_cpu_that_the_hint_asks_for(case: Case, asked_for: str, verdict: Verdict) -> None:
    before = verdict(case.machine, case)
    assert (before["reason"], before["cause"]) == (case.reason, case.cause)
    assert asked_for in before["hint"]
    model = re.search(r"-cpu ([^ `]+)`", before["hint"])
    after = verdict(Machine(model[1] if model else "EPYC,+svm"))
    assert after["status"] == "confirmed", after


def test_after_the_reboot_that_the_hint_asks_for(one_guest: list[Any], verdict: Verdict) -> None:
    rebooted = verdict(MACHINE)
    assert rebooted["status"] == "confirmed"
    wrong = [faults(case, result, rebooted) for case, result in zip(REBOOTED, one_guest[1:])]
    assert wrong == [[], [], []]


def test_an_unsigned_module_under_lockdown(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> None:
    kernel = real_kernel("bookworm")
    modules = software.module_files(kernel, tmp_path / "modules")
    try:
        (result,) = follow(kernel, [UNSIGNED], tmp_path, modules, UNSIGNED.machine)
    except Problem as problem:
        unavailable(problem)
    assert result["before"]["evidence"]["kernel"]["lockdown"] == "integrity"
    assert faults(UNSIGNED, result) == []


def test_a_dom0_of_xen_booted_without_xen(
    real_kernel: Callable[[str], Kernel], verdict: Verdict, tmp_path: Path
) -> None:
    try:
        (result,) = follow(real_kernel("bookworm"), [XEN_DOM0], tmp_path, machine=Machine(xen.CPU, 1), boot=xen.boot)
    except Problem as problem:
        unavailable(problem)
    assert result["before"]["evidence"]["surroundings"]["hypervisor_type"] == "xen"
    assert faults(XEN_DOM0, result, verdict(MACHINE)) == []
