"""The conditions of the PSP, which runs the firmware of SEV (drivers/crypto/ccp)."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.quotes import from_log
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, REBOOT
from kvmprobe.judge.check_result import quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.sev.sev_readings import device, line_not_followed, lines, platform_status, register, sev_evidence
from kvmprobe.judge.sev.sev_step import LEVELS, SEV_SNP, SevStep, StepAnswer, failed, met, unknown
from kvmprobe.model.cpu_lists import format_cpulist, parse_cpulist
from kvmprobe.model.registers import SYSCFG
from kvmprobe.model.values import error_of

_SNP = (SEV_SNP,)
_LEAST_SNP_API = (1, 51)  # SNP_MIN_API_MAJOR, SNP_MIN_API_MINOR (drivers/crypto/ccp/sev-dev.h)
_PLATFORM_ERROR = "0x13"  # SEV_RET_HWSEV_RET_PLATFORM (include/uapi/linux/psp-sev.h)

# Each message of a failure as it was until 6.11, and since. "failed to INIT rc -5, error 0x3", "SNP_INIT_EX failed …".
_SEV_INIT = r"^ccp .*SEV: (?:failed to INIT error|INIT(?:_EX)? failed) "
_SNP_INIT = r"^ccp .*SEV-SNP: (?:failed to INIT|SNP_INIT(?:_EX)? failed) "
_API = r"^ccp .*SEV(?:-SNP)? API:"  # The driver logs it when the firmware has answered.
_GIVEN_UP = "EBUSY"  # Of each command while psp_dead is set (__sev_do_cmd_locked() in drivers/crypto/ccp/sev-dev.c).
_SNP_RUNS = r"^ccp .*SEV-SNP API:"

_UPDATE = (
    "Update the machine's firmware (BIOS): it brings the PSP's bootloader and the SEV firmware.",
    "Install the newest SEV firmware of AMD in /lib/firmware/amd, then",
    *REBOOT[1:],
)


def has_ccp(facts: Facts) -> StepAnswer:
    """The module ccp, which drives the PSP. kvm_amd needs it, unless it is built in."""
    found = device(facts)
    if "ccp" in facts.modules or (found and found["registered"]):
        return met("the module ccp is loaded")
    if facts.evidence["modules"] is None:
        return met("the module ccp was loaded") if lines(facts, r"^ccp ") else unknown("the modules are not known")
    return failed("the module ccp is not loaded", [f"modules: {', '.join(facts.modules) or 'none of KVM'}"])


def reaches_psp(facts: Facts) -> StepAnswer:
    """psp_get_capability(): the PSP's registers answer. A machine may have several, one of them with SEV."""
    if platform_status(facts) is not None:
        return met("the PSP answers")
    logged = line_not_followed(facts, r"^ccp .*psp: unable to access the device", _API)
    if logged:
        return failed("the firmware hides the PSP", from_log(logged))
    return met("the kernel reported no PSP that it cannot reach")


def answers_status(facts: Facts) -> StepAnswer:
    """sev_get_api_version(), which the driver calls first. Where it fails, there is no /dev/sev."""
    logged = line_not_followed(facts, r"^ccp .*SEV: failed to get status", _API)
    if logged:
        return failed("the SEV firmware does not answer", from_log(logged))
    return met("the kernel reported no failure of the SEV firmware's status")


def has_device(facts: Facts) -> StepAnswer:
    """/dev/sev is registered."""
    found = device(facts)
    if found is None or found["registered"] is None:
        api = lines(facts, r"^ccp .*SEV API:")
        return met("the SEV firmware has answered the kernel") if api else unknown("/dev/sev is not known")
    if found["registered"]:
        return met("/dev/sev is registered")
    return failed(
        "there is no /dev/sev", ["/sys/class/misc/sev: does not exist", *from_log(*lines(facts, r"^ccp ")[-2:])]
    )


def is_alive(facts: Facts) -> StepAnswer:
    """psp_dead: the kernel gives up on a PSP that did not answer for its timeout."""
    if platform_status(facts) is not None:
        return met("the PSP answers")
    logged = line_not_followed(facts, r"^ccp .*timed out, disabling PSP", _API)
    if logged:
        return failed("the PSP no longer answers", from_log(logged))
    found = device(facts)
    error = error_of(found["platform"]) if found else None
    if error == _GIVEN_UP:
        return failed("the kernel has given the PSP up", [f"/dev/sev: SEV_PLATFORM_STATUS: {error}"])
    # ETIMEDOUT is kvmprobe's own deadline: the PSP may be busy with another command.
    return unknown(f"the PSP's state is not known{f': {error}' if error else ''}")


