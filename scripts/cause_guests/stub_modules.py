"""Kernel modules for guests: stand-ins for modules of others, and a kvm_amd without its signature.

A few lines of C (stub_module.c) take the place of modules that Debian does not have. The kernel's headers are not
needed: the module msr of the same kernel has what they would give.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from kvmprobe.lab import external_programs
from kvmprobe.lab.kernels import Kernel

OTHER_VENDOR, OTHER_HYPERVISOR, THROUGH_KVM = 1, 2, 3  # STUB in stub_module.c
_SOURCE = Path(__file__).with_name("stub_module.c")
# As the kernel compiles modules: no red zone, addresses in the upper 2 GiB, no vector registers.
_OPTIONS = (
    *("-c", "-O1", "-Wall", "-Werror", "-ffreestanding", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone", "-mno-sse"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"),
)
_THIS_MODULE = ".gnu.linkonce.this_module"
_EHDR, _SHDR, _RELA = struct.Struct("<40xQ10x3H"), struct.Struct("<IIQQQQIIQQ"), struct.Struct("<QQq")  # elf.h
_SYMBOL = struct.Struct("<IBBHQQ")
_VERSION_SIZE = 64
_LAYOUT = b"module_layout"  # every module has its version (check_modstruct_version() in kernel/module/version.c)
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE = struct.Struct(">8xI")  # struct module_signature (include/linux/module_signature.h)


def unpack(kernel: Kernel, folder: Path) -> Path:
    """Unpacks the modules of a kernel of the lab, and returns their folder, /lib/modules/RELEASE below `folder`."""
    busybox = external_programs.find("busybox", "busybox-static")
    folder.mkdir()
    external_programs.run(busybox, "cpio", "-i", "-d", "lib/*", stdin=kernel.initramfs.read_bytes(), cwd=folder)
    return folder / "lib/modules" / kernel.release


def build(name: str, stub: int, modules: Path) -> bytes:
    """Returns the module `name` for the kernel whose /lib/modules/RELEASE is `modules`.

    `stub`: OTHER_VENDOR has KVM's slot for a vendor module, OTHER_HYPERVISOR sets EFER.SVME on CPU 1 and counts the
    users of a node with number 240, 0, THROUGH_KVM switches SVM on through kvm. All undo that when they are unloaded.
    """
    work = modules / "build" / name
    work.mkdir(parents=True)
    sections = _sections(next(modules.rglob("msr.ko")).read_bytes())
    magic = next(text for text in sections[".modinfo"].split(b"\0") if text.startswith(b"vermagic="))
    (work / "vermagic").write_bytes(magic + b"\0")
    others = [path.read_bytes() for path in sorted(modules.glob("kernel/**/*.ko"))]
    versions = [_sections(other)["__versions"] for other in others]
    kvm = next(modules.rglob("kvm.ko")).read_bytes()
    init_at, exit_at = sorted(at for at, _, _ in _RELA.iter_unpack(sections[f".rela{_THIS_MODULE}"]))
    values = {"NAME": name, "STUB": stub, "SIZE": len(sections[_THIS_MODULE]), "INIT_AT": init_at, "EXIT_AT": exit_at}
    command = [
        *(external_programs.find("gcc", "gcc"), *_OPTIONS, *(f"-D{key}={value}" for key, value in values.items())),
        *(str(_SOURCE), "-o", "stub.ko"),
    ]
    # depmod takes each module whose symbol has a version here for one that this module needs. So the first run shows
    # which symbols it needs, and the second has their versions alone.
    (work / "versions").write_bytes(b"")
    external_programs.run(*command, cwd=work)
    needed = {*_undefined((work / "stub.ko").read_bytes()), _LAYOUT}
    known = b"".join((*versions, _exported(kvm)))
    found = {name: entry for entry, name in _versions(known) if name in needed}
    (work / "versions").write_bytes(b"".join(found.values()))
    external_programs.run(*command, cwd=work)
    return (work / "stub.ko").read_bytes()


def unsigned(module: bytes) -> bytes:
    """Returns a module of a distribution without the signature that follows it."""
    assert module.endswith(_SIGNED)
    (length,) = _SIGNATURE.unpack_from(module, len(module) - len(_SIGNED) - _SIGNATURE.size)
    return module[: -len(_SIGNED) - _SIGNATURE.size - length]


def _versions(section: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each entry of a section `__versions` (struct modversion_info, include/linux/module.h) with its symbol's name."""
    for at in range(0, len(section), _VERSION_SIZE):
        entry = section[at : at + _VERSION_SIZE]
        yield entry, entry[8:].split(b"\0", 1)[0]


def _undefined(data: bytes) -> set[bytes]:
    """The names of the symbols that a module needs of the kernel and of other modules."""
    sections = _sections(data)
    symbols = _SYMBOL.iter_unpack(sections[".symtab"])
    return {sections[".strtab"][name_at:].split(b"\0", 1)[0] for name_at, _, _, where, _, _ in symbols if where == 0}


def _exported(data: bytes) -> bytes:
    """The versions of the symbols that kvm exports (all for GPL modules), as a section `__versions` has them."""
    sections = _sections(data)
    versions = b""
    for name_at, _, _, _, value, _ in _SYMBOL.iter_unpack(sections[".symtab"]):
        name = sections[".strtab"][name_at:].split(b"\0", 1)[0]
        if name.startswith(b"__crc_"):
            versions += sections["__kcrctab_gpl"][value : value + 4].ljust(8, b"\0") + name[6:].ljust(56, b"\0")
    return versions


def _sections(data: bytes) -> dict[str, bytes]:
    """The sections of a 64-bit ELF file, by name."""
    headers_at, size, count, names = _EHDR.unpack_from(data)
    headers = [_SHDR.unpack_from(data, headers_at + number * size) for number in range(count)]
    content = [data[header[4] : header[4] + header[5]] for header in headers]
    return {content[names][header[0] :].split(b"\0", 1)[0].decode(): text for header, text in zip(headers, content)}
