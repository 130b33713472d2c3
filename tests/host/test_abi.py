"""Request numbers, structures and constants, compared with the C headers by the compiler of this machine."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmprobe.host import kvm, kvm_cpuid, kvm_structures
from kvmprobe.model import registers, values

STRUCTURES = (
    kvm_structures.kvm_cpuid2,
    kvm_structures.kvm_userspace_memory_region,
    kvm_structures.kvm_regs,
    kvm_structures.kvm_segment,
    kvm_structures.kvm_dtable,
    kvm_structures.kvm_sregs,
    kvm_structures.kvm_run,
)


def c_expressions() -> dict[str, int]:
    """C expressions, and the value that kvmprobe has for each."""
    expected: dict[str, int] = {**kvm.REQUESTS, **kvm.EXTENSIONS, **kvm.EXITS}
    expected["KVM_API_VERSION"] = values.KVM_API_VERSION
    expected["KVMIO"] = kvm.KVMIO
    expected["sizeof(struct kvm_cpuid_entry2)"] = kvm_cpuid.ENTRY.size
    for structure in STRUCTURES:
        name = f"struct {structure.__name__}"
        if structure is not kvm_structures.kvm_run:  # Only its head is described.
            expected[f"sizeof({name})"] = ctypes.sizeof(structure)
        for field in (entry[0] for entry in structure._fields_):
            expected[f"offsetof({name}, {field})"] = getattr(structure, field).offset
            if field != "io":
                expected[f"sizeof((({name} *)0)->{field})"] = getattr(structure, field).size
    for field in (entry[0] for entry in kvm_structures.kvm_run_io._fields_):
        offset = kvm_structures.kvm_run.io.offset + getattr(kvm_structures.kvm_run_io, field).offset
        expected[f"offsetof(struct kvm_run, io.{field})"] = offset
    return expected


def test_every_constant_and_offset_equals_that_of_the_c_headers(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path("/usr/include/linux/kvm.h").exists():
        pytest.skip("no C compiler or no linux/kvm.h (apt-get install gcc linux-libc-dev)")
    expected = c_expressions()
    # An older header lacks the newest capabilities. Everything else must be there.
    lines = "".join(
        f"#ifdef {name}\n{_print(name)}#endif\n" if name.startswith("KVM_CAP") else _print(name) for name in expected
    )
    source = (
        f"#include <stdio.h>\n#include <stddef.h>\n#include <linux/kvm.h>\nint main(void) {{\n{lines}return 0;\n}}\n"
    )
    (tmp_path / "abi.c").write_text(source)
    subprocess.run([compiler, "-o", tmp_path / "abi", tmp_path / "abi.c"], check=True, timeout=120)
    printed = subprocess.run([tmp_path / "abi"], check=True, capture_output=True, text=True, timeout=120).stdout
    found = {name: int(value) for name, value in (line.rsplit("\t", 1) for line in printed.splitlines())}
    assert len(found) > len(expected) - 5
    assert found == {name: value for name, value in expected.items() if name in found}


def _print(name: str) -> str:
    return f'printf("%s\\t%llu\\n", "{name}", (unsigned long long)({name}));\n'


def test_register_numbers_and_bits_are_those_of_the_manual() -> None:
    """AMD APM volume 2, appendix A (MSR cross-reference), 3.1.7 and 15.30.1."""
    assert {register.name: register.number for register in registers.SNAPSHOT_REGISTERS} == {
        "EFER": 0xC0000080,
        "VM_CR": 0xC0010114,
        "VM_HSAVE_PA": 0xC0010117,
    }
    assert registers.EFER.bit(0x1D01, "SVME")
    assert not registers.EFER.bit(0xD01, "SVME")
    assert registers.VM_CR.bit(0x10, "SVMDIS")
    assert registers.VM_CR.bit(0x8, "LOCK")
