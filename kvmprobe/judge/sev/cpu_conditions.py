"""The conditions of the CPU and its firmware, which the kernel checks on each CPU when it boots."""

from __future__ import annotations

from kvmprobe.judge.causes.quotes import family, from_log, hypervisor_text, in_vm
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP
from kvmprobe.judge.check_result import FAIL
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.sev.sev_readings import cpuid_bit, lines, register_bit
from kvmprobe.judge.sev.sev_step import LEVELS, SEV_ES, SEV_SNP, SevStep, StepAnswer, failed
from kvmprobe.model.registers import CPUID_BITS, HWCR, SYSCFG

_KERNEL = "early_detect_mem_encrypt()"
_OF_ES = (SEV_ES, SEV_SNP)
_ZEN3 = 0x19  # the first family with SNP
_IN_VM = ("This host is a VM, and its hypervisor offers it no {name}. Use bare metal.",)


def _of_cpu(facts: Facts, bit: str, name: str) -> StepAnswer:
    answer = cpuid_bit(facts, CPUID_BITS[bit], name)
    if answer.status == FAIL and in_vm(facts):
        return failed(answer.message, [*answer.because, *hypervisor_text(facts)], _IN_VM, name=name)
    return answer


def has_sev(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F EAX bit 1."""
    return _of_cpu(facts, "sev", "SEV")


def has_sev_es(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F EAX bit 3."""
    return _of_cpu(facts, "sev_es", "SEV-ES")


def has_sev_snp(facts: Facts) -> StepAnswer:
    """CPUID 0x8000001F EAX bit 4. Firmware in whose setup SNP is off clears it on some machines."""
    answer = _of_cpu(facts, "sev_snp", "SEV-SNP")
    number = family(facts)
    if answer.status == FAIL and answer.steps is None and number is not None and number < _ZEN3:
        answer.steps = (
            "This CPU has no SEV-SNP, and no setting can change that.",
            "Use a machine with an EPYC 7003 (Milan) or later.",
        )
    return answer


def encrypts_memory(facts: Facts) -> StepAnswer:
    """SYSCFG.MEM_ENCRYPT, which the firmware sets ("SMEE")."""
    answer = register_bit(facts, SYSCFG, "MEM_ENCRYPT", "the firmware has memory encryption (SMEE) off")
    logged = lines(facts, r"SEV: memory encryption not enabled by BIOS")
    if answer.status != FAIL and logged:
        return failed("the firmware has memory encryption (SMEE) off", from_log(logged[-1]))
    return answer


def locks_smm(facts: Facts) -> StepAnswer:
    """HWCR.SMMLOCK, which the firmware sets before it starts the kernel."""
    return register_bit(facts, HWCR, "SMMLOCK", "the firmware has not locked SMM")


STEPS = (
    SevStep(
        "sev-not-in-cpu",
        LEVELS,
        "CPUID 0x8000001F shows no SEV on some CPU. Only EPYC and some Ryzen PRO CPUs have it.",
        _KERNEL,
        has_sev,
        ("This CPU has no SEV, and no setting can change that.", "Use a machine with an AMD EPYC."),
    ),
    SevStep(
        "sev-es-not-in-cpu",
        _OF_ES,
        "CPUID 0x8000001F shows SEV and no SEV-ES on some CPU.",
        _KERNEL,
        has_sev_es,
        ("This CPU has SEV and no SEV-ES, and no setting can change that.", "Use a machine with another AMD EPYC."),
    ),
    SevStep(
        "sev-snp-not-in-cpu",
        (SEV_SNP,),
        "CPUID 0x8000001F shows no SEV-SNP on some CPU. EPYC 7003 (Milan) is the first that has it. On some machines "
        "the firmware clears the bit while SNP is off in its setup.",
        "bsp_determine_snp()",
        has_sev_snp,
        (
            "CPUs of this family have SEV-SNP where they are EPYC, and some firmware hides it while SNP is off.",
            *FIRMWARE_SETUP,
            (
                "Enable 'SEV-SNP Support' (AMD CBS, NBIO Common Options) and 'SNP Memory (RMP Table) Coverage' (CPU "
                "Common Options), or 'Secure Nested Paging'. If there is no such entry, update the firmware."
            ),
        ),
    ),
    SevStep(
        "sev-mem-encrypt-clear",
        LEVELS,
        "SYSCFG.MEM_ENCRYPT is 0 on some CPU: the firmware's setup has memory encryption (SMEE) off. The kernel then "
        "uses neither SME nor SEV.",
        _KERNEL,
        encrypts_memory,
        (
            *FIRMWARE_SETUP,
            (
                "Enable 'SMEE' (AMD CBS, CPU Common Options; other names: 'Secure Memory Encryption', 'Memory "
                "Encryption'), not only TSME, and save."
            ),
        ),
    ),
    SevStep(
        "sev-smm-not-locked",
        LEVELS,
        "HWCR.SMMLOCK is 0 on some CPU: the firmware has not locked SMM. The kernel then does not use SEV.",
        _KERNEL,
        locks_smm,
        (
            *FIRMWARE_SETUP,
            "Enable 'SMM Lock' (AMD CBS, CPU Common Options), or load the setup's defaults.",
            "If there is no such entry, update the firmware.",
        ),
    ),
)
