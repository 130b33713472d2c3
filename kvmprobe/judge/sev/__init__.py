"""Whether KVM can run SEV, SEV-ES and SEV-SNP guests here; if not, which of the kernel's conditions is the first that
is not met.

The chain is in the kernel's order: each CPU at boot, the RMP and the IOMMU, the PSP, kvm_amd. KVM's own answer beats
it: what KVM offers is available, whatever a rule states, except where the evidence shows that no such guest can start.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features.feature_evidence import has_set_up
from kvmprobe.judge.sev import boot_conditions, cpu_conditions, kvm_conditions, psp_conditions
from kvmprobe.judge.sev.sev_offer import Offer, offers
from kvmprobe.judge.sev.sev_readings import asids, sev_evidence
from kvmprobe.judge.sev.sev_step import LEVELS, SEV, SevStep, StepAnswer

if TYPE_CHECKING:
    from kvmprobe.judge.causes.cause import Cause
    from kvmprobe.model.judgement import SevLevel, SevReport

AVAILABLE, OFF, NOT_KNOWN = "available", "off", "unknown"

SEV_STEPS: tuple[SevStep, ...] = (
    *cpu_conditions.STEPS,
    *boot_conditions.STEPS,
    *psp_conditions.STEPS,
    *kvm_conditions.STEPS,
)
SEV_CAUSES: dict[str, Cause] = {step.name: step.cause for step in SEV_STEPS}

# The CPU does not have the level, so that nobody expects it.
NOT_IN_CPU = ("sev-not-in-cpu", "sev-es-not-in-cpu", "sev-snp-not-in-cpu")

_Answers = list[tuple[SevStep, StepAnswer]]


def judge_sev(facts: Facts) -> SevReport:
    """The answer for each level, and each condition in the kernel's order."""
    answers = [(step, step.ask(facts)) for step in SEV_STEPS]
    offered = offers(facts)
    return {
        "levels": [_level(facts, level, offered[level], answers) for level in LEVELS],
        "steps": [
            {"id": step.name, "status": answer.status, "message": answer.message}
            for step, answer in answers
            if not step.is_last_resort
        ],
    }


def _level(facts: Facts, level: str, offer: Offer, answers: _Answers) -> SevLevel:
    mine = [(step, answer) for step, answer in answers if level in step.levels]
    beaten = any(step.beats_kvm and answer.status == FAIL for step, answer in mine)
    if offer.known and not beaten:
        return {
            "level": level,
            "status": AVAILABLE,
            "cause": None,
            "message": f"KVM can run {level.upper()} guests{_guests(facts, level)}",
            "because": offer.shown,
            "hint": None,
        }
    found = _first_failure(mine)
    if found:
        step, answer = found
        shown = [] if offer.known else offer.shown
        return {
            "level": level,
            "status": OFF,
            "cause": step.name,
            "message": answer.message,
            "because": [*answer.because, *(text for text in shown if text not in answer.because)],
            "hint": step.hint(answer, facts),
        }
    return _without_cause(facts, level, offer, mine)


def _first_failure(mine: _Answers) -> tuple[SevStep, StepAnswer] | None:
    """The first condition that is not met. The last resorts count where all others are known to be met."""
    chain = [(step, answer) for step, answer in mine if not step.is_last_resort]
    if all(answer.status == PASS for _, answer in chain):
        chain = mine
    return next(((step, answer) for step, answer in chain if answer.status == FAIL), None)


def _without_cause(facts: Facts, level: str, offer: Offer, mine: _Answers) -> SevLevel:
    missing = [answer.message for step, answer in mine if answer.status == UNKNOWN and not step.is_last_resort]
    known = offer.known is False
    message = (
        f"KVM offers no {level.upper()} guests, and the evidence does not show why"
        if known
        else f"whether KVM can run {level.upper()} guests is not known"
    )
    return {
        "level": level,
        "status": OFF if known else NOT_KNOWN,
        "cause": None,
        "message": message,
        "because": [*offer.shown, *dict.fromkeys(missing)],
        "hint": _how_to_find_out(facts),
    }


def _how_to_find_out(facts: Facts) -> str:
    """What was not done yet to take the evidence that is missing."""
    if facts.has_kvm_amd and has_set_up(facts) is False:
        return "kvm_amd has not started: the verdict about SVM states why, and what to do."
    missing = []
    if sev_evidence(facts) is None or facts.evidence["host"]["euid"] != 0:
        missing.append("Run `kvmprobe check --sev` as root on the host itself.")
    if facts.has_kvm_amd is False:
        missing.append("Load kvm_amd before: `modprobe kvm_amd`.")
    return " ".join(missing) or _READ_MORE


_READ_MORE = (
    "The values above could not be read. Load the modules msr and cpuid, and read the log from the boot: "
    "`modprobe -a msr cpuid`, `dmesg | grep -i -e sev -e snp -e ccp`."
)


def _guests(facts: Facts, level: str) -> str:
    """How many guests of a level there can be at a time, by their ASIDs."""
    found = asids(facts)
    if found is None:
        return ""
    highest, lowest = found
    first, last = (lowest, highest) if level == SEV else (1, lowest - 1)
    return f": ASIDs {first} to {last}" if 0 < first <= last else ""


__all__ = ["AVAILABLE", "NOT_IN_CPU", "NOT_KNOWN", "OFF", "SEV_CAUSES", "SEV_STEPS", "judge_sev"]
