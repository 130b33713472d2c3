"""Builds kvm and kvm_amd with all mutants in them, out of tree, from Debian's own source and headers.

The packages have the version of the lab's kernel, so that the modules fit it: the kernel compares vermagic and the
symbols' CRCs when it loads them. Nothing is installed here: the build runs in the suite's userspace, with its compiler.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import cache, external_programs, keeper, userspace
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.external_programs import Say
from kvmprobe.lab.kernels import DebianKernel, Kernel
from kvmprobe.lab.userspace import Userspace
from kvmprobe.model.errors import Problem
from scripts.kernel_mutants import mutant_source
from scripts.kernel_mutants.mutant_table import HERE, SUFFIX, Mutant

MODULES = ("kvm", "kvm-amd")
_FOLDER = "mutants-1"  # a change of the entries needs a new number
_FORGET_AFTER = 30 * 24 * 3600.0
_PARTS = ("arch/x86/kvm/", "virt/kvm/")  # of the kernel's source
_KVM = "arch/x86/kvm"
_TREE = "tree.tar"
_BANNER = re.compile(rb"Linux version (\S+) [^\n]{0,300}? Debian (\S+) \(\d{4}-")
_VERMAGIC = re.compile(rb"\0vermagic=([^\0]+)")
_IN_USERSPACE = "/mnt"  # the source
_IN_CHROOT = f'mount --bind "$1" "$2{_IN_USERSPACE}" && root=$2 && shift 2 && exec chroot "$root" "$@"'
# kvm_intel is not needed. A mutant may cause a warning.
_WITHOUT = ("CONFIG_KVM_INTEL=", "CONFIG_KVM_WERROR=", "CONFIG_DEBUG_INFO_BTF_MODULES=")


def table_path(row: DebianKernel) -> Path:
    """Returns the file with the mutants of a kernel of the lab."""
    return HERE / f"linux-{row.series}{SUFFIX}"


def build(row: DebianKernel, kernel: Kernel, mutants: Sequence[Mutant], folder: Path, say: Say) -> dict[str, bytes]:
    """Returns the modules by their names, built unless they are in the lab's cache `folder`. Raises Problem."""
    version = debian_version(kernel)
    edits = [(mutant.number, mutant.edits) for mutant in mutants]
    digest = hashlib.sha256(f"{version} {edits} {inspect.getsource(mutant_source)}".encode()).hexdigest()[:16]
    cache.forget_unused(folder / _FOLDER, "modules-", _FORGET_AFTER)

    def make(new: Path) -> cache.Meta:
        tree, _ = cache.entry(folder / _FOLDER, f"source-{version}", lambda at: _fetch(row, version, at, say), say)
        packages = ("make", f"linux-headers-{kernel.release}={version}")
        space = userspace.fetch(row.suite, folder, say, packages)
        say(f"{kernel.name}: building kvm with {len(mutants)} mutants …")
        with keeper.folder() as work:
            _make(tree / _TREE, work, kernel, mutants, space, new)
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


def _fetch(row: DebianKernel, version: str, new: Path, say: Say) -> cache.Meta:
    """Downloads the kernel's source, and keeps KVM's part of it."""
    package = f"linux-source-{row.series}"
    with TemporaryDirectory(dir=new) as work:
        apt = Apt(row.suite, Path(work, "apt"))
        apt.update()
        (archive,) = apt.download([f"{package}={version}"], say)
        external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", archive, work)
        with tarfile.open(Path(work, f"usr/src/{package}.tar.xz")) as source, tarfile.open(new / _TREE, "w") as kept:
            for member in source:
                name = member.name.partition("/")[2]
                if member.isfile() and name.startswith(_PARTS):
                    member.name = name
                    kept.addfile(member, source.extractfile(member))
    return {}


def _make(tree: Path, work: Path, kernel: Kernel, mutants: Sequence[Mutant], space: Userspace, new: Path) -> None:
    """Builds in the suite's userspace, which has the compiler and the headers; `work` is an empty folder."""
    with tarfile.open(tree) as archive:
        archive.extractall(work)
    try:
        mutant_source.apply(mutants, work)
    except ValueError as error:
        raise Problem(f"{kernel.name}: {error}") from error
    folder = work / _KVM
    makefile = folder / "Makefile"
    flags = f"ccflags-y += -include {_IN_USERSPACE}/{mutant_source.HEADER}\n"
    makefile.write_text(flags + makefile.read_text().replace("$(srctree)/", f"{_IN_USERSPACE}/"))
    trace = folder / "trace.h"
    trace.write_text(trace.read_text().replace(f" ../../{_KVM}\n", f" {_IN_USERSPACE}/{_KVM}\n"))
    headers = f"/usr/src/linux-headers-{kernel.release}"
    make = ("make", "-s", f"-j{os.cpu_count() or 1}", "-C", headers, f"M={_IN_USERSPACE}/{_KVM}", *_WITHOUT, "modules")
    run = partial(external_programs.run, *_own_mounts(), "sh", "-c", _IN_CHROOT, "sh", work, space.root)
    run("nice", "-n", "10", *make)
    for name in MODULES:
        run("strip", "--strip-debug", f"{_IN_USERSPACE}/{_KVM}/{name}.ko")
        shutil.copyfile(folder / f"{name}.ko", new / f"{name}.ko")


def _own_mounts() -> Sequence[str]:
    as_root = ("--map-root-user",) if os.geteuid() != 0 else ()
    return (external_programs.find("unshare", "util-linux"), "--mount", *as_root, "--")


def _compare_vermagic(module: bytes, kernel: Kernel) -> None:
    """Raises Problem where the kernel would refuse the module for its vermagic."""
    built, own = _VERMAGIC.search(module), _VERMAGIC.search(kernel.initramfs.read_bytes())
    if built is None or own is None or built[1] != own[1]:
        raise Problem(f"{kernel.name}: the modules that were built have another vermagic than the kernel's")
