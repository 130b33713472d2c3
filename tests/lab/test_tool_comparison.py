"""The rule of scripts/other-tools: which answers of a tool are right, and the page made of them."""

from __future__ import annotations

import pytest

from kvmprobe.lab.scenarios import BY_NAME
from scripts.tool_comparison.answers import TOOLS, ToolAnswer, ToolOutput, judge
from scripts.tool_comparison.page import page

_KVM_OK = {
    "yes": ToolOutput(0, "INFO: /dev/kvm exists\nKVM acceleration can be used\n"),
    "no": ToolOutput(1, "INFO: KVM (svm) is disabled by your BIOS\nKVM acceleration can NOT be used\n"),
    "crashed": ToolOutput(127, "sh: kvm-ok: not found\n"),
}
_VALIDATE = {
    "yes": ToolOutput(1, "QEMU: Checking if device /dev/kvm exists : PASS\nQEMU: Checking for cgroup : FAIL (x)\n"),
    "no": ToolOutput(1, "QEMU: Checking if device /dev/kvm exists : FAIL (the BIOS has enabled it?)\n"),
    "crashed": ToolOutput(127, "sh: virt-host-validate: not found\n"),
}
_KVMPROBE = {
    "yes": ToolOutput(0, "CONFIRMED svme-set-by-create-vm: ...\n"),
    "no": ToolOutput(1, "FAILED firmware-disabled: ...\n"),
    "not applicable": ToolOutput(4, "NOT APPLICABLE vendor-not-amd: the firmware ...\n"),
    "unknown": ToolOutput(3, "INCONCLUSIVE msr-unreadable: the firmware ...\n"),
    "crashed": ToolOutput(70, "internal error: the firmware ...\n"),
}
_OUTPUTS = dict(zip(TOOLS, (_KVM_OK, _VALIDATE, _KVMPROBE)))
_CASES = [(tool, kind) for tool, outputs in _OUTPUTS.items() for kind in outputs]


@pytest.mark.parametrize(("tool", "kind"), _CASES)
def test_only_yes_is_right_where_kvm_is_usable(tool: str, kind: str) -> None:
    assert judge(BY_NAME["epyc"], {tool: _OUTPUTS[tool][kind]})[tool].right == (kind == "yes")


@pytest.mark.parametrize(("tool", "kind"), _CASES)
def test_only_no_is_right_where_the_firmware_has_disabled_svm(tool: str, kind: str) -> None:
    answer = judge(BY_NAME["svmdis"], {tool: _OUTPUTS[tool][kind]})[tool]
    assert answer.right == (kind in ("no", "not applicable"))


@pytest.mark.parametrize("tool", TOOLS)
def test_no_with_another_cause_is_wrong(tool: str) -> None:
    assert not judge(BY_NAME["ordinary-user"], {tool: _OUTPUTS[tool]["no"]})[tool].right


def test_a_lost_guest_is_wrong_for_every_tool() -> None:
    assert {tool: answer.right for tool, answer in judge(BY_NAME["epyc"], {}).items()} == dict.fromkeys(TOOLS, False)


def test_the_page_has_sums_and_only_the_rows_that_differ() -> None:
    right, wrong = ToolAnswer("a | b", True), ToolAnswer("c", False)
    results = {
        ("epyc", "old"): dict.fromkeys(TOOLS, right),
        ("epyc", "new"): dict.fromkeys(TOOLS, right),
        ("svmdis", "old"): dict(zip(TOOLS, (wrong, wrong, right))),
        ("svmdis", "new"): dict(zip(TOOLS, (wrong, wrong, right))),
        ("no-svm", "new"): dict.fromkeys(TOOLS, wrong),
    }
    lines = page(results, [BY_NAME[name] for name in ("epyc", "no-svm", "svmdis")], ["old", "new"]).splitlines()
    assert lines[lines.index("| --- | --- | --- |") + 1 :] == [
        "| kvm-ok | 2 | 3 |",
        "| virt-host-validate | 2 | 3 |",
        "| kvmprobe | 4 | 1 |",
        "",
        "All three are right on every kernel: epyc.",
        "",
        "All three are wrong on every kernel: no-svm.",
        "",
        "They differ here:",
        "",
        "| scenario | kernels | truth | kvm-ok | virt-host-validate | kvmprobe |",
        "| --- | --- | --- | --- | --- | --- |",
        r"| svmdis | old, new | not usable: `bios\|firmware\|uefi` | **wrong**: c | **wrong**: c | right: a \| b |",
    ]
