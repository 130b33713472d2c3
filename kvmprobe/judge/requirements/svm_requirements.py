"""Requirements about the verdict itself."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import MET, NOT_MET, Requirement, RequirementAnswer
from kvmprobe.model.printable import one_line

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts


# By the reasons of "not applicable".
_OTHER_HOST = {
    "vendor-not-amd": "Run it on a host with a CPU of AMD or Hygon.",
    "kvm-without-svm": "Run it on a host where kvm_amd is KVM's backend.",
}


def _registers(facts: Facts) -> RequirementAnswer:
    """Whether the verdict is confirmed. "usable" is not enough: there the registers could not be read.

    What a guest in a guest did (--nested) shows nothing about the host's registers, so it is left out.
    """
    from kvmprobe.judge import judge  # which imports the requirements where they are asked

    evidence = facts.evidence.copy()
    nested = evidence.pop("nested", None)
    verdict = judge(evidence)["verdict"]
    subject = "the verdict is" if nested is None else "without the guest in a guest the verdict is"
    text = f"{subject} {verdict['status']} {verdict['reason']}"
    if verdict["status"] == "confirmed":
        return RequirementAnswer(MET, text)
    if verdict["status"] == "failed":
        return RequirementAnswer(NOT_MET, text, one_line(verdict["hint"], " "))
    if verdict["status"] == "not applicable":
        return RequirementAnswer(NOT_MET, text, _OTHER_HOST[verdict["reason"]])
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
