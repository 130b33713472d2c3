"""The memory of the guest that runs a guest: its machine code, its tables, and the VMCB of the guest inside it.

Both guests run in 32-bit protected mode with paging: KVM injects #UD for VMRUN without paging
(nested_svm_check_permissions() in arch/x86/kvm/svm/nested.c). One 4 MiB page maps all memory to itself.

Source: AMD APM volume 2, 15.5 (VMRUN), 15.25 (nested paging), appendix B (layout of the VMCB); volume 3 (instructions).
"""

from __future__ import annotations

import struct

# Where everything is, in guest-physical addresses, one page each. The adding guest has the page at 0x1000.
ADDRESS = 0x10000
CODE, TABLES, STACK, PAGE_DIRECTORY, NESTED_PAGE_DIRECTORY, HSAVE, VMCB, INNER = (
    ADDRESS + page * 0x1000 for page in range(8)
)
STACK_TOP = STACK + 0x1000
GDT, IDT, HANDLERS = TABLES, TABLES + 0x100, TABLES + 0x200
GDT_LIMIT, IDT_LIMIT = 3 * 8 - 1, 32 * 8 - 1

# The ports of the outer guest: a byte for the step that begins, 32 bits for a value, a byte for an exception.
STEP_PORT, VALUE_PORT, EXCEPTION_PORT = 0xE9, 0xEA, 0xEB
# Each step has a number: its place here, from 1.
STEPS = ("RDMSR EFER", "WRMSR EFER", "WRMSR VM_HSAVE_PA", "VMRUN", "VMRUN again")
# What the outer guest writes to VALUE_PORT, in this order.
VALUES = ("EFER", "exit code", "sum", "second exit code", "second sum")

CR0, CR4 = 0x80000011, 0x10  # PG, ET, PE; PSE
EFER_SVME = 0x1000
CODE_SELECTOR, DATA_SELECTOR = 0x08, 0x10
FACTOR = 7  # how often the inner guest adds before VMMCALL; once more before HLT
EXIT_VMMCALL, EXIT_HLT = 0x81, 0x78  # APM volume 2, appendix C

# Page directory entries of 4 MiB pages: present, writable, PS; in nested tables also user, accessed, dirty (15.25.5).
_IDENTITY, _NESTED_IDENTITY = 0x83, 0xE7
_INTERRUPT_GATE = 0x8E00  # present, 32 bits, privilege 0
# Flat segments as descriptors of the GDT, and their attributes as the VMCB packs them (15.5.1, "Segment state").
_FLAT_CODE, _FLAT_DATA = 0x00CF9B000000FFFF, 0x00CF93000000FFFF
_CODE_ATTRIBUTES, _DATA_ATTRIBUTES = 0xC9B, 0xC93

# fmt: off
# EAX has the first number and is the sum, EBX has the second number, ECX has FACTOR.
INNER_CODE = bytes((
    0x01, 0xD8,        # again: add eax, ebx
    0xE2, 0xFC,        # loop again
    0x0F, 0x01, 0xD9,  # vmmcall: leaves with EXIT_VMMCALL, RIP at the instruction
    0x01, 0xD8,        # add eax, ebx
    0xF4,              # hlt: leaves with EXIT_HLT
))
# fmt: on
_AFTER_VMMCALL = 7  # offset in INNER_CODE

# Fields of the VMCB: offset, struct format, value (appendix B).
_RIP, _RAX, _EXIT_CODE = 0x578, 0x5F8, 0x70
_SEGMENTS = {"ES": 0x400, "CS": 0x410, "SS": 0x420, "DS": 0x430}
_CONTROL = (
    (0x08, "<I", 0xFFFFFFFF),  # intercept every exception, so that its exit code shows it
    (0x0C, "<I", 1 << 24 | 1 << 31),  # intercept HLT, SHUTDOWN
    (0x10, "<I", 1 << 0 | 1 << 1),  # intercept VMRUN (mandatory), VMMCALL
    (0x58, "<I", 1),  # ASID: not 0
)
_SAVED = (
    (0x4D0, "<Q", EFER_SVME),  # EFER: SVME is mandatory
    (0x548, "<Q", CR4),
    (0x550, "<Q", PAGE_DIRECTORY),  # CR3
    (0x558, "<Q", CR0),
    (0x560, "<Q", 0x400),  # DR7 at reset
    (0x568, "<Q", 0xFFFF0FF0),  # DR6 at reset
    (0x570, "<Q", 2),  # RFLAGS: bit 1 is always 1
    (_RIP, "<Q", INNER),
    (0x5D8, "<Q", STACK_TOP),  # RSP; the inner guest does not use it
    (0x668, "<Q", 0x0007040600070406),  # G_PAT at reset
)
_NESTED_CONTROL, _N_CR3 = 0x90, 0xB0


def _step(number: int) -> bytes:
    return bytes((0xB0, number, 0xE6, STEP_PORT))  # mov al, number; out STEP_PORT, al


