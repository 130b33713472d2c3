"""What the evidence shows of a feature: at the CPU, the firmware, the kernel, and in KVM's own answer."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features.feature_rules import avic_is_hidden
from kvmprobe.judge.features.settings import all_are_recorded, parameter_of
from kvmprobe.model.registers import CPUID_BITS, CPUID_HYPERVISOR, CPUINFO_SVM_FLAGS
from kvmprobe.model.values import as_int, is_failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvmprobe.judge.features.feature import Feature
    from kvmprobe.model.evidence import CpuInfo


def every(values: Iterable[bool | None]) -> bool | None:
    """False where one is False; None where one is unknown, or there is none; else True."""
    found = list(values)
    return False if False in found else None if None in found or not found else True


def by_cpu(feature: Feature, facts: Facts) -> dict[int, bool | None]:
    """Whether each CPU has the feature, by raw CPUID; where that could not be read, a flag in /proc/cpuinfo shows that
    it has it. A missing flag shows nothing: the kernel may not know the feature."""
    raw, flags = facts.cpuid_bit(CPUID_BITS[feature.bit]), flag_by_cpu(feature, facts)
    return {cpu: (flags[cpu] or None) if has is None else has for cpu, has in raw.items()}


def flag_by_cpu(feature: Feature, facts: Facts) -> dict[int, bool | None]:
    """Whether /proc/cpuinfo shows the feature's flag, by CPU; None where it is unknown. boot_cpu_has() is the same."""
    infos = facts.evidence["cpus"]["cpuinfo"]
    found = {} if is_failure(infos) else infos
    return {cpu: _has_flag(found.get(str(cpu)), feature.flag) for cpu in facts.identified}


def _has_flag(info: CpuInfo | None, flag: str | None) -> bool | None:
    if info is None or flag is None:
        return None
    flags = info.get("svm_flags") if flag in CPUINFO_SVM_FLAGS else info["flags"]
    # Evidence of the first versions does not have every flag that it should have had.
    return None if flags is None or (flag not in flags and "svm_flags" not in info) else flag in flags


def is_allowed(feature: Feature, facts: Facts, on_cpu: bool | None) -> bool | None:
    """Whether the firmware, or the hypervisor outside, allows the feature.

    No: VM_CR.SVMDIS is 1, or the firmware hides AVIC. Yes: SVM is allowed and every CPU shows the feature. What a CPU
    does not show may be hidden: unknown.
    """
    allowed = svm_is_allowed(facts)
    if allowed is False or (feature.name == "avic" and avic_is_hidden(facts)):
        return False
    return True if allowed and on_cpu else None


def svm_is_allowed(facts: Facts) -> bool | None:
    """Whether the firmware allows SVM, by VM_CR on every CPU, or because the registers show SVM at work."""
    if facts.works():
        return True
    return every(None if value is None else not value for value in facts.svmdis().values())


def kernel_knows(feature: Feature, facts: Facts) -> bool | None:
    """Whether this kernel knows the feature: kvm_amd has its parameter, or /proc/cpuinfo shows its flag."""
    if feature.parameter and parameter_of(facts, feature.parameter) is not None:
        return True
    flags = every(flag_by_cpu(feature, facts).values())
    if feature.parameter and all_are_recorded(facts) and not feature.without_parameter:
        return False
    if flags is False and every(facts.cpuid_bit(CPUID_BITS[feature.bit]).values()):
        return False  # The CPU shows it, the kernel does not.
    return flags or None


def is_offered(feature: Feature, facts: Facts) -> bool | None:
    """KVM's own answer: the capability, else the bit in KVM_GET_SUPPORTED_CPUID; None where kvm_amd did not answer."""
    if not facts.has_kvm_amd or facts.backends():
        return None
    ioctls = facts.evidence["ioctls"]
    if feature.capability:
        answer = ioctls["KVM_CHECK_EXTENSION"].get(feature.capability)
        return answer > 0 if isinstance(answer, int) else None
    leaves = ioctls.get("KVM_GET_SUPPORTED_CPUID")
    bit = CPUID_BITS[feature.bit]
    if leaves is None or is_failure(leaves):
        return None
    words = leaves.get(hex(bit.leaf))
    value = as_int(words[bit.register]) if isinstance(words, list) else None
    return None if value is None else bool(value >> bit.bit & 1)


def in_a_vm(facts: Facts) -> bool | None:
    """Whether the host is a VM, by CPUID on every CPU."""
    return every(facts.cpuid_bit(CPUID_HYPERVISOR).values())


def has_set_up(facts: Facts) -> bool | None:
    """Whether svm_hardware_setup() ran to its end, so that parameters have the values that kvm_amd gave them.

    A module that is live was initialised. One that is built in is there in any case: it registered /dev/kvm, or not.
    """
    if facts.has_kvm_amd is not True:
        return facts.has_kvm_amd
    state = facts.modules["kvm_amd"]["state"]
    if state == "live":
        return True
    if state != "builtin" or facts.backends():
        return None
    return facts.evidence["device"]["registered"]
