"""Does the CPU have SVM, and does the firmware allow it? has_svm() and is_disabled() in arch/x86/kvm/svm/svm.c."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvmprobe.judge.check import FAIL, PASS, UNKNOWN, WARN, Result, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.registers import CPUID_HYPERVISOR, CPUID_SEV, LEAF_SVM, VM_CR
from kvmprobe.model.values import error_of

_VENDORS = ("AuthenticAMD", "HygonGenuine")
_X86 = ("x86_64", "i686", "i586", "i386")


def vendor(facts: Facts) -> Result:
    machine = facts.evidence["host"]["machine"]
    if machine not in _X86:
        return Result(FAIL, f"this is a {machine} machine, SVM is of x86", "vendor-not-amd")
    vendors = facts.vendors()
    if None in vendors.values():
        return Result(UNKNOWN, f"the vendor could not be read on every CPU: {fold(vendors)}")
    if all(vendor in _VENDORS for vendor in vendors.values()):
        return Result(PASS, fold(vendors))
    message = f"{fold(vendors)} is neither AuthenticAMD nor HygonGenuine"
    if len(group(vendors)) > 1:
        return Result(FAIL, message, "cpus-disagree")
    # Where KVM answers without SVM, the check of the SVM bit names the backend.
    return Result(FAIL, message, None if facts.kvm_without_svm() else "vendor-not-amd")


def extended_leaf(facts: Facts) -> Result:
    highest = facts.highest_extended()
    text = f"highest {fold(highest)}"
    if None in highest.values():
        return Result(UNKNOWN, text)
    if any(value is not None and value < LEAF_SVM for value in highest.values()):
        return Result(WARN, f"{text} is below {LEAF_SVM:#x}: no nested paging; older kernels refuse it")
    return Result(PASS, text)


def svm_bit(facts: Facts) -> Result:
    svm = facts.svm()
    flag = facts.svm_flag()
    lacking = [cpu for cpu, value in svm.items() if value is False]
    if svm and all(svm.values()):
        return Result(PASS, f"CPUID 0x80000001 ECX.SVM = 1 on {cpu_names(svm)}")
    if lacking and any(svm.values()):
        return Result(FAIL, f"CPUID 0x80000001 ECX.SVM: {fold(svm)}", "cpus-disagree")
    message = (
        f"CPUID 0x80000001 ECX.SVM = 0 on {cpu_names(lacking)}"
        if lacking
        else f"raw CPUID could not be read; /proc/cpuinfo shows svm: {fold(flag)}"
    )
    outer = facts.hypervisor()
    if outer:
        message += f" (this is a VM under {outer})"
    if facts.kvm_without_svm():
        answers = "answers" if facts.vm_created else "is registered"
        return Result(FAIL, f"{message}; KVM {answers} through {facts.backend_text()}", "kvm-without-svm")
    if lacking:  # in an SEV guest that is no oversight, which the next check says
        return Result(FAIL, message, None if facts.is_sev_guest() else "cpu-lacks-svm")
    return Result(PASS if flag and all(flag.values()) else UNKNOWN, message)


def hidden_flag(facts: Facts) -> Result:
    svm = facts.svm()
    flag = facts.svm_flag()
    hidden = [cpu for cpu in facts.cpus if svm[cpu] and flag[cpu] is False]
    if hidden:
        return Result(WARN, f"the kernel hides svm of {cpu_names(hidden)} from /proc/cpuinfo; the CPU has it")
    if None in flag.values() or None in svm.values():
        return Result(UNKNOWN, f"svm in /proc/cpuinfo: {fold(flag)}; in raw CPUID: {fold(svm)}")
    if flag != svm:
        return Result(WARN, f"svm in /proc/cpuinfo: {fold(flag)}; in raw CPUID: {fold(svm)}")
    return Result(PASS, f"svm is {'shown' if any(flag.values()) else 'not shown'}, as by the CPU")


def sev_guest(facts: Facts) -> Result:
    if facts.is_sev_guest():
        reason = None if facts.kvm_without_svm() else "sev-guest"
        return Result(FAIL, "SEV_STATUS.SEV = 1: this host is a memory-encrypted guest", reason)
    error = error_of(facts.evidence["cpus"]["sev_status"])
    if error:
        return Result(UNKNOWN, f"CPUID offers SEV to this guest, and SEV_STATUS could not be read: {error}")
    offered = {*facts.cpuid_bit(CPUID_SEV).values(), *facts.cpuid_bit(CPUID_HYPERVISOR).values()}
    if None in offered:
        return Result(UNKNOWN, "raw CPUID could not be read")
    return Result(PASS, "not an SEV guest")


def firmware(facts: Facts) -> Result:
    values = facts.register("before", "VM_CR")
    disabled = {cpu: None if value is None else VM_CR.bit(value, "SVMDIS") for cpu, value in values.items()}
    text = f"VM_CR = {fold(values)}"
    off = [cpu for cpu, value in disabled.items() if value]
    if off and False in disabled.values():
        return Result(FAIL, f"{text}: SVMDIS is 1 on {cpu_names(off)} only", "cpus-disagree")
    if off:
        svml = facts.svml()
        locked = VM_CR.bit(values[off[0]] or 0, "LOCK")
        text += f": SVMDIS = 1, LOCK = {locked:d}"
        if all(svml[cpu] for cpu in off):
            return Result(FAIL, f"{text}; SVML = 1: locked with a key", "firmware-disabled-with-key")
        known = all(svml[cpu] is False for cpu in off)
        suffix = "; SVML = 0: only the firmware's setup can change it" if known else "; SVML could not be read"
        return Result(FAIL, text + suffix, "firmware-disabled")
    if None in disabled.values():
        return Result(UNKNOWN, f"{text}{why_unread(facts.register_errors('before', 'VM_CR'))}")
    return Result(PASS, f"{text}: SVMDIS = 0")


def cpus_agree(facts: Facts) -> Result:
    vm_cr = facts.register("before", "VM_CR")
    disabled = {cpu: None if value is None else VM_CR.bit(value, "SVMDIS") for cpu, value in vm_cr.items()}
    decisive = (
        ("vendor", facts.vendors()),
        ("SVM bit", facts.svm()),
        ("SVML", facts.svml()),
        ("VM_CR.SVMDIS", disabled),
    )
    harmless = (("VM_CR", vm_cr), ("highest extended leaf", facts.highest_extended()))
    differing = _differing(decisive)
    if differing:
        return Result(FAIL, f"CPUs differ: {differing}", "cpus-disagree")
    differing = _differing(harmless)
    if differing:
        return Result(WARN, f"CPUs differ, without consequence for SVM: {differing}")
    if not any(value is not None for _, values in decisive for value in values.values()):
        return Result(UNKNOWN, "nothing is known that could be compared")
    return Result(PASS, f"{cpu_names(facts.cpus)} agree")


def _differing(compared: Iterable[tuple[str, Mapping[int, object]]]) -> str:
    """What CPUs differ in, of what is known; "" where they do not."""
    known = [(name, {cpu: value for cpu, value in values.items() if value is not None}) for name, values in compared]
    return "; ".join(f"{name}: {fold(values)}" for name, values in known if len(group(values)) > 1)
