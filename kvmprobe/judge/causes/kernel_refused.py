"""KVM's own code refuses the CPU when kvm_amd is loaded, or starts as a built-in module: the kernel's line decides."""

from __future__ import annotations

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.hidden_svm import cleared, clearing_parameters
from kvmprobe.judge.causes.quotes import (
    from_log,
    hypervisor_text,
    in_vm,
    parameters,
)
from kvmprobe.judge.causes.steps import FIRMWARE_SETUP, LOAD, OFF_COMMAND_LINE, OUTSIDE, REBOOT
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import answer_of_modprobe, is_held_at_load, last_refusal
from kvmprobe.model.cpu_lists import fold

_REFUSED = ("kvm-amd-load-failed", "kvm-amd-not-loaded", "kvm-device-missing")
_NX = ("nx", "52", "1:20")  # X86_FEATURE_NX is bit 20 of word 1


def no_nx(facts: Facts) -> Found | None:
    refusal = last_refusal(facts, "no-nx")
    if refusal is None:
        return None
    removed = cleared(facts, *_NX)
    off = [text for text in parameters(facts) if text in ("noexec=off", "noexec32=off")]
    because = from_log(refusal.text) + removed + [f"kernel command line: {text}" for text in off]
    if removed or off:
        given = clearing_parameters(facts, *_NX)
        return Found(because, OFF_COMMAND_LINE, parameter=(given + off + ["clearcpuid=nx"])[0])
    machine = facts.evidence["host"]["machine"]
    if machine != "x86_64":
        return Found([*because, f"machine = {machine}"], _WITHOUT_PAE)
    if in_vm(facts):
        return Found(
            because + hypervisor_text(facts), (f"{OUTSIDE} to give this VM the CPU feature NX (no-execute, nx).",)
        )
    return Found(because)


_WITHOUT_PAE = ("A 32-bit kernel uses NX only with PAE. Boot a 64-bit kernel, or a 32-bit one with CONFIG_X86_PAE=y.",)


def five_level(facts: Facts) -> Found | None:
    return _by_line(facts, "five-level")


def hygon(facts: Facts) -> Found | None:
    refusal = last_refusal(facts, "hygon")
    if refusal is None or "HygonGenuine" not in facts.vendors().values():
        return None
    release = facts.evidence["kernel"]["release"]
    return Found([*from_log(refusal.text), f"vendor HygonGenuine, kernel {release}"], release=release)


def cpuid_leaf(facts: Facts) -> Found | None:
    found = _by_line(facts, "cpuid-leaf")
    if found is not None:
        found.because.append(f"CPUID 0x80000000 EAX: {fold(facts.highest_extended())}")
    return found


def constant_tsc(facts: Facts) -> Found | None:
    return _by_line(facts, "constant-tsc")


def fpu(facts: Facts) -> Found | None:
    found = _by_line(facts, "fpu")
    if found is not None:
        off = [text for text in parameters(facts) if text in ("nofxsr", "no387")]
        found.because += [*cleared(facts, "fpu", "fxsr"), *(f"kernel command line: {text}" for text in off)]
    return found


def pat(facts: Facts) -> Found | None:
    return _by_line(facts, "pat")


def held_at_load(facts: Facts) -> Found | None:
    """Since 6.12 kvm_amd fails to load where EFER.SVME is 1. Where it still is, the reason is another one."""
    refusal = last_refusal(facts, "held")
    if refusal is None or facts.has_kvm_amd is not False or not is_held_at_load(facts):
        return None
    because = [*from_log(refusal.text), f"EFER = {fold(facts.register('before', 'EFER'))}"]
    return Found(because, _STILL_HELD if None in facts.svme("before").values() else None)


_STILL_HELD = (
    "Another owner of SVM kept kvm_amd from loading. End its VMs (VirtualBox, VMware), and load kvm_amd again:",
    *LOAD,
    "If there is no such owner, reboot, which resets the CPUs:",
    "# systemctl reboot",
)


def _by_line(facts: Facts, kind: str) -> Found | None:
    refusal = last_refusal(facts, kind)
    return Found(from_log(refusal.text) + hypervisor_text(facts)) if refusal else None


def unexplained(facts: Facts) -> Found | None:
    """EOPNOTSUPP is what KVM's own checks answer, and without the log nobody knows which one."""
    if "Operation not supported" not in answer_of_modprobe(facts) or facts.evidence["log"]["error"] is None:
        return None
    return Found([f"the kernel's log could not be read: {facts.evidence['log']['error']}"])