def _value(address: int) -> bytes:
    return b"\xa1" + _u32(address) + bytes((0xE7, VALUE_PORT))  # mov eax, [address]; out VALUE_PORT, eax


def _u32(value: int) -> bytes:
    return struct.pack("<I", value)


def _vmrun(step: int) -> bytes:
    """Execute VMRUN and report exit code and sum. It takes the VMCB's address from EAX."""
    run = _step(step) + b"\xb8" + _u32(VMCB) + b"\x0f\x01\xd8"  # mov eax, VMCB; vmrun
    return run + _value(VMCB + _EXIT_CODE) + _value(VMCB + _RAX)


def outer_code() -> bytes:
    """The program of the outer guest. EBX is its operand: VMRUN leaves EBX and ECX to the inner guest."""
    # fmt: off
    return b"".join((
        _step(1),
        b"\xb9" + _u32(0xC0000080),                    # mov ecx, EFER
        b"\x0f\x32",                                   # rdmsr
        b"\x89\xc6",                                   # mov esi, eax
        _step(2),
        b"\x89\xf0",                                   # mov eax, esi
        b"\x0d" + _u32(EFER_SVME),                     # or eax, SVME; EDX has the high half of EFER
        b"\x0f\x30",                                   # wrmsr
        b"\x0f\x32",                                   # rdmsr
        bytes((0xE7, VALUE_PORT)),                     # out VALUE_PORT, eax
        _step(3),
        b"\xb9" + _u32(0xC0010117),                    # mov ecx, VM_HSAVE_PA
        b"\xb8" + _u32(HSAVE),                         # mov eax, HSAVE
        b"\x31\xd2",                                   # xor edx, edx
        b"\x0f\x30",                                   # wrmsr
        b"\xb9" + _u32(FACTOR),                        # mov ecx, FACTOR
        _vmrun(4),
        b"\xc7\x05" + _u32(VMCB + _RIP)
                    + _u32(INNER + _AFTER_VMMCALL),    # mov dword [VMCB.RIP], after vmmcall
        _vmrun(5),
        b"\xf4",                                       # hlt
    ))
    # fmt: on


def _handlers() -> bytes:
    """A handler of 4 bytes for each of 32 exceptions, and their common end: report the vector, halt."""
    # fmt: off
    each = b"".join(
        bytes((0xB0, vector,             # mov al, vector
               0xEB, 4 * (31 - vector))) # jmp end
        for vector in range(32)
    )
    return each + bytes((0xE6, EXCEPTION_PORT,  # end: out EXCEPTION_PORT, al
                         0xF4))                 # hlt
    # fmt: on


def _gates() -> bytes:
    handlers = (HANDLERS + 4 * vector for vector in range(32))
    return b"".join(struct.pack("<HHHH", at & 0xFFFF, CODE_SELECTOR, _INTERRUPT_GATE, at >> 16) for at in handlers)


def _vmcb(first: int, nested_paging: bool) -> bytes:
    vmcb = bytearray(0x1000)
    for offset, form, value in (*_CONTROL, *_SAVED, (_RAX, "<Q", first)):
        struct.pack_into(form, vmcb, offset, value)
    if nested_paging:
        struct.pack_into("<Q", vmcb, _NESTED_CONTROL, 1)
        struct.pack_into("<Q", vmcb, _N_CR3, NESTED_PAGE_DIRECTORY)
    for name, offset in _SEGMENTS.items():
        selector, attributes = (CODE_SELECTOR, _CODE_ATTRIBUTES) if name == "CS" else (DATA_SELECTOR, _DATA_ATTRIBUTES)
        struct.pack_into("<HHIQ", vmcb, offset, selector, attributes, 0xFFFFFFFF, 0)
    return bytes(vmcb)


def image(first: int, nested_paging: bool) -> bytes:
    """The memory at ADDRESS before a run. `first`: the first number of the sum, of 32 bits."""
    memory = bytearray(INNER + 0x1000 - ADDRESS)
    for address, content in (
        (CODE, outer_code()),
        (GDT, struct.pack("<QQQ", 0, _FLAT_CODE, _FLAT_DATA)),
        (IDT, _gates()),
        (HANDLERS, _handlers()),
        (PAGE_DIRECTORY, _u32(_IDENTITY)),
        (NESTED_PAGE_DIRECTORY, _u32(_NESTED_IDENTITY)),
        (VMCB, _vmcb(first, nested_paging)),
        (INNER, INNER_CODE),
    ):
        memory[address - ADDRESS : address - ADDRESS + len(content)] = content
    return bytes(memory)


def expected_exits(first: int, second: int) -> list[tuple[int, int]]:
    """Exit code and sum of the two exits of the inner guest, for its numbers (EAX, EBX)."""
    sums = ((first + times * second) & 0xFFFFFFFF for times in (FACTOR, FACTOR + 1))
    return list(zip((EXIT_VMMCALL, EXIT_HLT), sums))
