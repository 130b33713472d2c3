"""The kernel's trace, the registers and KVM's uevents: on real kernels they agree."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import recorded

KERNELS = ("bullseye", "bookworm", "trixie", "trixie-backports")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("what", ["create", "load"])
def test_on_real_kernels_the_observers_agree(kernel: str, what: str) -> None:
    checks: Any = judge(recorded(f"trace/{kernel}-{what}"))["checks"]
    check = next(check for check in checks if check["id"] == "observers")
    assert check["status"] == "pass"
    at_load = "trixie" in kernel  # a VM then changes no register, with which uevents could be compared
    agree = "trace and registers" if at_load else "trace, registers and uevents"
    assert check["message"].startswith(f"{agree} agree on cpu0-1: ")
    written = "EFER written 0x1d01 on cpu0-1"
    assert (f"KVM_CREATE_VM: {written}" in check["message"]) == (not at_load)
    assert (f"loading kvm_amd: {written}" in check["message"]) == (at_load and what == "load")
