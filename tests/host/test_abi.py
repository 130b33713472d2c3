"""Request numbers, structures and constants against the C headers, by this machine's compiler."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmprobe.host import kvm
from kvmprobe.model import registers, values

STRUCTURES = (
    kvm.kvm_userspace_memory_region,
    kvm.kvm_regs,
    kvm.kvm_segment,
    kvm.kvm_dtable,
    kvm.kvm_sregs,
    kvm.kvm_run,
)


def c_expressions() -> dict[str, int]:
    """C expressions and the values that kvmprobe has for them."""
    expected: dict[str, int] = {**kvm.REQUESTS, **kvm.EXTENSIONS, **kvm.EXITS}
    expected["KVM_API_VERSION"] = values.KVM_API_VERSION
    for structure in STRUCTURES:
        name = f"struct {structure.__name__}"
        if structure is not kvm.kvm_run:  # only its head is described
            expected[f"sizeof({name})"] = ctypes.sizeof(structure)
        for field in (entry[0] for entry in structure._fields_):
            expected[f"offsetof({name}, {field})"] = getattr(structure, field).offset
            if field != "io":
                expected[f"sizeof((({name} *)0)->{field})"] = getattr(structure, field).size
    for field in (entry[0] for entry in kvm.kvm_run_io._fields_):
        offset = kvm.kvm_run.io.offset + getattr(kvm.kvm_run_io, field).offset
        expected[f"offsetof(struct kvm_run, io.{field})"] = offset
    return expected


def test_everything_is_as_in_the_c_headers(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or not Path("/usr/include/linux/kvm.h").exists():
        pytest.skip("no C compiler or no linux/kvm.h (apt-get install gcc linux-libc-dev)")
    expected = c_expressions()
    # A header older than a constant does not have it; what it has must agree.
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


def test_register_numbers_are_the_manuals() -> None:
    """AMD APM volume 2, appendix A (MSR cross-reference)."""
    assert {register.name: register.number for register in registers.SNAPSHOT_REGISTERS} == {
        "EFER": 0xC0000080,
        "VM_CR": 0xC0010114,
        "VM_HSAVE_PA": 0xC0010117,
    }
    assert registers.EFER.bit(0x1D01, "SVME")
    assert not registers.EFER.bit(0xD01, "SVME")
    assert registers.VM_CR.bit(0x10, "SVMDIS")
    assert registers.VM_CR.bit(0x8, "LOCK")
