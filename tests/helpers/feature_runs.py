"""kvm_amd loaded with different parameters on real kernels, and what their logs state about each feature.

tests/judge/feature_runs.json has, by kernel and parameters ("npt=0 avic=1"), what feature_reloads.py printed in a guest
of the lab whose emulated CPU claims most features (CPU). The rest of the evidence is in tests/evidence/features.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features import features_of
from tests.helpers.recorded_evidence import recorded

CPU = (
    "qemu64,+svm,+npt,+lbrv,+nrip-save,+tsc-scale,+vmcb-clean,+flushbyasid,+decodeassists,+pause-filter,+pfthreshold,"
    "+avic,+v-vmsave-vmload,+vgif,x-force-features=on"
)
RUNS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parents[1] / "judge/feature_runs.json").read_text())

# What svm_hardware_setup() and avic_hardware_setup() log about a feature that they use.
_LOGGED = {
    "nested": "Nested Virtualization enabled",
    "npt": "Nested Paging enabled",
    "avic": "AVIC enabled",
    "vls": "Virtual VMLOAD VMSAVE supported",
    "vgif": "Virtual GIF supported",
}
_LOGGED_SINCE_6_1 = {"tsc-scaling": "TSC scaling supported", "lbrv": "LBR virtualization supported"}


def evidence_of_run(base: Any, run: Any) -> Any:
    """Put what one run printed into a copy of the evidence of its host."""
    evidence, run = copy.deepcopy(base), copy.deepcopy(run)
    evidence["modules"]["kvm_amd"]["parameters"] = run["parameters"]
    evidence["ioctls"]["KVM_CHECK_EXTENSION"].update(run["ioctls"]["KVM_CHECK_EXTENSION"])
    evidence["ioctls"]["KVM_GET_SUPPORTED_CPUID"] = run["ioctls"]["KVM_GET_SUPPORTED_CPUID"]
    evidence["log"]["lines"] = [{"seconds": 1.0, "text": text} for text in run["log"]]
    return evidence


def recorded_run(kernel: str, parameters: str) -> Any:
    """Return the evidence of one recorded run, which the caller may change."""
    return evidence_of_run(recorded(f"features/{kernel}"), RUNS[kernel][parameters])


def rows(evidence: Any) -> dict[str, Any]:
    """Return the rows of the features in evidence, by name."""
    return {row["name"]: row for row in features_of(Facts(evidence))}


def in_effect(evidence: Any) -> set[str]:
    """Return the names of the features that are in effect."""
    return {name for name, row in rows(evidence).items() if row["in_effect"]}


def logged(log: list[str], kernel: str) -> tuple[set[str], set[str]]:
    """Return the features that a log can show, and those that it shows to be in use."""
    lines = dict(_LOGGED) if kernel == "bullseye" else {**_LOGGED, **_LOGGED_SINCE_6_1}
    return set(lines), {name for name, line in lines.items() if any(text.endswith(line) for text in log)}
