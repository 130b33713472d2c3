"""The rule of scripts/other-tools: which answers of a tool are right, and the page made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.lab import kernels
from kvmprobe.lab.scenarios import BY_NAME, SCENARIOS
from scripts.cause_guests.cases import BY_KERNEL
from scripts.tool_comparison import stored_answers
from scripts.tool_comparison.answers import ToolOutput, judge
from scripts.tool_comparison.page import page
from scripts.tool_comparison.rows import CAUSE_ROWS, SCENARIO_ROWS, Row
from scripts.tool_comparison.tools import TOOLS
from tests.helpers.run_kvmprobe import PROJECT

_KERNELS = [row.suite for row in kernels.DEBIAN]
_ROWS = {row.name: row for row in (*SCENARIO_ROWS, *CAUSE_ROWS)}
_USABLE = Row("works", True, "")
_FIRMWARE = Row("svmdis", False, "bios|firmware")

# For each tool an output that answers yes, one that answers no because of the firmware, and others.
_OUTPUTS = {
    "kvm-ok": {
        "yes": ToolOutput(0, "INFO: /dev/kvm exists\nKVM acceleration can be used\n"),
        "firmware": ToolOutput(1, "INFO: KVM (svm) is disabled by your BIOS\nKVM acceleration can NOT be used\n"),
        "cpu": ToolOutput(1, "INFO: Your CPU does not support KVM extensions\nKVM acceleration can NOT be used\n"),
        "unknown": ToolOutput(127, "sh: kvm-ok: not found\n"),
    },
    "virt-host-validate": {
        "yes": ToolOutput(1, "QEMU: Checking if device '/dev/kvm' exists : PASS\n"),
        "firmware": ToolOutput(1, "QEMU: Checking if device '/dev/kvm' exists : FAIL (the BIOS has enabled it?)\n"),
        "cpu": ToolOutput(1, "QEMU: Checking for hardware virtualization : FAIL (CPU features not found)\n"),
        "unknown": ToolOutput(127, "sh: virt-host-validate: not found: the BIOS\n"),
    },
    "lscpu": {
        "yes": ToolOutput(0, "Architecture: x86_64\nVirtualization:    AMD-V\nVirtualization type: full\n"),
        "cpu": ToolOutput(0, "Architecture: x86_64\nVirtualization type: full\n"),
        "unknown": ToolOutput(127, "sh: lscpu: not found: the BIOS\n"),
    },
    "snphost": {
        "yes": ToolOutput(1, "[ PASS ] - AMD CPU\n[ PASS ] - KVM supported: API version: 12\n"),
        "cpu": ToolOutput(1, "[ FAIL ] - AMD CPU\n[ FAIL ] - KVM supported: Error reading /dev/kvm: (No such file)\n"),
        "unknown": ToolOutput(127, "error while loading shared libraries: the BIOS\n"),
    },
    "fwts": {
        "yes": ToolOutput(0, "PASSED: Test 1, Virtualization extensions supported and enabled by BIOS.\n"),
        "firmware": ToolOutput(1, "FAILED [MEDIUM] X: Test 1, Virtualization extensions ... disabled by BIOS.\n"),
        "cpu": ToolOutput(0, "SKIPPED: Test 1, Processor does not support Virtualization extensions\n"),
        "unknown": ToolOutput(1, "Virtualization extensions check failed - cannot read msr. BIOS\n"),
    },
    "kvmprobe": {
        "yes": ToolOutput(0, "CONFIRMED svme-set-by-create-vm: ...\n"),
        "usable": ToolOutput(0, "USABLE guest-ran: ...\n"),
        "firmware": ToolOutput(1, "FAILED firmware-disabled: ...\n"),
        "cpu": ToolOutput(4, "NOT APPLICABLE vendor-not-amd: the CPU ...\n"),
        "unknown": ToolOutput(3, "INCONCLUSIVE msr-unreadable: the firmware ...\n"),
        "crashed": ToolOutput(70, "internal error: the firmware ...\n"),
    },
}
_CASES = [(tool, kind) for tool, outputs in _OUTPUTS.items() for kind in outputs]


@pytest.mark.parametrize(("tool", "kind"), _CASES)
def test_only_yes_is_right_where_kvm_is_usable(tool: str, kind: str) -> None:
    assert judge(_USABLE, {tool: _OUTPUTS[tool][kind]})[tool].right == (kind in ("yes", "usable"))


@pytest.mark.parametrize(("tool", "kind"), _CASES)
def test_only_no_with_the_cause_is_right_where_the_firmware_has_disabled_svm(tool: str, kind: str) -> None:
    assert judge(_FIRMWARE, {tool: _OUTPUTS[tool][kind]})[tool].right == (kind == "firmware")


@pytest.mark.parametrize("tool", _OUTPUTS)
def test_no_because_of_the_cpu_is_right_where_the_cpu_has_no_svm(tool: str) -> None:
    right = {kind for kind, output in _OUTPUTS[tool].items() if judge(_ROWS["no-svm"], {tool: output})[tool].right}
    assert "cpu" in right
    assert not right & {"yes", "usable", "unknown", "crashed"}


@pytest.mark.parametrize(("what", "right"), [("user tester is not in the group kvm", True), ("see the manual", False)])
def test_kvm_not_permitted_is_a_no_that_has_to_name_the_permission(what: str, right: bool) -> None:
    output = ToolOutput(3, f"INCONCLUSIVE kvm-not-permitted: {what}\n")
    answer = judge(_ROWS["not-in-group"], {"kvmprobe": output})["kvmprobe"]
    assert (answer.usable, answer.right) == (False, right)


def test_a_cause_outside_of_what_a_tool_states_about_kvm_does_not_count() -> None:
    output = ToolOutput(
        1, "Checking for cgroup 'devices' : PASS\nChecking if device /dev/kvm exists : FAIL (modules?)\n"
    )
    assert not judge(_ROWS["device-cgroup-refuses"], {"virt-host-validate": output})["virt-host-validate"].right


def test_a_lost_guest_is_wrong_for_every_tool() -> None:
    answers = judge(_USABLE, {})
    assert {tool: answer.right for tool, answer in answers.items()} == {tool.name: False for tool in TOOLS}


def test_the_page_has_sums_and_only_the_rows_that_differ(tmp_path: Path) -> None:
    def outputs(*kinds: str) -> dict[str, ToolOutput]:
        return {tool.name: _OUTPUTS[tool.name][kind] for tool, kind in zip(TOOLS, kinds)}

    cells = {
        ("epyc", "bookworm"): outputs(*["yes"] * 6),
        ("svmdis", "bookworm"): outputs("firmware", "firmware", "yes", "cpu", "firmware", "firmware"),
        ("svmdis", "trixie"): outputs("firmware", "firmware", "yes", "cpu", "firmware", "firmware"),
        ("blacklist-line", "bookworm"): outputs(*["yes"] * 6),
        ("no longer a row", "bookworm"): outputs(*["yes"] * 6),
    }
    stored_answers.save(cells, tmp_path / "answers.jsonl")
    lines = page(stored_answers.load(tmp_path / "answers.jsonl"), _KERNELS).splitlines()
    start = lines.index("## The sums")
    assert lines[start : lines.index("## What is not here")] == [
        "## The sums",
        "",
        "| tool | right, of 3 scenarios | right, of 1 causes | yes or no right, of 4 | wrong yes |",
        "| --- | --- | --- | --- | --- |",
        "| kvm-ok | 3 | 0 | 3 | 1 |",
        "| virt-host-validate | 3 | 0 | 3 | 1 |",
        "| lscpu | 1 | 0 | 1 | 3 |",
        "| snphost | 1 | 0 | 3 | 1 |",
        "| kvmprobe | 3 | 0 | 3 | 1 |",
        "| fwts | 3 | 0 | 3 | 1 |",
        "",
        "Guests by kernel: bookworm 3, trixie 1.",
        "",
        "## The scenarios in which they differ",
        "",
        "All are right on every kernel: epyc.",
        "",
        "| state | kernels | usable | kvm-ok | virt-host-validate | lscpu | snphost | kvmprobe | fwts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        (
            "| svmdis | bookworm, trixie | no | no: INFO: KVM (svm) is disabled by your BIOS "
            "| no: /dev/kvm exists: FAIL (the BIOS has enabled it?) | **wrong**: yes "
            "| **wrong**: no: AMD CPU; /dev/kvm: (No such file) "
            "| no: FAILED firmware-disabled | no: FAILED: Virtualization extensions ... disabled by BIOS. |"
        ),
        "",
        "## The causes in which they differ",
        "",
        "All are wrong on every kernel: blacklist-line.",
        "",
        "| state | kernels | usable | kvm-ok | virt-host-validate | lscpu | snphost | kvmprobe | fwts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "",
    ]


def test_the_page_is_that_of_the_stored_outputs() -> None:
    """`scripts/other-tools --no-boot` writes it again after a change of the rule or of a truth."""
    assert (PROJECT / "docs/other-tools.md").read_text() == page(stored_answers.load(), _KERNELS)


def test_every_scenario_and_every_cause_has_stored_outputs() -> None:
    found = {row for row, _ in stored_answers.load()}
    causes = {case.cause for cases in BY_KERNEL.values() for case in cases}
    assert found == {scenario.name for scenario in SCENARIOS} | causes
    assert not set(BY_NAME) & causes
