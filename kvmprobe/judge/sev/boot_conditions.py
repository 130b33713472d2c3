"""The conditions of SEV-SNP that the kernel checks when it boots: its own code, the RMP, the IOMMU."""

from __future__ import annotations

from kvmprobe.judge.causes.quotes import from_log, hypervisor_text, in_vm, parameter_values
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, OFF_COMMAND_LINE, REBOOT
from kvmprobe.judge.check_result import FAIL, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.sev.sev_readings import lines, parameter, register, sev_evidence
from kvmprobe.judge.sev.sev_step import SEV_SNP, SevStep, StepAnswer, failed, met, unknown
from kvmprobe.model.registers import RMP_BASE, RMP_CFG, RMP_END
from kvmprobe.model.values import as_int, is_failure

_SNP = (SEV_SNP,)
_RMP_ADDRESS = ((1 << 52) - 1) & ~((1 << 13) - 1)  # RMP_ADDR_MASK: GENMASK_ULL(51, 13)
_SNP_FEATURE = 1 << 63  # FEATURE_SNP (drivers/iommu/amd/amd_iommu_types.h)
_PROBE = "snp_probe_rmptable_info()"
_IOMMU = "iommu_snp_enable()"
_ENABLED = r"AMD-Vi: IOMMU SNP support enabled|AMD-Vi: .*SNP enabled"

_RMP_SETUP = (
    *FIRMWARE_SETUP,
    (
        "Set 'SNP Memory (RMP Table) Coverage' to Enabled, which covers all memory (AMD CBS, CPU Common Options; "
        "other names: 'Secure Nested Paging', 'RMP Table')."
    ),
    "If there is no such entry, update the firmware.",
)


def has_code(facts: Facts) -> StepAnswer:
    """The parameter sev_snp of kvm_amd, which exists where the kernel can run SNP guests (since 6.11)."""
    if parameter(facts, "kvm_amd", "sev_snp") is not None:
        return met("the kernel has the code for SNP guests")
    if parameter(facts, "kvm_amd", "sev") is not None:
        because = [f"kernel {facts.evidence['kernel']['release']}: kvm_amd has the parameter sev and no sev_snp"]
        return failed("this kernel cannot run SEV-SNP guests", because)
    if lines(facts, r"\bSEV-SNP (?:enabled|disabled|supported)\b"):  # 6.9 and 6.10 have the RMP's code alone
        return met("the kernel has the code for SNP guests")
    return unknown("whether the kernel has the code for SNP guests is not known")


def is_bare_metal(facts: Facts) -> StepAnswer:
    """bsp_determine_snp(): no SNP on a CPU that shows a hypervisor."""
    answer = in_vm(facts)
    if answer:
        return failed("this host is a VM, where the kernel runs no SNP guests", hypervisor_text(facts))
    return unknown("whether this is a VM is not known") if answer is None else met("not a VM")


def not_turned_off(facts: Facts) -> StepAnswer:
    """sev=nosnp on the kernel's command line."""
    given = [text for text, values in parameter_values(facts, "sev") if "nosnp" in values]
    if given:
        return failed("sev=nosnp", [f"kernel command line: {text}" for text in given], parameter=given[-1])
    known = isinstance(facts.evidence.get("command_line"), list)
    return met("no sev=nosnp on the command line") if known else unknown("the kernel's command line is not known")


def has_rmp(facts: Facts) -> StepAnswer:
    """RMP_BASE and RMP_END: the memory that the firmware reserved for the RMP. A segmented RMP has a base alone."""
    message = "the firmware has reserved no memory for the RMP"
    bases, ends, configuration = (register(facts, which) for which in (RMP_BASE, RMP_END, RMP_CFG))
    segmented = any(RMP_CFG.bit(value, "SEG_RMP_ENABLED") for value in configuration.values() if value is not None)
    for name, values in (("RMP_BASE", bases), *(() if segmented else (("RMP_END", ends),))):
        empty = {cpu: hex(value) for cpu, value in values.items() if value is not None and not value & _RMP_ADDRESS}
        if empty:
            return failed(message, quote(empty, name))
    logged = lines(facts, r"Memory for the RMP table has not been reserved")
    if logged:
        return failed(message, from_log(logged[-1]))
    if bases and None not in bases.values() and (segmented or None not in ends.values()):
        return met("RMP_BASE and RMP_END are set on every CPU")
    if lines(facts, r"^SEV-SNP: (?:Segmented )?RMP (?:base )?table physical"):
        return met("the kernel found the RMP")
    return unknown("RMP_BASE and RMP_END are not known")


