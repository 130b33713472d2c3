"""What a passive probe shows: what is certain without a VM, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvmprobe.judge import judge
from tests.helpers.passive_variants import passive
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name

MATRIX = [path for path in RECORDED if path.parts[-3] == "matrix"]

# What stops KVM before KVM_CREATE_VM, or is in the registers as they are.
CERTAIN = (
    "cpu-lacks-svm vendor-not-amd firmware-disabled sev-guest cpus-disagree kvm-amd-not-loaded kvm-amd-load-failed "
    "kvm-device-missing svm-held-by-another-owner msr-unreadable"
).split()


@pytest.mark.parametrize("path", MATRIX, ids=recorded_name)
def test_a_passive_probe_gives_what_is_certain_and_no_more(path: Path) -> None:
    active = json.loads(path.read_text())["verdict"]
    verdict = judge(passive(recorded(recorded_name(path))))["verdict"]
    if active["reason"] in CERTAIN:
        assert verdict["reason"] == active["reason"], verdict
    else:
        assert verdict["status"] == "inconclusive", (active, verdict)
    if verdict["reason"] == "vm-not-created":
        assert "--passive" in verdict["hint"]
