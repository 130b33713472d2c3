"""Requirements about guests with encrypted memory. Without the evidence of --sev, KVM's own answer decides alone."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer
from kvmprobe.model.printable import one_line

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.judge.facts import Facts

_STATUSES = {"available": MET, "off": NOT_MET, "unknown": UNKNOWN}


def _level(name: str) -> Callable[[Facts], RequirementAnswer]:
    """The question whether KVM can run guests of a level of SEV."""

    def ask(facts: Facts) -> RequirementAnswer:
        from kvmprobe.judge.sev import judge_sev  # only where it is asked

        level = next(level for level in judge_sev(facts)["levels"] if level["level"] == name)
        cause = f" ({level['cause']})" if level["cause"] else ""
        hint = one_line(level["hint"], " ") if level["hint"] else None
        return RequirementAnswer(_STATUSES[level["status"]], f"{one_line(level['message'])}{cause}", hint)

    return ask


# `check` takes the evidence of --sev where one of these is required.
SEV_REQUIREMENTS = (
    Requirement("sev", "KVM can run SEV guests", _level("sev")),
    Requirement("sev-es", "KVM can run SEV-ES guests", _level("sev-es")),
    Requirement("sev-snp", "KVM can run SEV-SNP guests", _level("sev-snp")),
)