def has_valid_rmp(facts: Facts) -> StepAnswer:
    """RMP_BASE is not above RMP_END."""
    bases, ends = register(facts, RMP_BASE), register(facts, RMP_END)
    known = [(cpu, base, ends.get(cpu)) for cpu, base in bases.items() if base is not None]
    segmented = any(value is not None and value & 1 for value in register(facts, RMP_CFG).values())
    wrong = {cpu: f"{base:#x} - {end:#x}" for cpu, base, end in known if end is not None and base > end}
    if wrong and not segmented:
        return failed("the RMP ends before it begins", quote(wrong, "RMP_BASE - RMP_END"))
    logged = lines(facts, r"RMP configuration not valid")
    if logged:
        return failed("the RMP ends before it begins", from_log(logged[-1]))
    return met("the RMP's addresses are in order") if known else unknown("RMP_BASE and RMP_END are not known")


def has_iommu(facts: Facts) -> StepAnswer:
    """no_iommu, or iommu_default_passthrough(): the IOMMU is on, and no device bypasses it by default."""
    message = "the IOMMU is off or in passthrough mode"
    words = _iommu_words(facts)
    logged = lines(facts, r"SNP: IOMMU (?:is )?(?:either )?disabled or configured in passthrough")
    if words:
        because = [f"kernel command line: {words}", *from_log(*logged[-1:])]
        return failed(message, because, OFF_COMMAND_LINE, parameter=words)
    if logged:
        return failed(message, from_log(logged[-1]))
    if lines(facts, _ENABLED):
        return met("the kernel has enabled SNP in the IOMMU")
    found = sev_evidence(facts)
    if found is None:
        return unknown("the IOMMU is not known: the evidence was taken without --sev")
    if found["iommu"]["features"] is None:
        return unknown("the IOMMU is not known: /sys/class could not be read")
    if not found["iommu"]["features"]:
        return failed(message, ["/sys/class/iommu: no ivhd device"])
    domains = found["iommu"]["domains"]
    if not is_failure(domains) and domains.keys() == {"identity"}:
        return failed(message, [f"/sys/kernel/iommu_groups: all {domains['identity']} groups have the type identity"])
    return met("the IOMMU is on, and the command line sets no passthrough")


def _iommu_words(facts: Facts) -> str | None:
    """The parameter that turns the IOMMU off, else the one that puts it into passthrough mode.

    iommu_setup() in arch/x86/kernel/pci-dma.c: nothing undoes off; the last of pt, nopt and iommu.passthrough counts.
    """
    words = facts.evidence.get("command_line")
    decides = None
    for text in words if isinstance(words, list) else ():
        name, _, value = text.partition("=")
        values = value.split(",")
        if name in ("iommu", "amd_iommu") and "off" in values:
            return text
        if name == "iommu" and {"pt", "nopt"}.intersection(values):
            decides = text if "pt" in values else None
        elif name == "iommu.passthrough":
            decides = text if value[:1] in ("1", "y", "Y") or value == "on" else None
    return decides


def has_v1_tables(facts: Facts) -> StepAnswer:
    """The IOMMU uses page tables of version 1."""
    message = "the IOMMU uses page tables of version 2"
    given = [text for text, values in parameter_values(facts, "amd_iommu") if "pgtbl_v2" in values]
    logged = lines(facts, r"SNP: IOMMU is configured with V2 page table mode")
    if given or logged:
        because = [*(f"kernel command line: {text}" for text in given), *from_log(*logged[-1:])]
        return failed(message, because, parameter=given[-1] if given else "amd_iommu=pgtbl_v2")
    if has_iommu(facts).status == FAIL:
        return unknown("no IOMMU is in use, which would have page tables")
    known = isinstance(facts.evidence.get("command_line"), list) or lines(facts, _ENABLED)
    return met("the IOMMU uses page tables of version 1") if known else unknown("the IOMMU's page tables are not known")


def iommu_has_snp(facts: Facts) -> StepAnswer:
    """Bit 63 of the extended feature register of every IOMMU."""
    message = "the IOMMU has no SNP support"
    found = sev_evidence(facts)
    features = (found["iommu"]["features"] if found else None) or {}
    values = {name: as_int(str(text).partition(":")[0]) for name, text in features.items()}
    without = [name for name, value in values.items() if value is not None and not value & _SNP_FEATURE]
    if without:
        shown = [f"/sys/class/iommu/{name}/amd-iommu/features = {features[name]}: bit 63 is 0" for name in without]
        return failed(message, shown[:2])
    logged = lines(facts, r"SNP: IOMMU SNP feature not enabled|SNP: IOMMU does not support SNP")
    if logged:
        return failed(message, from_log(logged[-1]))
    if values and None not in values.values():
        return met("every IOMMU has SNP support")
    return met("the IOMMU has SNP support") if lines(facts, _ENABLED) else unknown("the IOMMU's features are not known")


