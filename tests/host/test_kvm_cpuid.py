"""KVM_GET_SUPPORTED_CPUID of this host."""

from __future__ import annotations

from typing import Any

from kvmprobe.model.registers import FEATURE_LEAVES


def test_the_leaves_with_features_are_answered(host_report: Any) -> None:
    leaves = host_report["evidence"]["ioctls"]["KVM_GET_SUPPORTED_CPUID"]
    assert "0x80000001" in leaves
    assert set(leaves) <= set(map(hex, FEATURE_LEAVES))
    assert all(len(words) == 4 for words in leaves.values())
    assert int(leaves["0x80000001"][3], 16) >> 29 & 1, "KVM offers no long mode"


def test_flags_of_svm_have_a_list_of_their_own(host_report: Any) -> None:
    for info in host_report["evidence"]["cpus"]["cpuinfo"].values():
        assert isinstance(info["svm_flags"], list)
        assert not set(info["svm_flags"]) & set(info["flags"])
