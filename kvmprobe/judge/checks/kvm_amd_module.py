"""Is kvm_amd loaded or built in?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, Result, bits, quote, why_unread
from kvmprobe.judge.checks.svm_bit import SVM_BIT
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import attempt_to_load, is_refused_by_log
from kvmprobe.judge.other_owner import svm_is_held
from kvmprobe.model.cpu_lists import cpu_names

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LoadAttempt

# The parameters that decide how SVM is used (arch/x86/kvm/svm/svm.c, svm/sev.c).
_DECISIVE = ("nested", "npt", "avic", "vnmi", "vgif", "sev", "sev_es", "sev_snp")


def kvm_amd_module(facts: Facts) -> Result:
    """svm_init() in arch/x86/kvm/svm/svm.c, and the module loader before it.

    Reads /sys/module, modprobe's answer where loading was tried, the kernel's log, EFER and VM_CR.
    Reasons: kvm-amd-not-loaded; kvm-amd-load-failed; svm-held-by-another-owner where SVME is set already;
    msr-unreadable where it is unknown whether CPU and firmware allow SVM.
    """
    if facts.has_kvm_amd is None:
        return Result(UNKNOWN, "/sys/module could not be read, so whether kvm_amd is loaded is unknown")
    if facts.has_kvm_amd:
        kvm_amd = facts.modules["kvm_amd"]
        known = kvm_amd["parameters"]
        parameters = [f"{name}={known[name]}" for name in _DECISIVE if isinstance(known.get(name), str)]
        return Result(PASS, f"kvm_amd is {kvm_amd['state']}" + (f" ({', '.join(parameters)})" if parameters else ""))
    attempt = attempt_to_load(facts)
    answer = _answer(attempt) if attempt else "kvm_amd is not loaded"
    message = f"{answer}; KVM {facts.answers_through()}" if facts.vm_created else answer
    because = [answer, *(facts.backend_evidence() if facts.vm_created else ())]
    set_before = facts.svme_set_before()
    if set_before:
        return svm_is_held(facts, f"{message}; EFER.SVME is 1 on {cpu_names(set_before)} already", answer)
    # Only a refusal is the kernel's: modprobe may also be configured to do nothing, or be missing.
    refused = attempt is not None and attempt["status"] not in (0, None) and facts.evidence["host"]["euid"] == 0
    refused = refused or is_refused_by_log(facts)
    if not refused and not _is_allowed(facts):
        return _not_comparable(facts, message, because)
    because += [*quote(bits(facts.svm()), SVM_BIT), *quote(facts.register_texts("before", "VM_CR"), "VM_CR")]
    return Result(FAIL, message, "kvm-amd-load-failed" if refused else "kvm-amd-not-loaded", because=because)


def _is_allowed(facts: Facts) -> bool:
    """Whether CPU and firmware are known to allow SVM, as KVM sees them.

    Where a hypervisor refuses VM_CR (EIO), KVM takes it for 0: rdmsrl() in arch/x86/include/asm/msr.h."""
    errors, flag = facts.register_errors("before", "VM_CR"), facts.svm_flag()
    svm = facts.svm()
    has_svm = all(flag[cpu] if bit is None else bit for cpu, bit in svm.items())
    return (
        bool(svm)
        and has_svm
        and all(value is not None or errors.get(cpu) == "EIO" for cpu, value in _vm_cr(facts).items())
    )


def _vm_cr(facts: Facts) -> dict[int, int | None]:
    return facts.register("before", "VM_CR")


def _not_comparable(facts: Facts, message: str, because: list[str]) -> Result:
    """kvm_amd is missing, and nothing shows whether that matters. A device that this user may not open comes first."""
    unread = why_unread(facts.register_errors("before", "VM_CR"))
    message = f"{message}; whether CPU and firmware allow SVM is unknown{unread}"
    because += [*quote(bits(facts.svm()), SVM_BIT), *quote(facts.register_texts("before", "VM_CR"), "VM_CR")]
    return Result(UNKNOWN, message, None if facts.may_not_open() else "msr-unreadable", because=because)


def _answer(attempt: LoadAttempt) -> str:
    """modprobe's answer in one line."""
    if attempt["status"] == 0:
        return "`modprobe kvm_amd` succeeded, but kvm_amd is not loaded"
    lines = [line.strip().removeprefix("modprobe: ") for line in attempt["output"].splitlines() if line.strip()]
    if lines:
        return f"`modprobe kvm_amd` failed: {'; '.join(lines)}"
    status = attempt["status"]
    return "`modprobe kvm_amd` could not be run" if status is None else f"`modprobe kvm_amd` failed: status {status}"