CAUSES = (
    Cause(
        "no-nx",
        _REFUSED,
        "The kernel finds no NX (no-execute), which kvm_amd needs since 5.14: disabled in the firmware's setup, by the "
        "kernel's command line, or not given to this VM.",
        no_nx,
        (
            *FIRMWARE_SETUP,
            "Enable NX (also called 'NX Mode', 'No-Execute Memory Protection', 'XD') in the firmware's setup and save.",
        ),
    ),
    Cause(
        "five-level-paging",
        _REFUSED,
        "The kernel runs with 5-level paging (LA57), and its kvm_amd does not support that yet.",
        five_level,
        (
            (
                "Boot with 4-level paging: add no5lvl to the kernel's command line. With GRUB, add it to "
                "GRUB_CMDLINE_LINUX in /etc/default/grub, then run"
            ),
            "# grub-mkconfig -o /boot/grub/grub.cfg",
            "or, where grubby is installed (Fedora, RHEL):",
            "# grubby --update-kernel=ALL --args=no5lvl",
            *REBOOT,
            "Or install a newer kernel, whose kvm_amd supports 5-level paging.",
        ),
    ),
    Cause(
        "kernel-too-old-for-hygon",
        _REFUSED,
        "The CPU is a Hygon, and this kernel's kvm_amd accepts AuthenticAMD only. Linux 4.20 added Hygon.",
        hygon,
        ("Boot a newer kernel: Linux 4.20 or later supports SVM on Hygon CPUs, and this one is {release}.",),
    ),
    Cause(
        "cpuid-leaf-missing",
        _REFUSED,
        "The highest extended CPUID leaf is below 0x8000000A, and this kernel's kvm_amd refuses such a CPU.",
        cpuid_leaf,
        (
            (
                f"In a VM: {OUTSIDE[0].lower()}{OUTSIDE[1:]} for a CPU model with leaf 0x8000000A (QEMU: -cpu host, "
                "or xlevel=0x8000001e). On bare metal: update the firmware, or boot a newer kernel, which does not "
                "ask for this leaf."
            ),
        ),
    ),
    Cause(
        "rt-without-constant-tsc",
        _REFUSED,
        "The kernel is a PREEMPT_RT one, and the CPU has no constant TSC, which its KVM needs.",
        constant_tsc,
        (
            (
                "Boot a kernel without PREEMPT_RT. In a VM, give it a constant TSC instead "
                "(QEMU: -cpu host,+invtsc; libvirt: <feature policy='require' name='invtsc'/>)."
            ),
        ),
    ),
    Cause(
        "fpu-inadequate",
        _REFUSED,
        "The kernel has no FPU or no FXSR to use, without which KVM refuses: disabled by the kernel's command line "
        "(nofxsr, no387, clearcpuid=) or not given to this VM.",
        fpu,
        (
            (
                "Remove nofxsr, no387 and clearcpuid= with fxsr or fpu from the kernel's command line and reboot; "
                "in a VM, have the hypervisor outside give the CPU features fpu and fxsr."
            ),
        ),
    ),
    Cause(
        "pat-not-write-back",
        _REFUSED,
        "The first entry of the register PAT is not write-back. The kernel writes it so; firmware or a hypervisor "
        "outside that changes or refuses it is at fault.",
        pat,
        (
            (
                "Update the firmware; in a VM, update the hypervisor outside. If it is the newest, report this to its "
                "vendor with the kernel's line: entry 0 of PAT must be 06 (write-back)."
            ),
        ),
    ),
    Cause(
        "svm-held-at-load",
        _REFUSED,
        "When kvm_amd was last loaded, EFER.SVME was 1 on a CPU without KVM's doing, and since 6.12 kvm_amd then fails "
        "to load. Now it is 0, or unknown.",
        held_at_load,
        ("Another owner of SVM kept kvm_amd from loading, and is gone now. Load kvm_amd again:", *LOAD),
    ),
)

UNEXPLAINED = Cause(
    "kernel-log-unreadable",
    ("kvm-amd-load-failed",),
    "KVM's own checks refused kvm_amd (EOPNOTSUPP), and the kernel's log, which names the check, could not be read.",
    unexplained,
    ("Load kvm_amd as root, and then read in the kernel's log which check of KVM refused:", *LOAD, "# dmesg -T"),
)