def covers_memory(facts: Facts) -> StepAnswer:
    """snp_rmptable_init(): the RMP has an entry for each page of memory."""
    logged = lines(facts, r"RMP table does not cover full system RAM|RMP table does not cover")
    if logged:
        return failed("the RMP does not cover all memory", from_log(logged[-1]))
    return met("the kernel logged no memory outside of the RMP") if _knows_log(facts) else _NO_LOG


def maps_rmp(facts: Facts) -> StepAnswer:
    """snp_rmptable_init() fails for another reason."""
    logged = lines(facts, r"SNP: RMP initialization failed|Failed to map RMP")
    if logged:
        return failed("the kernel could not set up the RMP", from_log(*logged))
    return met("the kernel logged no failure with the RMP") if _knows_log(facts) else _NO_LOG


_NO_LOG = unknown("the kernel's log could not be read")


def _knows_log(facts: Facts) -> bool:
    """Whether the log was read. Lines of the boot may be lost: then KVM's answer shows what came of it."""
    return facts.evidence["log"]["error"] is None


STEPS = (
    SevStep(
        "sev-snp-kernel-lacks",
        _SNP,
        "The kernel cannot run SEV-SNP guests: kvm_amd has no parameter sev_snp. Linux has it since 6.11.",
        "CONFIG_KVM_AMD_SEV",
        has_code,
        ("Install a kernel of version 6.11 or later with CONFIG_KVM_AMD_SEV=y, and boot it.",),
    ),
    SevStep(
        "sev-snp-in-vm",
        _SNP,
        "The host is a virtual machine: the kernel runs SNP guests on bare metal alone.",
        "bsp_determine_snp()",
        is_bare_metal,
        ("Use bare metal: SNP guests do not run in a VM.",),
    ),
    SevStep(
        "sev-snp-off-by-command-line",
        _SNP,
        "sev=nosnp is on the kernel's command line.",
        "init_sev_config()",
        not_turned_off,
        OFF_COMMAND_LINE,
    ),
    SevStep(
        "sev-snp-no-rmp",
        _SNP,
        "RMP_BASE or RMP_END is 0 on some CPU: the firmware has reserved no memory for the RMP (reverse map table).",
        _PROBE,
        has_rmp,
        _RMP_SETUP,
    ),
    SevStep(
        "sev-snp-rmp-invalid",
        _SNP,
        "RMP_BASE is above RMP_END: the firmware has set up the RMP wrongly.",
        _PROBE,
        has_valid_rmp,
        ("Update the firmware, then set up the RMP again.", *_RMP_SETUP),
    ),
    SevStep(
        "sev-snp-iommu-off",
        _SNP,
        "The IOMMU is off, or in passthrough mode by default (iommu=pt, amd_iommu=off, "
        "CONFIG_IOMMU_DEFAULT_PASSTHROUGH). SNP needs DMA to be translated.",
        _IOMMU,
        has_iommu,
        (
            *FIRMWARE_SETUP,
            "Enable 'IOMMU' (AMD CBS, NBIO Common Options; other names: 'DMA Remapping', 'AMD-Vi') and save.",
            "If it is enabled, add iommu=nopt to the kernel's command line.",
        ),
    ),
    SevStep(
        "sev-snp-iommu-page-table",
        _SNP,
        "The IOMMU uses page tables of version 2 (amd_iommu=pgtbl_v2), which SNP does not allow.",
        _IOMMU,
        has_v1_tables,
        OFF_COMMAND_LINE,
        {"parameter": "amd_iommu=pgtbl_v2"},
    ),
    SevStep(
        "sev-snp-iommu-lacks-snp",
        _SNP,
        "The IOMMU does not show SNP support: the firmware's setup has it off, or the firmware is too old.",
        _IOMMU,
        iommu_has_snp,
        (
            *FIRMWARE_SETUP,
            "Enable 'SEV-SNP Support' (AMD CBS, NBIO Common Options), which is off by default, and save.",
            "If there is no such entry, update the firmware.",
        ),
    ),
    SevStep(
        "sev-snp-rmp-too-small",
        _SNP,
        "The RMP does not cover all of the memory: the firmware's setup has a limit for it.",
        "snp_rmptable_init()",
        covers_memory,
        _RMP_SETUP,
    ),
    SevStep(
        "sev-snp-rmp-failed",
        _SNP,
        "The kernel could not set up the RMP; its log has the reason.",
        "snp_rmptable_init()",
        maps_rmp,
        ("Report the kernel's log lines about the RMP to the machine's vendor.", *REBOOT),
    ),
)
