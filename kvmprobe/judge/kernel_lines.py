"""The kernel's log lines that decide: refusals of kvm_amd and signs of an SEV guest, in their old and new wording.

Sources: has_svm(), is_disabled(), svm_hardware_setup() (5.10, 6.1), kvm_is_svm_supported() (6.2 to 6.5),
__kvm_is_svm_supported() (since 6.6) in arch/x86/kvm/svm/svm.c; kvm_arch_init() (until 6.1), kvm_x86_vendor_init() in
arch/x86/kvm/x86.c; hardware_enable_nolock() in virt/kvm/kvm_main.c.
"""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LoadAttempt

# Compiled when they are used first: a host that is in order uses none of them.
_KINDS = (
    ("other-vendor", r"already loaded (?:vendor module '(?P<word>[^']*)'|the other module)"),
    ("no-nx", r"NX \(Execute Disable\) not supported"),
    ("five-level", r"5-level paging on AMD SVM"),
    ("sev-guest", r"unsupported when running as an SEV guest"),
    ("hygon", r"(?:has_svm|SVM not supported by CPU \d+|kvm_amd)\b.*\bnot amd$"),
    ("cpuid-leaf", r"can't execute cpuid_8000000a"),
    ("constant-tsc", r"RT requires X86_FEATURE_CONSTANT_TSC"),
    ("fpu", r"inadequate fpu"),
    ("pat", r"host PAT\[0\] is not WB"),
    ("svmdis", r"disabled by bios|SVM disabled (?:\(by BIOS\) )?in MSR_VM_CR"),
    ("no-svm", r"svm not available|SVM not supported by CPU"),
    ("held", r"enabling virtualization on CPU\d+ failed"),
)
# svm_hardware_setup() logs this when nothing stood in its way: what the kernel refused before is settled.
_LOADED = r"Nested (?:Virtualization|Paging) (?:en|dis)abled"
# With these answers the module loader refused, before any function of KVM ran.
_BEFORE_KVM = r"not found|Key was rejected|Required key|Exec format|Unknown symbol|not permitted|install command"
_CLEARED = r"^Clearing CPUID bits:.*\b(?:svm|6:2)\b|[Cc]ommand line:.*\bclearcpuid=\S*\bsvm\b"
_BIT_CLEAR = r"(?:has_svm:|SVM not supported by CPU \d+,) svm not available$"
# Logged of the CPUs at boot, so still true now; the line of the module's own refusal comes after it.
_AT_BOOT = "SVM disabled (by BIOS) in MSR_VM_CR"
# arch/x86/mm/mem_encrypt.c, arch/x86/coco/sev/core.c, arch/x86/kernel/cpu/mshyperv.c (isolation type 2: SNP). Lines
# about SME alone, and those of ccp and kvm_amd about guests of their own, are of a host.
_SEV_GUEST = (
    r"Memory Encryption Features active:.*\bSEV\b|Secure Encrypted Virtualization \(SEV\) active|"
    r"unsupported when running as an SEV guest|"
    r"^SEV: (?:Using SNP CPUID table|SNP running at VMPL|SNP guest platform|Status: SEV\b)|"
    r"Hyper-V: Isolation Config:.*Group B 0x[0-9a-f]*2$"
)


def log_texts(facts: Facts) -> list[str]:
    """The kernel's log lines in the evidence, oldest first, without their times."""
    return [line["text"] for line in facts.evidence["log"]["lines"]]


def texts_since_loaded(facts: Facts) -> list[str]:
    """The log lines since kvm_amd last found nothing in its way; all of them where it never did."""
    texts = log_texts(facts)
    loaded = [number for number, text in enumerate(texts) if re.search(_LOADED, text)]
    return texts[loaded[-1] + 1 :] if loaded else texts


def attempt_to_load(facts: Facts) -> LoadAttempt | None:
    """The last attempt to load kvm_amd during the probe."""
    return next((load for load in reversed(facts.evidence["loads"]) if load["module"] == "kvm_amd"), None)


def answer_of_modprobe(facts: Facts) -> str:
    """What modprobe wrote when kvm_amd was to be loaded; "" without an attempt."""
    attempt = attempt_to_load(facts)
    return attempt["output"] if attempt else ""


def sev_lines(facts: Facts) -> list[str]:
    """The log lines that show this host to be a memory-encrypted guest."""
    return [text for text in log_texts(facts) if ("SEV" in text or "Isolation" in text) and re.search(_SEV_GUEST, text)]


def is_confidential(facts: Facts) -> bool:
    """Whether this host is itself a memory-encrypted guest, by SEV_STATUS or by the kernel's log."""
    return bool(facts.is_sev_guest() or sev_lines(facts))


class Refusal:
    """One line in which the kernel refuses kvm_amd: its kind, its text, and the word that it names."""

    def __init__(self, kind: str, text: str, word: str | None) -> None:
        self.kind = kind
        self.text = text
        self.word = word


def refusals(facts: Facts) -> list[Refusal]:
    """The refusals since kvm_amd last found nothing in its way, oldest first."""
    return [refusal for text in texts_since_loaded(facts) if text != _AT_BOOT for refusal in _refusal(text)]


def _refusal(text: str) -> list[Refusal]:
    for kind, pattern in _KINDS:
        match = re.search(pattern, text)
        if match:
            return [Refusal(kind, text, match.groupdict().get("word"))]
    return []


def last_refusal(facts: Facts, kind: str) -> Refusal | None:
    """The last refusal, if it is of this kind and kvm_amd's last attempt got as far as KVM's own functions."""
    if re.search(_BEFORE_KVM, answer_of_modprobe(facts)):
        return None
    found = refusals(facts)
    return found[-1] if found and found[-1].kind == kind else None


def bit_clear_lines(facts: Facts) -> list[str]:
    """The lines of has_svm() (until 6.1) and kvm_is_svm_supported() (6.2 to 6.5) that the CPU has no SVM bit; none
    where clearcpuid= or the firmware's SVMDIS took it away.

    Newer kernels log "SVM not supported" where the firmware disabled SVM, so their line shows nothing about the bit.
    """
    taken = any(re.search(_CLEARED, text) for text in log_texts(facts)) or refusal_texts(facts, "svmdis")
    return [] if taken else [text for text in log_texts(facts) if re.search(_BIT_CLEAR, text)]


def is_refused_by_log(facts: Facts) -> bool:
    """Whether the log shows that the kernel refused kvm_amd, and nothing that it named went away since."""
    found = refusals(facts)
    if not found:
        return False
    last = found[-1]
    if last.kind == "held":
        return is_held_at_load(facts)
    return last.kind != "other-vendor" or last.word is None or last.word.replace("-", "_") in facts.modules


def is_held_at_load(facts: Facts) -> bool:
    """Whether the last refusal is that SVM was held, and of loading kvm_amd (since 6.12), not of creating a VM."""
    at_load = facts.enables_at_load() or re.search(r"Input/output error|resource busy", answer_of_modprobe(facts))
    return last_refusal(facts, "held") is not None and bool(at_load)


def refusal_texts(facts: Facts, kind: str) -> list[str]:
    """All lines of one kind, wherever they stand: for what cannot change until a reboot."""
    pattern = next(pattern for name, pattern in _KINDS if name == kind)
    return [text for text in log_texts(facts) if re.search(pattern, text)]
