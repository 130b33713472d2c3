"""VM_CR.SVMDIS is 1: who set it, and who can change it (AMD APM volume 2, 15.4 and 15.30.1).

SVML (CPUID 0x8000000A EDX bit 2) is a capability that every CPU since family 0x10 has. It is no sign of a key.
"""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, hypervisor_text, in_vm
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import refusal_texts
from kvmprobe.model.registers import VM_CR

_REASONS = ("firmware-disabled",)
_ENABLE = (
    *FIRMWARE_SETUP,
    (
        "Enable 'SVM Mode' in the firmware's setup (or SVM, SVM Support, AMD-V, Secure Virtual Machine, Virtualization "
        "Technology; often under Advanced > CPU Configuration, Tweaker or Overclocking), save, and switch the machine "
        "off and on."
    ),
)


def _because(facts: Facts) -> list[str]:
    lines = from_log(*refusal_texts(facts, "svmdis"))
    dropped = all(facts.svm().values()) and not any(facts.svm_flag().values()) and None not in facts.svm_flag().values()
    return lines + (["/proc/cpuinfo: no svm, which the kernel drops since 6.7 where SVMDIS is 1"] if dropped else [])


def _bit(facts: Facts, bit: str) -> bool | None:
    values = [value for value in facts.register("before", "VM_CR").values() if value is not None]
    return any(VM_CR.bit(value, bit) for value in values) if values else None


def by_hypervisor(facts: Facts) -> Found | None:
    return Found([*_because(facts), *hypervisor_text(facts)]) if in_vm(facts) else None


def since_load(facts: Facts) -> Found | None:
    """kvm_amd does not load where SVMDIS is 1, so a module that is loaded found it 0."""
    module = facts.modules.get("kvm_amd")
    if module is None or module["state"] != "live":
        return None
    return Found([*_because(facts), "kvm_amd: live, so SVMDIS was 0 when it was loaded"])


def locked_and_key_possible(facts: Facts) -> Found | None:
    if not _bit(facts, "LOCK") or not any(facts.svml().values()):
        return None
    return Found(_because(facts))


def locked(facts: Facts) -> Found | None:
    return Found(_because(facts)) if _bit(facts, "LOCK") else None


def not_locked(facts: Facts) -> Found | None:
    return Found(_because(facts))


CAUSES = (
    Cause(
        "svm-disabled-by-hypervisor",
        _REASONS,
        "VM_CR.SVMDIS is 1 inside a VM: the hypervisor outside, or the firmware that it gives the VM, set it.",
        by_hypervisor,
        (
            (
                "This is a VM: the hypervisor outside set SVMDIS for it, and nothing inside the VM changes that. "
                "Ask whoever runs it to enable nested virtualization for this VM (AMD-V inside the guest), then power "
                "the VM off and on."
            ),
        ),
    ),
    Cause(
        "svm-disabled-since-load",
        _REASONS,
        "VM_CR.SVMDIS is 1 and kvm_amd is loaded, which refuses such a CPU: something set SVMDIS after kvm_amd was "
        "loaded, usually the firmware when the machine resumed from suspend.",
        since_load,
        (
            (
                "SVM was enabled when kvm_amd was loaded, and was switched off since, usually by the firmware after a "
                "suspend. Switch the machine off and on. If SVM is off again after the next suspend, update the "
                "firmware. If it is off at once, enable 'SVM Mode' in the firmware's setup."
            ),
        ),
    ),
    Cause(
        "svm-disabled-locked-key-possible",
        _REASONS,
        "VM_CR.SVMDIS and VM_CR.LOCK are 1: the firmware's setup has SVM disabled, and the firmware locked that "
        "until the next reset. The CPU knows SVM_KEY (SVML), as every CPU since family 0x10 does; whether a key was "
        "set cannot be read. So the registers do not distinguish the setup's own setting from a key; only the setup "
        "menu does.",
        locked_and_key_possible,
        (
            *_ENABLE,
            (
                "Only the setup can show whether it has SVM enabled already. If it has, ask the machine's vendor: it, "
                "or a boot-time security product, may hold a key, which kvmprobe cannot read."
            ),
        ),
    ),
    Cause(
        "svm-disabled-locked",
        _REASONS,
        "VM_CR.SVMDIS and VM_CR.LOCK are 1: the firmware's setup has SVM disabled, and the firmware locked that "
        "until the next reset.",
        locked,
        (*_ENABLE, "If the setup has no such entry, update the firmware."),
    ),
    Cause(
        "svm-disabled-not-locked",
        _REASONS,
        "VM_CR.SVMDIS is 1 and VM_CR.LOCK is 0, or unknown: the firmware's setup has SVM disabled. Software of ring "
        "0 could clear SVMDIS; KVM does not try.",
        not_locked,
        (*_ENABLE, "If the setup has no such entry, update the firmware."),
    ),
)
