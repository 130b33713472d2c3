"""KVM's own answer: which levels it offers. It is the last word of sev_hardware_setup() (arch/x86/kvm/svm/sev.c)."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.quotes import from_log
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features.feature_evidence import has_set_up
from kvmprobe.judge.kernel_lines import log_texts
from kvmprobe.judge.sev.sev_readings import NO, YES, parameter, sev_evidence
from kvmprobe.judge.sev.sev_step import LEVELS, SEV, SEV_ES, SEV_SNP

# arch/x86/include/uapi/asm/kvm.h: KVM_X86_SEV_VM, KVM_X86_SEV_ES_VM, KVM_X86_SNP_VM (since 6.10 and 6.11).
_VM_TYPES = {SEV: 2, SEV_ES: 3, SEV_SNP: 4}
_PARAMETERS = {SEV: "sev", SEV_ES: "sev_es", SEV_SNP: "sev_snp"}
_NAMES = {SEV: "SEV", SEV_ES: "SEV-ES", SEV_SNP: "SEV-SNP"}
# "SEV enabled (ASIDs 100 - 509)" (since 6.2), "SEV supported: 410 ASIDs", "SEV-ES and SEV-SNP supported: 99 ASIDs".
_LINE = re.compile(
    r"^(?:kvm_amd: |SVM: )?(?P<names>SEV(?:-ES)?(?:-SNP)?(?: and SEV-SNP)?) "
    r"(?P<how>enabled|disabled|unusable|supported)\b"
)


class Offer:
    """What KVM offers: `known` is True, False, or None where nothing shows it; `shown`: the evidence, quoted."""

    def __init__(self, known: bool | None, shown: list[str]) -> None:
        self.known = known
        self.shown = shown


def offers(facts: Facts) -> dict[str, Offer]:
    """KVM's answer for each level, by the strongest evidence: VM types, kvm_amd's parameter, its log, misc.capacity.

    Log lines, parameters and capacity are those of a kvm_amd that is there and has started: an earlier one may have
    left them.
    """
    why_none = _why_none(facts)
    if why_none:
        return {level: Offer(False, [why_none]) for level in LEVELS}
    logged = _logged(facts)
    return {
        level: _by_type(facts, level) or _by_parameter(facts, level) or logged.get(level) or _by_capacity(facts, level)
        for level in LEVELS
    }


def _why_none(facts: Facts) -> str | None:
    """Why KVM offers no level at all; None where kvm_amd may offer some."""
    if facts.has_kvm_amd is False:
        return "kvm_amd is not loaded"
    if facts.backends():
        return "KVM answers through another backend than kvm_amd"
    if has_set_up(facts) is False:
        return "kvm_amd is built in, and has registered no /dev/kvm"
    return None


def _by_type(facts: Facts, level: str) -> Offer | None:
    """KVM_CAP_VM_TYPES, where it has the level. Kernels of 6.8 and 6.9 know the capability and not these types."""
    types = facts.evidence["ioctls"]["KVM_CHECK_EXTENSION"].get("KVM_CAP_VM_TYPES")
    bit = _VM_TYPES[level]
    if isinstance(types, int) and types >> bit & 1:
        return Offer(True, [f"KVM_CAP_VM_TYPES = {types:#x}: bit {bit} is 1"])
    return None


def _by_parameter(facts: Facts, level: str) -> Offer | None:
    """kvm_amd's parameter: since 5.11 it shows after loading what KVM uses. 5.10 does not change it, and has no
    sev_es."""
    value = parameter(facts, "kvm_amd", _PARAMETERS[level])
    shown = [f"kvm_amd.{_PARAMETERS[level]} = {value}"]
    if value in NO:
        return Offer(False, shown)
    if value in YES and has_set_up(facts) and parameter(facts, "kvm_amd", "sev_es") is not None:
        return Offer(True, shown)
    return None


def _logged(facts: Facts) -> dict[str, Offer]:
    """The lines that kvm_amd logged when it was loaded last. Until 6.1 a level without a line is not supported."""
    found: dict[str, Offer] = {}
    for text in log_texts(facts):
        line = _LINE.match(text)
        if line is None:
            continue
        names = line["names"].split(" and ")
        if _NAMES[SEV] in names:
            found = {}  # the first line of each load
        for level in LEVELS:
            if _NAMES[level] in names:
                found[level] = Offer(line["how"] in ("enabled", "supported"), from_log(text))
    if SEV in found:
        for level in (SEV_ES, SEV_SNP):
            found.setdefault(level, Offer(False, [*found[SEV].shown, f"kernel log: no line about {_NAMES[level]}"]))
    return found


def _by_capacity(facts: Facts, level: str) -> Offer:
    """The ASIDs that kvm_amd gave to the cgroup controller misc (since 5.13), "sev 410". It has none for SNP alone."""
    found = sev_evidence(facts)
    capacity = found["misc_capacity"] if found else None
    for line in capacity.splitlines() if isinstance(capacity, str) else ():
        name, _, number = line.partition(" ")
        if name == _PARAMETERS[level] and number not in ("", "0"):
            return Offer(True, [f"misc.capacity: {line}"])
    return Offer(None, [])
