"""Builds kvm and kvm_amd with all mutants in them, out of tree, from Debian's own source and headers.

The packages have the version of the lab's kernel, so that the modules fit it: the kernel compares vermagic and the
symbols' CRCs when it loads them. Nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import cache, external_programs
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.external_programs import Say
from kvmprobe.lab.kernels import DebianKernel, Kernel
from kvmprobe.model.errors import Problem
from scripts.kernel_mutants import mutant_source
from scripts.kernel_mutants.mutant_table import HERE, SUFFIX, Mutant

MODULES = ("kvm", "kvm-amd")
_FOLDER = "mutants-1"  # a change of the entries needs a new number
_FORGET_AFTER = 30 * 24 * 3600.0
_PARTS = ("arch/x86/kvm/", "virt/kvm/")  # of the kernel's source
_TREE = "tree.tar"
_BANNER = re.compile(rb"Linux version (\S+) [^\n]{0,300}? Debian (\S+) \(\d{4}-")
_VERMAGIC = re.compile(rb"\0vermagic=([^\0]+)")
# kvm_intel is not needed. A mutant may cause a warning.
_WITHOUT = ("CONFIG_KVM_INTEL=", "CONFIG_KVM_WERROR=", "CONFIG_DEBUG_INFO_BTF_MODULES=")


def table_path(row: DebianKernel) -> Path:
    """Returns the file with the mutants of a kernel of the lab."""
    return HERE / f"linux-{row.series}{SUFFIX}"


def build(row: DebianKernel, kernel: Kernel, mutants: Sequence[Mutant], folder: Path, say: Say) -> dict[str, bytes]:
    """Returns the modules by their names, built unless they are in the lab's cache `folder`. Raises Problem."""
    version = debian_version(kernel)
    sources = [Path(__file__), Path(mutant_source.__file__), table_path(row)]
    digest = hashlib.sha256(version.encode() + b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache.forget_unused(folder / _FOLDER, "modules-", _FORGET_AFTER)

    def make(new: Path) -> cache.Meta:
        tree, _ = cache.entry(folder / _FOLDER, f"source-{version}", lambda at: _fetch(row, kernel, at, say), say)
        with TemporaryDirectory() as work:
            _make(tree / _TREE, Path(work), kernel, mutants, new, say)
        return {}

    place, _ = cache.entry(folder / _FOLDER, f"modules-{digest}", make, say)
    built = {name: (place / f"{name}.ko").read_bytes() for name in MODULES}
    _compare_vermagic(built["kvm"], kernel)
    return built


def debian_version(kernel: Kernel) -> str:
    """Returns the version of the package that a kernel of the lab is from. Raises Problem."""
    found = _BANNER.search(kernel.image.read_bytes())
    if found is None or found[1].decode() != kernel.release:
        raise Problem(f"{kernel.name}: the image does not show which Debian version it is")
    return found[2].decode()


def _fetch(row: DebianKernel, kernel: Kernel, new: Path, say: Say) -> cache.Meta:
    """Downloads source and headers, and keeps what a build needs."""
    version = debian_version(kernel)
    headers = f"linux-headers-{kernel.release}"
    with TemporaryDirectory(dir=new) as work:
        apt = Apt(row.suite, Path(work, "apt"))
        apt.update()
        needed = [name for name in apt.depends(headers) if name.startswith(("linux-headers-", "linux-kbuild-"))]
        names = [f"linux-source-{row.series}", headers, *needed]
        unpacked = Path(work, "unpacked")
        for package in apt.download([f"{name}={version}" for name in names], say):
            external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, unpacked)
        archive = unpacked / f"usr/src/linux-source-{row.series}.tar.xz"
        with tarfile.open(archive) as source:
            for member in source:
                member.name = member.name.partition("/")[2]
                if member.name.startswith(_PARTS):
                    source.extract(member, unpacked)
        archive.unlink()
        with tarfile.open(new / _TREE, "w") as kept:
            kept.add(unpacked, ".")
    return {}


def _make(tree: Path, work: Path, kernel: Kernel, mutants: Sequence[Mutant], new: Path, say: Say) -> None:
    with tarfile.open(tree) as archive:
        archive.extractall(work)
    try:
        mutant_source.apply(mutants, work)
    except ValueError as error:
        raise Problem(f"{kernel.name}: {error}") from error
    headers = work / f"usr/src/linux-headers-{kernel.release}"
    makefile = headers / "Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{work}/usr/src/"))
    folder = work / "arch/x86/kvm"
    makefile = folder / "Makefile"
    flags = f"ccflags-y += -include {work}/{mutant_source.HEADER}\n"
    makefile.write_text(flags + makefile.read_text().replace("$(srctree)/", f"{work}/"))
    trace = folder / "trace.h"
    trace.write_text(trace.read_text().replace(" ../../arch/x86/kvm\n", f" {folder}\n"))
    say(f"{kernel.name}: building kvm with {len(mutants)} mutants …")
    jobs = f"-j{os.cpu_count() or 1}"
    nice, make = external_programs.find("nice", "coreutils"), external_programs.find("make", "make")
    external_programs.run(nice, "-n", "10", make, "-s", jobs, "-C", headers, f"M={folder}", *_WITHOUT, "modules")
    for name in MODULES:
        external_programs.run(
            *(external_programs.find("strip", "binutils"), "--strip-debug", "-o", new / f"{name}.ko"),
            folder / f"{name}.ko",
        )


def _compare_vermagic(module: bytes, kernel: Kernel) -> None:
    """Raises Problem where the kernel would refuse the module for its vermagic."""
    built, own = _VERMAGIC.search(module), _VERMAGIC.search(kernel.initramfs.read_bytes())
    if built is None or own is None or built[1] != own[1]:
        raise Problem(f"{kernel.name}: the modules that were built have another vermagic than the kernel's")
