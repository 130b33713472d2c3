"""Runs `check --nested` in a guest of the lab for each state of kvm_amd and for each fault: a program of its own.

A fault changes the program of the outer or the inner guest, or what the vCPU gets, and nothing else, so a real kernel
refuses or answers otherwise. It prints a JSON object: the evidence by the name of the state or fault.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from kvmprobe.collect.host_evidence import CollectOptions, take_evidence
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.host import guest, kvm_cpuid
from kvmprobe.host import nested_guest_image as image

# By name: the parameters of kvm_amd.
STATES = {"nested-paging": "npt=1", "shadow-paging": "npt=0", "nested-off": "nested=0"}

_set_cpuid = kvm_cpuid.set_cpuid
_LOOP, _UD2, _SUBTRACT = b"\xeb\xfe", b"\x0f\x0b", b"\x29\xd8"  # jmp $; ud2; sub eax, ebx


def _without_svm(entries: bytes) -> bytes:
    """The entries of CPUID without the bit SVM."""
    found = []
    for function, index, flags, eax, ebx, ecx, *rest in kvm_cpuid.ENTRY.iter_unpack(entries):
        kept = ecx & ~4 if function == 0x80000001 else ecx
        found.append(kvm_cpuid.ENTRY.pack(function, index, flags, eax, ebx, kept, *rest))
    return b"".join(found)


_Change = tuple[Any, str, Any]  # a module, the name in it that is replaced, and the new value
_NO_PAGING: _Change = (image, "CR0", image.CR0 & ~(1 << 31))
FAULTS: dict[str, Sequence[_Change]] = {
    "no-svm-for-the-guest": [
        (kvm_cpuid, "set_cpuid", lambda vcpu, entries: _set_cpuid(vcpu, _without_svm(entries))),
    ],
    "no-paging": [_NO_PAGING],
    "no-paging-no-handlers": [_NO_PAGING, (image, "IDT_LIMIT", 0)],
    "no-host-save-area": [(image, "HSAVE", 0)],
    "inner-exception": [(image, "INNER_CODE", _UD2 + image.INNER_CODE)],
    "inner-subtracts": [(image, "INNER_CODE", _SUBTRACT + image.INNER_CODE[2:])],
    "inner-loop": [(image, "INNER_CODE", _LOOP), (guest, "RUN_DEADLINE_S", 1.0)],
}


def _evidence() -> Any:
    return take_evidence(CollectOptions(), lambda root: VmProbe(root, nested=True))


def _with_fault(changes: Sequence[_Change]) -> Any:
    good = [(module, name, getattr(module, name)) for module, name, _ in changes]
    for module, name, value in changes:
        setattr(module, name, value)
    try:
        return _evidence()
    finally:
        for module, name, value in good:
            setattr(module, name, value)


def main() -> None:
    """Print all evidence."""
    found = {name: _with_fault(changes) for name, changes in FAULTS.items()}
    for name, parameters in STATES.items():
        subprocess.run(["modprobe", "-r", "kvm_amd"], check=True)
        subprocess.run(["modprobe", "kvm_amd", *parameters.split()], check=True)
        found[name] = _evidence()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
