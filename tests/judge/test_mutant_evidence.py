"""Evidence of kernels with a mistake in KVM (scripts/mutants), which were once judged wrong."""

from __future__ import annotations

import pytest

from kvmprobe.judge import judge
from tests.helpers.recorded_evidence import recorded


@pytest.mark.parametrize(
    ("name", "reason", "quoted"),
    [
        # One reference to the VM's file is too many: no uevent of its end is missing, because the VM is alive.
        ("bookworm-vm-file-leak", "svme-not-cleared", "cpu0-1: EFER 0xd01 -> 0x1d01 -> 0x1d01"),
        # KVM stores the PID with the first uevent. Without that, the second one looks like another process's.
        ("bookworm-no-create-event", "observers-disagree", "destroy: COUNT = 18446744073709551615, CREATED = 0"),
    ],
)
def test_mistake_gets_its_reason(name: str, reason: str, quoted: str) -> None:
    """The verdict names what the evidence shows, and quotes it."""
    verdict = judge(recorded(f"mutants/{name}"))["verdict"]
    assert (verdict["status"], verdict["reason"]) == ("failed", reason)
    assert quoted in verdict["because"]
