"""`check --nested` on real kernels, with all CPU features that can be forced: each state of kvm_amd, and each fault.

The matrix runs it with ordinary features, without nested paging, and in a guest. Here each kernel boots once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kvmprobe.judge import judge
from tests.helpers import nested_faults
from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_FEATURES = (
    *("lbrv", "nrip-save", "tsc-scale", "flushbyasid", "decodeassists", "pause-filter", "pfthreshold", "avic"),
    *("v-vmsave-vmload", "vgif"),
)
_CPU = f"qemu64,+svm,+npt,{','.join(f'+{name}' for name in _FEATURES)},x-force-features=on"

# By state or fault: the cause, None where the verdict is confirmed, and the message of the check.
_RIGHT = "the guest in the guest computed, and left by VMMCALL and HLT, with"
_BOTH = "the guest in the guest failed with nested paging and shadow paging on cpu0-1: "
_FIRST = "the guest in the guest failed with nested paging on cpu0: "
_EXPECTED = {
    "nested-paging": (None, f"{_RIGHT} nested paging and shadow paging on cpu0-1"),
    "shadow-paging": (None, f"{_RIGHT} shadow paging on cpu0-1; KVM offers no nested paging to guests"),
    "nested-off": (
        "nested-off-by-parameter",
        "KVM does not offer SVM to guests: KVM_GET_SUPPORTED_CPUID 0x80000001 ECX.SVM = 0",
    ),
    "no-svm-for-the-guest": ("nested-registers-refused", f"{_BOTH}#GP at WRMSR EFER"),
    "no-paging": ("nested-vmrun-refused", f"{_BOTH}#UD at VMRUN"),
    "no-paging-no-handlers": ("nested-vmrun-refused", f"{_FIRST}a triple fault (KVM_EXIT_SHUTDOWN) at VMRUN"),
    "no-host-save-area": ("nested-vmrun-refused", f"{_BOTH}#GP at VMRUN"),
    "inner-exception": ("nested-wrong-exit-code", f"{_BOTH}exit code 0x46 (#UD) instead of 0x81 (VMMCALL)"),
    "inner-subtracts": ("nested-wrong-sum", f"{_BOTH}wrong sum"),
    "inner-loop": ("nested-deadline", f"{_FIRST}no end within its deadline of 1 s at VMRUN"),
}


def test_all_states_and_faults_are_expected() -> None:
    assert set(_EXPECTED) == {*nested_faults.STATES, *nested_faults.FAULTS}


@pytest.mark.parametrize("kernel", ["bullseye", "bookworm", "trixie", "trixie-backports"])
def test_each_state_and_each_fault_is_named(kernel: str, guest: Guest) -> None:
    program = Path(nested_faults.__file__)
    output = guest(f"PYTHONPATH=$PWD python3 -s -S -B {program}", kernel=kernel, cpu=_CPU)
    reports = {name: judge(evidence) for name, evidence in json.loads(output).items()}
    assert set(reports) == set(_EXPECTED)
    for name, (cause, message) in _EXPECTED.items():
        if (name, kernel) == ("no-host-save-area", "bullseye"):
            cause, message = _EXPECTED["nested-paging"]  # 5.10 does not check VM_HSAVE_PA
        verdict = reports[name]["verdict"]
        (check,) = (check for check in reports[name]["checks"] if check["id"] == "nested")
        print(name, verdict, check, file=sys.stderr)
        assert verdict["cause"] == cause, name
        assert verdict["status"] == ("failed" if cause else "confirmed"), name
        assert check["message"] == message, name
        svme = [check["status"] for check in reports[name]["checks"] if check["id"] == "svme"]
        assert svme == ["pass"], name  # the evidence of SVM itself stays as it is
