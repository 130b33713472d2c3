"""Requirements about the verdict itself."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer
from kvmprobe.model.printable import one_line

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts


def _registers(facts: Facts) -> RequirementAnswer:
    """Whether the verdict is confirmed. "usable" is not enough: there the registers could not be read."""
    from kvmprobe.judge import judge  # which imports the requirements where they are asked

    verdict = judge(facts.evidence)["verdict"]
    text = f"the verdict is {verdict['status']} {verdict['reason']}"
    if verdict["status"] == "confirmed":
        return RequirementAnswer(MET, text)
    if verdict["status"] == "failed":
        return RequirementAnswer(NOT_MET, text, one_line(verdict["hint"], " "))
    if verdict["status"] == "not applicable":
        return RequirementAnswer(NOT_MET, text, "Run it on a host with a CPU of AMD or Hygon.")
    if verdict["status"] == "usable":
        text += ": the registers could not be read"
        hint = "Run `kvmprobe` with root's rights (CAP_SYS_RAWIO), so that it can read the registers of every CPU."
        return RequirementAnswer(UNKNOWN, text, hint)
    return RequirementAnswer(UNKNOWN, text, one_line(verdict["hint"], " "))


SVM_REQUIREMENTS = (
    Requirement(
        "registers",
        "the registers of every online CPU show SVM at work: the verdict is confirmed, not merely usable",
        _registers,
    ),
)
