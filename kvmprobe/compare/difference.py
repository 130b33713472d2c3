"""One value of two reports, compared."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.judgement import Report


WORSE, BETTER, CHANGED, NOT_COMPARABLE, SAME = "worse", "better", "changed", "not comparable", "same"
RATINGS = (WORSE, BETTER, CHANGED, NOT_COMPARABLE, SAME)  # in the order of the output


class Difference:
    """A compared value: `subject` names it within its `area`, `was` and `now` are its values as text, `note` explains
    the rating (one of RATINGS)."""

    def __init__(self, area: str, subject: str, rating: str, was: str, now: str, note: str = "") -> None:
        self.area = area
        self.subject = subject
        self.rating = rating
        self.was = was
        self.now = now
        self.note = note

    def data(self) -> dict[str, str]:
        """The difference as JSON has it."""
        return {
            "area": self.area,
            "subject": self.subject,
            "rating": self.rating,
            "was": self.was,
            "is": self.now,
            "note": self.note,
        }


class Side:
    """One of the two reports, judged by this version."""

    def __init__(self, report: Report) -> None:
        self.evidence: Any = report["evidence"]
        self.facts = Facts(self.evidence)
        self.verdict = report["verdict"]
        self.checks = {check["id"]: check for check in report["checks"]}
        self.requirements = {row["name"]: row for row in report.get("requirements", ())}
        self.sev = report.get("sev")

    def cpu(self) -> tuple[str | None, ...]:
        """Vendor, family, model and name of the first CPU, by /proc/cpuinfo; only the vendor where that is unknown."""
        info = self.facts.first_cpuinfo()
        vendor = next(iter(self.facts.vendors().values()), None)
        return (vendor, info["cpu_family"], info["model"], info["model_name"]) if info else (vendor,)


def rate_numbers(was: int, now: int) -> str:
    """The rating of two numbers, where the higher number is worse. It is CHANGED where they are equal."""
    return CHANGED if was == now else WORSE if now > was else BETTER


def without_run_data(message: str) -> str:
    """A message without what differs from run to run: PIDs, and the addresses of pages."""
    message = re.sub(r"\[\d+\]", "", message)
    return re.sub(r"0x[0-9a-f]+000\b", "a page", message) if "VM_HSAVE_PA" in message else message
