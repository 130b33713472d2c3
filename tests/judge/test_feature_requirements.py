"""--require with the names of features: the feature's row is the answer, and the hint fits the step that refused it."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.formats.hint_steps import is_action, sentences
from kvmprobe.judge import judge
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.demands import parse_list
from tests.helpers.feature_runs import RUNS, in_effect, recorded_run, rows
from tests.helpers.recorded_evidence import recorded


def answer(evidence: Any, name: str) -> Any:
    """The row of one requirement."""
    (row,) = judge(evidence, parse_list(name))["requirements"]
    return row


@pytest.mark.parametrize(
    ("kernel", "parameters"), [("bookworm", "avic=1"), ("trixie-backports", "npt=0 avic=1"), ("bullseye", "nested=0")]
)
def test_each_feature_in_effect_is_met_and_no_other(kernel: str, parameters: str) -> None:
    evidence = recorded_run(kernel, parameters)
    report = judge(evidence, parse_list(",".join(FEATURES)))
    met = {row["name"] for row in report["requirements"] if row["status"] == "met"}
    assert met == in_effect(evidence)
    assert report["verdict"]["reason"] == "requirement-not-met"
    for row in report["requirements"]:
        assert (row["hint"] is None) == (row["status"] == "met")
        assert row["hint"] is None or any(map(is_action, sentences(row["hint"]))), row


def test_all_that_is_in_effect_leaves_the_verdict_good() -> None:
    evidence = recorded_run("trixie", "avic=1")
    report = judge(evidence, parse_list(",".join(sorted(in_effect(evidence)))))
    assert report["verdict"]["status"] == "confirmed"


@pytest.mark.parametrize("kernel", RUNS)
def test_a_parameter_that_is_off_is_to_be_switched_on(kernel: str) -> None:
    evidence = recorded_run(kernel, "npt=0 avic=1")
    for name in ("npt", "avic", "vls"):
        row = answer(evidence, name)
        assert row["status"] == "not-met"
        assert row["message"] == rows(evidence)[name]["why"]
        assert "options kvm_amd npt=1" in row["hint"]
        assert "modprobe -r kvm_amd" in row["hint"]
    evidence["modules"]["kvm_amd"]["state"] = "builtin"
    assert "kvm_amd.npt=1 on the kernel's command line" in answer(evidence, "npt")["hint"]


def test_what_the_hardware_cannot_have() -> None:
    evidence = recorded_run("trixie", "")
    assert answer(evidence, "vnmi")["hint"] == (
        "Give this VM the feature in the hypervisor outside, if the physical CPU has it (QEMU: `-cpu host`), "
        "or choose another host."
    )
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x1"][2] = hex(int(leaves["0x1"][2], 16) & ~(1 << 31))
    row = answer(evidence, "vnmi")
    assert row["message"].startswith("the hardware cannot have it: the CPU does not have it")
    assert row["hint"] == "No setting changes this: choose another host."


@pytest.mark.parametrize("name", ["avic", "x2avic", "ipiv"])
def test_no_hypervisor_is_to_give_a_vm_what_kvm_gives_none(name: str) -> None:
    assert answer(recorded("matrix/trixie/epyc"), name)["hint"] == "Use bare metal: KVM gives no VM this feature."


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("matrix/trixie/not-loaded", "kvm_amd is not loaded", "Load kvm_amd"),
        ("matrix/trixie/svmdis", "the firmware disabled SVM: VM_CR.SVMDIS is 1 on cpu0", "firmware's setup"),
        ("matrix/trixie/intel", "no CPU is AMD's or Hygon's", "another host"),
        ("hosts/kvm-pvm-without-svm", "KVM answers through", "backend"),
    ],
)
def test_hosts_on_which_kvm_amd_does_not_run(name: str, message: str, hint: str) -> None:
    row = answer(recorded(name), "npt")
    assert row["status"] == "not-met"
    assert message in row["message"]
    assert hint in row["hint"] or hint == "another host"


def test_what_the_evidence_does_not_show_is_unknown_and_the_verdict_inconclusive() -> None:
    evidence = recorded_run("trixie", "")
    evidence["modules"]["kvm_amd"]["parameters"]["avic"] = {"error": "EACCES"}
    report = judge(evidence, parse_list("avic"))
    assert report["requirements"][0]["status"] == "unknown"
    assert report["requirements"][0]["message"] == "kvm_amd.avic could not be read: EACCES"
    assert report["verdict"]["reason"] == "requirement-unknown"


@pytest.mark.parametrize(
    ("threshold", "hint"),
    [(True, "options kvm_amd pause_filter_thresh=128"), (False, "No setting changes this: choose another host.")],
)
def test_the_threshold_of_pause_filter_is_to_be_set_only_where_the_cpu_has_one(threshold: bool, hint: str) -> None:
    """svm_hardware_setup() sets pause_filter_thresh to 0 where the CPU does not have it."""
    evidence = recorded_run("trixie", "pause_filter_thresh=0")
    for leaves in evidence["cpus"]["cpuid"].values():
        leaves["0x1"][2] = hex(int(leaves["0x1"][2], 16) & ~(1 << 31))
        if not threshold:
            leaves["0x8000000a"][3] = hex(int(leaves["0x8000000a"][3], 16) & ~(1 << 12))
    row = answer(evidence, "pause-filter")
    assert "pause_filter_thresh is 0" in row["message"]
    assert hint in row["hint"]
    assert row["hint"] == answer(evidence, "pause-filter-threshold")["hint"]
