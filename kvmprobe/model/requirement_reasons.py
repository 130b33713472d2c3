"""The reasons that --require gives: rows of the table in reasons.py."""

from __future__ import annotations

from kvmprobe.model.verdict_status import Reason

REQUIREMENT_REASONS = (
    Reason(
        "requirement-not-met",
        "failed",
        "KVM can use SVM, or that could not be found out, and something named with --require is not met. The report "
        "names it.",
        "Each requirement is a question of its own to the evidence: what the CPU has, what firmware and kernel allow, "
        "how much the host has of something.",
        "Depends on the requirement.",
        "Read the message of each requirement that is not met: it names what is missing. To require less, change "
        "--require.",
    ),
    Reason(
        "requirement-unknown",
        "inconclusive",
        "KVM can use SVM, and the evidence does not show whether something named with --require is met. The report "
        "names it.",
        "A value could not be read, or the report was written by a version of kvmprobe that did not read it.",
        "No line.",
        "Run `kvmprobe` of this version on the host itself, with root's rights.",
    ),
)
