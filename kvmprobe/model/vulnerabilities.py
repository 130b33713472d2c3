"""What the kernel's texts about a CPU's vulnerabilities mean (arch/x86/kernel/cpu/bugs.c, cpu_show_common())."""

from __future__ import annotations

_OPEN = ("Vulnerable", "KVM: Vulnerable", "Processor vulnerable")
_CLOSED = ("Not affected", "Mitigation", "KVM: Mitigation")


def is_vulnerable(value: object) -> bool | None:
    """Whether the kernel does not mitigate a vulnerability that the CPU has, by the text of its file in
    /sys/devices/system/cpu/vulnerabilities; None where it is unknown, to the kernel ("Unknown: ...") or to us."""
    if not isinstance(value, str):
        return None
    return True if value.startswith(_OPEN) else False if value.startswith(_CLOSED) else None
