"""The types of a judgement: what a report adds to its evidence. The same as a JSON Schema: report.schema.json.

Types only, imported where TYPE_CHECKING (evidence.py has the reason). A stored report may be older than a field or a
name: whoever reads one accepts a verdict without `cause` and `because`, a reason of RENAMED_REASONS (reasons.py), and
a check that CHECKS does not have.
"""

from __future__ import annotations

from typing import TypedDict

from kvmprobe.model.evidence import Evidence, Reading


class Verdict(TypedDict):
    status: str  # a key of reasons.EXIT_STATUS
    reason: str  # what was found: a name of reasons.REASONS
    cause: str | None  # why, where the evidence shows it
    summary: str  # one sentence: the message of the check that decided
    because: list[str]  # the values in the evidence that show it, such as "cpu0-1: EFER 0xd01 -> 0x1d01 -> 0xd01"
    hint: str  # what to do: one sentence for each step, commands between backticks


class CheckReport(TypedDict):
    id: str  # of check_table.CHECKS
    status: str  # "pass", "fail", "warn", "skip", "unknown"
    message: str
    hint: str | None  # as in Verdict
    blocked_by: str | None  # the check without which this one was skipped


class RequirementReport(TypedDict):
    """The answer to something that --require asked."""

    name: str  # as it was asked: "registers", "cpus>=64"
    status: str  # "met", "not-met", "unknown"
    message: str
    hint: str | None  # as in Verdict


class FeatureReport(TypedDict):
    """What kvm_amd made of one feature. None is unknown."""

    name: str  # of judge.features.FEATURES
    cpu: bool | None  # every CPU has it
    lacking: str | None  # the CPUs that lack it ("0-3,8"); None: none does
    allowed: bool | None  # the firmware, or the hypervisor outside, allows it
    kernel: bool | None  # this kernel knows it
    parameter: str | None  # of kvm_amd; None: the feature has none
    value: Reading  # of the parameter after loading; None: this kernel has no such parameter, or it is unknown
    offered: bool | None  # KVM's own answer: KVM_GET_SUPPORTED_CPUID, or a capability
    in_effect: bool | None
    first_no: str | None  # which step refused it first, of the enum in report.schema.json; None: none is known
    why: str | None  # why it is not in effect, or why that is unknown, in one sentence


class Tool(TypedDict):
    name: str
    version: str


class SevLevel(TypedDict):
    """Whether KVM can run guests of one level on this host."""

    level: str  # "sev", "sev-es", "sev-snp"
    status: str  # "available", "off", "unknown"
    cause: str | None  # the first step of the kernel that decides against it: a name of judge/sev/
    message: str
    because: list[str]
    hint: str | None  # as in Verdict; None: nothing to do


class SevStepReport(TypedDict):
    """One condition of the kernel, in its order."""

    id: str  # the name of the cause that it is where it fails
    status: str  # "pass", "fail", "unknown"
    message: str


class SevReport(TypedDict):
    levels: list[SevLevel]
    steps: list[SevStepReport]


class MoreOfReport(TypedDict, total=False):
    """Missing in reports of older versions, and where nobody asked for it."""

    requirements: list[RequirementReport]  # of --require, in the order of the question
    # In kvm_amd's own order, in JSON alone; none where the host has another vendor or backend.
    features: list[FeatureReport]
    sev: SevReport  # of --sev


class Report(MoreOfReport):
    schema: str  # judge.SCHEMA
    tool: Tool
    verdict: Verdict
    checks: list[CheckReport]
    evidence: Evidence
