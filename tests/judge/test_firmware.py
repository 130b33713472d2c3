"""VM_CR.SVMDIS, LOCK and CPUID SVML: three states, and none of them shows that a key was set."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.judge import judge
from tests.helpers.evidence_changes import everywhere, leaf, leaf_unread
from tests.helpers.recorded_evidence import recorded
from tests.helpers.variants import BASE, no_kvm_amd

KEY = "may hold a key"


def firmware(vm_cr: str, svml: str | None) -> Any:
    evidence = recorded(BASE)
    no_kvm_amd(evidence)
    everywhere("VM_CR", vm_cr)(evidence)
    leaf("0x1", 2, "0x0")(evidence)  # on bare metal
    (leaf("0x8000000a", 3, svml) if svml else leaf_unread("0x8000000a", "0", "1"))(evidence)
    return judge(evidence)["verdict"]


@pytest.mark.parametrize(("vm_cr", "lock"), [("0x10", "0"), ("0x18", "1")])
@pytest.mark.parametrize(("edx", "svml"), [("0x1", "0"), ("0x5", "1"), (None, "unknown")])
def test_every_svmdis_is_firmware_disabled(vm_cr: str, lock: str, edx: str | None, svml: str) -> None:
    verdict = firmware(vm_cr, edx)
    assert verdict["reason"] == "firmware-disabled"
    assert verdict["summary"] == f"VM_CR = {vm_cr}: SVMDIS = 1, LOCK = {lock}; SVML = {svml}"
    assert verdict["because"] == [f"cpu0-1: VM_CR = {vm_cr}", f"cpu0-1: CPUID 0x8000000A EDX.SVML = {svml}"]
    assert "Enable 'SVM Mode'" in verdict["hint"]
    assert (KEY in verdict["hint"]) == ((lock, svml) == ("1", "1"))


def test_a_key_is_possible_and_never_claimed() -> None:
    """Every AMD CPU since family 0x10 has SVML, so an ordinary "SVM Mode: Disabled" looks the same."""
    verdict = firmware("0x18", "0x5")
    assert "key" not in verdict["summary"]
    assert "Only the setup can show whether it has SVM enabled already." in verdict["hint"]


@pytest.mark.parametrize("vm_cr", ["0x0", "0x8"])
def test_without_svmdis_the_firmware_allows_svm(vm_cr: str) -> None:
    assert firmware(vm_cr, "0x5")["reason"] == "kvm-amd-not-loaded"
