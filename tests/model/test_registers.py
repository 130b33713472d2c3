"""Registers and CPUID leaves: bits of values, and unknown for what could not be read."""

from __future__ import annotations

from typing import Any

import pytest

from kvmprobe.model.registers import (
    CPUID_BITS,
    CPUID_HYPERVISOR,
    CPUID_SEV,
    CPUID_SVM,
    CPUID_SVML,
    CPUINFO_FLAGS,
    EFER,
    LEAVES,
    SEV_STATUS,
    SNAPSHOT_REGISTERS,
    VM_CR,
    CpuidBit,
    has_bit,
    svme,
    word,
)
from kvmprobe.model.values import as_int, error_of, failure, is_failure

UNKNOWN: list[Any] = [None, {"error": "EIO"}, "", "0x", True]


@pytest.mark.parametrize(("reading", "value"), [("0xd01", False), ("0x1d01", True), ("0x1000", True), (0x1000, True)])
def test_svme_is_bit_12_of_efer(reading: Any, value: bool) -> None:
    assert svme(reading) is EFER.bit_of(reading, "SVME") is value
    assert EFER.bit(as_int(reading) or 0, "SVME") is value


@pytest.mark.parametrize("reading", UNKNOWN)
def test_a_bit_of_what_could_not_be_read_is_unknown(reading: Any) -> None:
    assert svme(reading) is None
    assert VM_CR.bit_of(reading, "SVMDIS") is None
    assert as_int(reading) is None


@pytest.mark.parametrize(
    ("register", "bit", "number"),
    [(EFER, "SVME", 12), (VM_CR, "LOCK", 3), (VM_CR, "SVMDIS", 4), (SEV_STATUS, "SEV", 0), (SEV_STATUS, "SEV_SNP", 2)],
)
def test_bits_are_those_of_the_manual(register: Any, bit: str, number: int) -> None:
    assert register.bit(1 << number, bit)
    assert not register.bit(~(1 << number), bit)


def test_register_numbers_are_those_of_the_kernel() -> None:
    """arch/x86/include/asm/msr-index.h. SVM_KEY, which is for writing only, is not among them."""
    numbers = {register.name: register.number for register in (*SNAPSHOT_REGISTERS, SEV_STATUS)}
    assert numbers == {"EFER": 0xC0000080, "VM_CR": 0xC0010114, "VM_HSAVE_PA": 0xC0010117, "SEV_STATUS": 0xC0010131}
    assert 0xC0010118 not in numbers.values()


def leaves(highest: Any, leaf: int, words: Any) -> dict[str, Any]:
    return {"0x80000000": highest, hex(leaf): words}


HIGHEST = ["0x8000001f", "0x0", "0x0", "0x0"]


@pytest.mark.parametrize(
    ("bit", "leaf", "register", "number"),
    [
        (CPUID_SVM, 0x80000001, 2, 2),
        (CPUID_SVML, 0x8000000A, 3, 2),
        (CPUID_SEV, 0x8000001F, 0, 1),
        (CPUID_HYPERVISOR, 0x1, 2, 31),
        (CPUID_BITS["npt"], 0x8000000A, 3, 0),
        (CPUID_BITS["vnmi"], 0x8000000A, 3, 25),
        (CPUID_BITS["sev_snp"], 0x8000001F, 0, 4),
    ],
)
def test_a_bit_of_cpuid_is_in_its_leaf_and_register(bit: CpuidBit, leaf: int, register: int, number: int) -> None:
    assert (bit.leaf, bit.register, bit.bit) == (leaf, register, number)
    words = ["0x0"] * 4
    assert has_bit(leaves(HIGHEST, leaf, words), bit) is False
    words[register] = hex(1 << number)
    assert has_bit(leaves(HIGHEST, leaf, words), bit) is True


def test_a_bit_above_the_highest_leaf_is_0() -> None:
    """There a CPU answers with the data of another leaf."""
    words = ["0xffffffff"] * 4
    assert has_bit(leaves(["0x80000008", "0x0", "0x0", "0x0"], 0x8000000A, words), CPUID_SVML) is False
    assert has_bit(leaves(["0x8000000a", "0x0", "0x0", "0x0"], 0x8000000A, words), CPUID_SVML) is True
    assert has_bit(leaves(["0x80000000", "0x0", "0x0", "0x0"], 0x1, words), CPUID_HYPERVISOR) is True


@pytest.mark.parametrize("unread", [{"error": "EIO"}, ["0x1"], None])
def test_a_bit_of_a_leaf_that_could_not_be_read_is_unknown(unread: Any) -> None:
    words = ["0xffffffff"] * 4
    assert has_bit(leaves(HIGHEST, 0x8000000A, unread), CPUID_SVML) is None
    assert has_bit(leaves(unread, 0x8000000A, words), CPUID_SVML) is None
    assert has_bit(leaves(unread, 0x1, words), CPUID_HYPERVISOR) is True
    assert has_bit({}, CPUID_SVM) is None
    assert word({"0x1": unread}, 0x1, 0) is None


def test_every_bit_is_in_a_leaf_that_is_read() -> None:
    assert {bit.leaf for bit in CPUID_BITS.values()} <= set(LEAVES)
    assert {"svm", "svm_lock", "npt"} <= CPUINFO_FLAGS & set(CPUID_BITS)


def test_a_failure_has_the_name_of_its_errno() -> None:
    assert failure(OSError(5, "text")) == {"error": "EIO"}
    assert failure(OSError("short read")) == {"error": "short read"}
    assert is_failure({"error": "EIO"})
    assert not is_failure(None)
    assert not is_failure("0x1")
    assert (error_of({"error": "EIO"}), error_of("0x1"), error_of(None)) == ("EIO", None, None)
