"""What KVM's registers must be: one rule for the judge, which reads evidence, and for `soak`, which reads registers.

Sources: svm_hardware_enable() and svm_hardware_disable(), since 6.12 svm_enable_virtualization_cpu() and
svm_disable_virtualization_cpu(), in arch/x86/kvm/svm/svm.c; AMD APM volume 2, 15.30.4.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.registers import EFER, VM_CR

if TYPE_CHECKING:
    from kvmprobe.model.registers import Register

_PAGE_BYTES = 4096
# By register: the bits that KVM changes, and what did change where it was another one. KVM does not write VM_CR.
_CHANGES = {EFER: (1 << EFER.bits["SVME"], "a bit other than SVME changed"), VM_CR: (0, "KVM does not write it")}
CONSTANT = tuple(_CHANGES)  # registers that keep their value, but for bits that KVM changes


def changed_bits(register: Register, was: Mapping[int, int | None], now: Mapping[int, int | None]) -> dict[int, str]:
    """What changed in a register of CONSTANT that must not, by CPU, for people; nothing of a CPU with an unknown value.

    `was`, `now`: the register by CPU, earlier and later.
    """
    may_change, text = _CHANGES[register]
    found = {}
    for cpu, value in now.items():
        earlier = was.get(cpu)
        if earlier is not None and value is not None and (earlier ^ value) & ~may_change:
            found[cpu] = f"{register.name} {earlier:#x} -> {value:#x}: {text}"
    return found


def host_save_faults(svme: Mapping[int, bool | None], pages: Mapping[int, int | None]) -> dict[int, str]:
    """What is wrong with VM_HSAVE_PA, by CPU, for people; nothing of a CPU where EFER or VM_HSAVE_PA is unknown.

    `svme`: EFER.SVME by CPU; `pages`: VM_HSAVE_PA by CPU. While SVME is 1, each CPU has a page of its own. KVM writes
    0 before it clears SVME: its page is freed with kvm_amd.
    """
    users: dict[int, int] = {}
    for cpu, page in pages.items():
        if page is not None and svme.get(cpu):
            users[page] = users.get(page, 0) + 1
    found = {cpu: _fault(svme.get(cpu), page, users) for cpu, page in pages.items()}
    return {cpu: f"VM_HSAVE_PA {text}" for cpu, text in found.items() if text}


def _fault(svme: bool | None, page: int | None, users: Mapping[int, int]) -> str:
    if svme is None or page is None:
        return ""
    if not svme:
        return f"is {page:#x} although SVME is 0" if page else ""
    if not page:
        return "is 0 although SVME is 1"
    if page % _PAGE_BYTES:
        return f"is {page:#x}, which is not the address of a page"
    return f"is {page:#x} on {users[page]} CPUs" if users[page] > 1 else ""