def all_online(facts: Facts) -> StepAnswer:
    """SNP_INIT fails where a CPU has not set SYSCFG.SNP_EN, and an offline CPU cannot."""
    found = sev_evidence(facts)
    present = _present(found["present"] if found else None)
    if present is None or not facts.online_is_known:
        return unknown("which CPUs are present is not known")
    missing = sorted(set(present) - set(facts.cpus))
    if missing:
        return failed("some CPUs are offline", [f"present and offline: {format_cpulist(missing)}"])
    return met("every CPU that is present is online")


def _present(text: str | None) -> list[int] | None:
    """The CPUs that are present. The kernel's list of offline CPUs also has those that could be plugged in."""
    try:
        return parse_cpulist(text) if text else None
    except ValueError:
        return None


def has_new_firmware(facts: Facts) -> StepAnswer:
    """SEV-SNP needs version 1.51 of the SEV firmware's interface."""
    message = "the SEV firmware is too old for SEV-SNP"
    logged = line_not_followed(facts, r"^ccp .*SEV-SNP support requires firmware version", _SNP_RUNS)
    if logged:
        return failed(message, from_log(logged, *lines(facts, r"^ccp .*SEV API:")[-1:]))
    version = _api(facts)
    if version is None:
        return unknown("the version of the SEV firmware is not known")
    text = f"{version[0]}.{version[1]}"
    return met(f"SEV firmware {text}") if version >= _LEAST_SNP_API else failed(message, [f"SEV firmware {text}"])


def _api(facts: Facts) -> tuple[int, int] | None:
    """The version of the SEV firmware's interface: of /dev/sev, else of the last log line."""
    answer = platform_status(facts)
    if answer is not None:
        major, _, minor = answer["api"].partition(".")
        return int(major), int(minor)
    logged = [re.search(r"API:(\d{1,3})\.(\d{1,3}) ", text) for text in lines(facts, _API)]
    last = logged[-1] if logged else None
    return (int(last[1]), int(last[2])) if last else None


def enabled_everywhere(facts: Facts) -> StepAnswer:
    """SYSCFG.SNP_EN is not 1 on some CPUs and 0 on others."""
    values = register(facts, SYSCFG)
    bits = {cpu: None if value is None else SYSCFG.bit(value, "SNP_EN") for cpu, value in values.items()}
    if {True, False} <= set(bits.values()):
        clear = {cpu: 0 for cpu, bit in bits.items() if bit is False}
        return failed("SNP is not enabled on every CPU", quote(clear, "SYSCFG.SNP_EN"))
    if bits and None not in bits.values():
        return met("SYSCFG.SNP_EN is the same on every CPU")
    return unknown("SYSCFG.SNP_EN is not known")


def snp_initialized(facts: Facts) -> StepAnswer:
    """SNP_INIT or SNP_INIT_EX has succeeded."""
    logged = line_not_followed(facts, _SNP_INIT, _SNP_RUNS)
    answer = platform_status(facts, of_snp=True)
    if answer is not None and answer["state"] == 1:
        return met("the SNP firmware is initialized")
    if logged:
        return failed("the SNP firmware refused SNP_INIT", from_log(logged))
    if lines(facts, _SNP_RUNS):
        return met("the SNP firmware was initialized")
    return unknown("whether SNP_INIT has succeeded is not known")


_AFTER_SNP = (
    "The SEV firmware refuses INIT because SNP_INIT failed before: see sev-snp.",
    "If SNP guests are not needed, turn SNP off in the firmware's setup, and SEV and SEV-ES work.",
)
_SMEE = (
    "Error 0x13 means that the platform has memory encryption off.",
    *FIRMWARE_SETUP,
    "Enable 'SMEE' (AMD CBS, CPU Common Options) explicitly: 'Auto' is off on some machines.",
)


def sev_initialized(facts: Facts) -> StepAnswer:
    """INIT or INIT_EX has succeeded, if it was tried."""
    answer = platform_status(facts)
    if answer is not None and answer["state"] > 0:
        return met("the SEV firmware is initialized")
    logged = lines(facts, _SEV_INIT)
    if not logged:
        return met("the kernel reported no failure of INIT")
    snp = lines(facts, f"{_SNP_INIT}|SEV-SNP support requires firmware")
    steps = _AFTER_SNP if snp else _SMEE if _PLATFORM_ERROR in re.findall(r"0x[0-9a-f]+", logged[-1]) else None
    return failed("the SEV firmware refused INIT", from_log(logged[-1], *snp[-1:]), steps)


