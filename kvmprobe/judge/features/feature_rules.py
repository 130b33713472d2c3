"""The rules of kvm_amd about one feature alone, where they are more than a bit, a parameter and other features."""

from __future__ import annotations

from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features.settings import is_on, parameter_of
from kvmprobe.judge.kernel_lines import log_texts
from kvmprobe.model.registers import CPUID_BITS

_SNP_LINE = "AVIC disabled: missing HvInUseWrAllowed on SNP-enabled system"
# The families with erratum 1235: Zen 1 and Zen 2, and Hygon's Dhyana.
_FAMILIES_1235 = ("23", "24")


def avic_is_forced(facts: Facts) -> bool:
    """Whether kvm_amd.force_avic makes kvm_amd use AVIC where CPUID does not show it (avic_hardware_setup(), 6.0)."""
    return is_on(parameter_of(facts, "force_avic")) is True


def avic_is_hidden(facts: Facts) -> bool:
    """Whether CPUID shows x2AVIC without AVIC on some CPU.

    The kernel calls it a bug of the firmware ("Cannot support x2AVIC due to AVIC is disabled": avic_hardware_setup()
    in arch/x86/kvm/svm/avic.c, since 6.0).
    """
    avic, x2avic = facts.cpuid_bit(CPUID_BITS["avic"]), facts.cpuid_bit(CPUID_BITS["x2avic"])
    return any(x2avic[cpu] and has_avic is False for cpu, has_avic in avic.items())


def avic_on_snp_host(facts: Facts) -> str | None:
    """AVIC on a host with SEV-SNP needs CPUID 0x8000001F EAX.HvInUseWrAllowed: avic_hardware_setup(), since 6.13
    (d81cadbe1642, "KVM: SVM: Disable AVIC on SNP-enabled system without HvInUseWrAllowed feature"). By the log."""
    found = [text for text in log_texts(facts) if _SNP_LINE in text]
    return f"the kernel's log: {found[-1]}" if found else None


def erratum_1235(facts: Facts) -> str | None:
    """kvm_amd does not let AVIC deliver IPIs on family 0x17: avic_hardware_setup(), since 6.17 (f9d1ca8e0a21), and 7.3
    also not on Hygon's family 0x18. Older kernels, which have no parameter enable_ipiv, do not have this rule."""
    if parameter_of(facts, "enable_ipiv") is None or is_on(parameter_of(facts, "enable_ipiv")) is not False:
        return None
    families = {info["cpu_family"] for info in facts.cpuinfos()}
    if families.isdisjoint(_FAMILIES_1235):
        return None
    number = min(family for family in families if family in _FAMILIES_1235)
    return f"erratum 1235 of family {int(number):#x}: the CPU may miss that a vCPU no longer runs"


# Parameters of kvm_amd that are younger than the rule about the threshold, so that they show that the kernel has it.
_AFTER_5_9 = ("sev_es", "intercept_smi", "tsc_scaling")


def pause_threshold_is_needed(facts: Facts) -> str | None:
    """With pause_filter_thresh=0 a VM's PAUSE does not exit: svm_vm_init() in arch/x86/kvm/svm/svm.c, since 5.9
    (830f01b089b1)."""
    if parameter_of(facts, "pause_filter_thresh") != "0" or not _has_threshold_rule(facts):
        return None
    return "kvm_amd.pause_filter_thresh is 0, and then svm_vm_init() intercepts no PAUSE"


def pause_threshold_may_be_needed(facts: Facts) -> str | None:
    """As above, where nothing shows whether the kernel is older than the rule."""
    if parameter_of(facts, "pause_filter_thresh") != "0" or _has_threshold_rule(facts):
        return None
    return "kvm_amd.pause_filter_thresh is 0, and a kernel since 5.9 then intercepts no PAUSE"


def _has_threshold_rule(facts: Facts) -> bool:
    return any(parameter_of(facts, name) is not None for name in _AFTER_5_9)
