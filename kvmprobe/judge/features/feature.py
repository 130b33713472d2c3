"""What a feature of SVM is to kvm_amd."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.registers import CPUID_BITS, CPUID_REGISTERS

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.judge.facts import Facts


class Feature:
    """A feature of SVM, as a row of a table.

    `name`: as users write it. `bit`: of registers.CPUID_BITS. `about`: what it does, in one sentence. `parameter`: of
    kvm_amd. `flag`: the kernel's name for the bit in /proc/cpuinfo; None where the kernel does not show it. `needs`:
    the features without which kvm_amd does not use this one; they stand before it in the table.

    `without_parameter`: kernels without the parameter use the feature wherever the CPU has it. `written_back`: kvm_amd
    switches the parameter off when it does not use the feature. `offered_if_used`: KVM offers the bit to guests only
    where it uses the feature itself. `capability`: of KVM_CHECK_EXTENSION, which is the answer about this feature.
    `rule`: a rule of its own, which returns why kvm_amd does not use the feature, None where nothing shows that.
    `doubt`: returns why it is unknown whether such a rule applies, None where it is known.
    """

    def __init__(
        self,
        name: str,
        bit: str,
        about: str,
        parameter: str | None = None,
        flag: str | None = None,
        needs: tuple[str, ...] = (),
        without_parameter: bool = False,
        written_back: bool = False,
        offered_if_used: bool = False,
        capability: str | None = None,
        rule: Callable[[Facts], str | None] = lambda _: None,
        doubt: Callable[[Facts], str | None] = lambda _: None,
    ) -> None:
        self.name = name
        self.bit = bit
        self.about = about
        self.parameter = parameter
        self.flag = flag
        self.needs = needs
        self.without_parameter = without_parameter
        self.written_back = written_back
        self.offered_if_used = offered_if_used
        self.capability = capability
        self.rule = rule
        self.doubt = doubt


def place_of(feature: Feature) -> str:
    """Where CPUID has the feature, for people: "CPUID 0x8000000a EDX bit 13"."""
    bit = CPUID_BITS[feature.bit]
    return f"CPUID {bit.leaf:#x} {CPUID_REGISTERS[bit.register]} bit {bit.bit}"