STEPS = (
    SevStep(
        "sev-ccp-not-loaded",
        LEVELS,
        "The module ccp, which drives the PSP, is not loaded.",
        "sp_mod_init()",
        has_ccp,
        ("Load the module:", "# modprobe ccp"),
    ),
    SevStep(
        "sev-psp-unreachable",
        LEVELS,
        "The PSP's registers do not answer: the firmware hides the PSP or is broken.",
        "psp_get_capability()",
        reaches_psp,
        ("Update the machine's firmware (BIOS).", "Enable the PSP ('AMD Secure Processor') in its setup."),
        beats_kvm=True,
    ),
    SevStep(
        "sev-firmware-no-status",
        LEVELS,
        "The SEV firmware did not answer SEV_PLATFORM_STATUS when ccp was loaded, so there is no /dev/sev. The "
        "machine's firmware is usually too old, or memory encryption is off in its setup.",
        "sev_get_api_version()",
        answers_status,
        _UPDATE,
        beats_kvm=True,
    ),
    SevStep(
        "sev-psp-no-device",
        LEVELS,
        "ccp is loaded and has registered no /dev/sev: it found no PSP with SEV. The firmware's setup hides it, or the "
        "kernel is older than the CPU and does not know its PSP.",
        "sev_misc_init()",
        has_device,
        (
            "Install a newer kernel if this one is older than the CPU: ccp knows PSPs by their PCI numbers.",
            "Otherwise update the machine's firmware (BIOS), and enable the PSP and SMEE in its setup.",
        ),
        beats_kvm=True,
    ),
    SevStep(
        "sev-psp-dead",
        LEVELS,
        "The PSP did not answer a command in time. The kernel then sends it no more.",
        "__sev_do_cmd_locked()",
        is_alive,
        (
            "Power the machine off and on: the PSP starts anew only then.",
            "If it stops again, update the machine's firmware.",
        ),
        beats_kvm=True,
    ),
    SevStep(
        "sev-snp-cpus-offline",
        _SNP,
        "Some CPU that is present is offline. SNP_INIT needs SYSCFG.SNP_EN on every core and thread.",
        "snp_prepare()",
        all_online,
        (
            "Remove nosmt, maxcpus= and nr_cpus= from the kernel's command line, and take every CPU online.",
            "To run without SMT, turn it off in the firmware's setup instead.",
            *REBOOT,
        ),
    ),
    SevStep(
        "sev-snp-firmware-old",
        _SNP,
        "The SEV firmware is older than version 1.51, the first with SEV-SNP.",
        "__sev_snp_init_locked()",
        has_new_firmware,
        _UPDATE,
        beats_kvm=True,
    ),
    SevStep(
        "sev-snp-not-on-every-cpu",
        _SNP,
        "SYSCFG.SNP_EN is 1 on some CPUs and 0 on others.",
        "snp_prepare()",
        enabled_everywhere,
        ("Boot with every CPU online, without nosmt, maxcpus= and nr_cpus=.", *REBOOT),
    ),
    SevStep(
        "sev-snp-init-failed",
        _SNP,
        "The SEV firmware refused SNP_INIT. Error 0x3 means a configuration that it does not allow: a CPU without "
        "SNP_EN, an incomplete setup, or a start in legacy BIOS mode.",
        "__sev_snp_init_locked()",
        snp_initialized,
        (
            "Update the machine's firmware, and load its defaults.",
            *FIRMWARE_SETUP,
            (
                "Enable SMEE, 'SNP Memory (RMP Table) Coverage', 'SEV-SNP Support' and IOMMU, set 'SEV-ES ASID Space "
                "Limit' above 1, and choose UEFI as boot mode."
            ),
        ),
        beats_kvm=True,
    ),
    SevStep(
        "sev-init-failed",
        LEVELS,
        "The SEV firmware refused INIT. Its error code is in the kernel's log: 0x1 follows from a failed SNP_INIT, "
        "0x13 means that memory encryption is off.",
        "__sev_platform_init_locked()",
        sev_initialized,
        _UPDATE,
        beats_kvm=True,
    ),
)
