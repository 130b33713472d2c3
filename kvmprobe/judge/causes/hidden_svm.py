"""The CPU has SVM, and the kernel took the feature away at boot, so kvm_amd finds none until the next boot."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, log_matches, parameter_values
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, OFF_COMMAND_LINE, REBOOT
from kvmprobe.judge.check_result import bits, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import last_refusal, log_texts, refusals
from kvmprobe.model.cpu_lists import fold
from kvmprobe.model.registers import VM_CR

_REASONS = ("kvm-amd-load-failed", "kvm-amd-not-loaded", "kvm-device-missing")
_SVM = ("svm", "194", "6:2")  # X86_FEATURE_SVM is bit 2 of word 6 (arch/x86/include/asm/cpufeatures.h)
_CLEARED_AT_BOOT = r"^Clearing CPUID bits:(?P<names>.*)"


def clearing_parameters(facts: Facts, *names: str) -> list[str]:
    """The parameters clearcpuid= of the kernel's command line that name a feature."""
    return [text for text, values in parameter_values(facts, "clearcpuid") if set(names) & set(values)]


def cleared(facts: Facts, *names: str) -> list[str]:
    """That clearcpuid= took a feature from the kernel, quoted; [] where it did not."""
    given = clearing_parameters(facts, *names)
    logged = [
        match.string
        for match in log_matches(facts, _CLEARED_AT_BOOT)
        if set(names) & set(match.group("names").replace(",", " ").split())
    ]
    return [f"kernel command line: {text}" for text in given] + from_log(*logged)


def _flag_is_absent(facts: Facts) -> bool:
    flags = facts.svm_flag()
    return bool(flags) and all(flag is False for flag in flags.values())


def _raw_bit(facts: Facts) -> list[str]:
    """That the CPU has SVM and the kernel does not use it; [] where raw CPUID could not be read."""
    if not all(facts.svm().values()):
        return []
    return [*quote(bits(facts.svm()), "CPUID 0x80000001 ECX.SVM"), "/proc/cpuinfo: no svm"]


def clearcpuid(facts: Facts) -> Found | None:
    quoted = cleared(facts, *_SVM)
    if not quoted or not _flag_is_absent(facts):
        return None
    given = clearing_parameters(facts, *_SVM)
    refusal = last_refusal(facts, "no-svm")
    because = quoted + _raw_bit(facts) + (from_log(refusal.text) if refusal else [])
    return Found(because, parameter=given[0] if given else "clearcpuid=svm")


def hidden_since_boot(facts: Facts) -> Found | None:
    """SVMDIS was set when the kernel started, which then dropped svm for good, and is clear now."""
    logged = [text for text in log_texts(facts) if re.search(r"^SVM disabled \(by BIOS\) in MSR_VM_CR$", text)]
    values = facts.register("before", "VM_CR")
    clear = all(value is not None and not VM_CR.bit(value, "SVMDIS") for value in values.values())
    if not logged or not clear or not _flag_is_absent(facts):
        return None
    return Found([*from_log(*logged), *_raw_bit(facts), f"VM_CR = {fold(values)}"])


def hidden_flag(facts: Facts) -> Found | None:
    """Where the kernel's line names another obstacle, that one comes first."""
    if not all(facts.svm().values()) or not facts.svm() or not _flag_is_absent(facts):
        return None
    refusal = last_refusal(facts, "no-svm")
    if refusal is None and refusals(facts):
        return None
    return Found(_raw_bit(facts) + (from_log(refusal.text) if refusal else []))


CAUSES = (
    Cause(
        "svm-cleared-by-clearcpuid",
        (*_REASONS, "msr-unreadable"),
        "The kernel's command line has clearcpuid= with svm. The CPU has SVM and the firmware allows it; the kernel "
        "takes the feature away and kvm_amd finds none.",
        clearcpuid,
        OFF_COMMAND_LINE,
    ),
    Cause(
        "svm-hidden-since-boot",
        _REASONS,
        "VM_CR.SVMDIS was 1 when the kernel started and is 0 now. Since 6.7 the kernel then drops the feature svm "
        "until the next boot, and kvm_amd checks that feature.",
        hidden_since_boot,
        (
            "The firmware had SVM disabled at boot, and the kernel dropped svm until the next boot.",
            *FIRMWARE_SETUP,
            "Enable 'SVM Mode' in the firmware's setup and save.",
        ),
    ),
    Cause(
        "svm-hidden-by-kernel",
        _REASONS,
        "Raw CPUID has SVM, VM_CR does not forbid it, and the kernel shows no svm in /proc/cpuinfo, so kvm_amd "
        "refuses. Something took the feature away at boot.",
        hidden_flag,
        (
            (
                "The CPU has SVM, and the kernel does not use it. Check whether the kernel's command line disables it "
                "(clearcpuid=), and remove that parameter:"
            ),
            "$ grep -oE '(clearcpuid|nosvm|cpuid)[^ ]*' /proc/cmdline",
            "See what the kernel logged about it at boot:",
            "# journalctl -k -b -g 'CPUID|SVM|kvm'",
            *REBOOT,
        ),
    ),
)
