"""The kernels of the lab: Debian's by name, and the user's own.

The cache keeps only what a guest needs: the image that boots fastest, and an initramfs with busybox and a few modules.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kvmprobe.lab import (
    cache,
    external_programs,
    guest_modules,
    initramfs,
    kernel_config,
    kernel_image,
    own_modules,
)
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.external_programs import Say
from kvmprobe.model.errors import Problem, UsageProblem

# A change of the entries needs a new number. Entries with an old number are ignored.
_FOLDER = "kernels-3"
_VMLINUZ = "vmlinuz"
_VMLINUX = "vmlinux"
_BASE = "base.cpio"
_CUSTOM = "custom-"
_FORGET_CUSTOM_AFTER = 7 * 24 * 3600.0  # each build of a developer makes an entry of some 70 MB


@dataclass(frozen=True)
class DebianKernel:
    """A kernel of Debian. `suite` is its name in the lab, `userspace` the suite whose programs run on it."""

    suite: str
    series: str
    userspace: str


DEBIAN = (
    DebianKernel("bullseye", "5.10", "bullseye"),  # the oldest in use on enterprise hosts; Python 3.9
    DebianKernel("bookworm", "6.1", "bookworm"),  # SVME follows the VMs
    DebianKernel("trixie", "6.12", "trixie"),  # kvm.enable_virt_at_load: SVME follows kvm_amd
    DebianKernel("trixie-backports", "7.x", "trixie"),  # SVME is set in arch/x86/virt
)
DEFAULT_SUITES = ("bookworm", "trixie")  # SVME follows the VMs in the one and kvm_amd in the other
CUSTOM_USERSPACE = "bookworm"


@dataclass(frozen=True)
class Kernel:
    """A kernel ready to boot: `image` is the file for QEMU, `initramfs` the kernel's base archive (initramfs.base).

    `parameters` are those of its module kvm. They show what the kernel can do; its version does not matter. `vmlinuz`
    and `modules` are the user's own files; None for a kernel of Debian. An own kernel without modules has all built in.
    """

    name: str
    release: str
    image: Path
    initramfs: Path
    parameters: frozenset[str]
    userspace: str
    vmlinuz: Path | None = None
    modules: Path | None = None

    @property
    def loads_modules(self) -> bool:
        """Whether the guest has modules of this kernel."""
        return self.vmlinuz is None or self.modules is not None

    def lacking(self) -> str:
        """Returns what this kernel lacks that the lab needs, in words; "" if nothing, or if nothing shows it."""
        return "" if self.vmlinuz is None else kernel_config.lacking(self.vmlinuz, self.modules)


def debian(name: str) -> DebianKernel:
    """Returns Debian's kernel called `name`. Raises UsageProblem if there is none."""
    for row in DEBIAN:
        if row.suite == name:
            return row
    raise UsageProblem(f"unknown kernel {name!r}", "Known: " + ", ".join(row.suite for row in DEBIAN) + ".")


def fetch(row: DebianKernel, folder: Path, say: Say) -> Kernel:
    """Returns Debian's kernel `row`, downloaded unless it is in the cache `folder`.

    Raises Problem if a program is missing on this machine or a package on the network.
    """
    suite = row.suite

    def make(new: Path) -> cache.Meta:
        say(f"{suite}: searching for the kernel package …")
        with TemporaryDirectory(dir=new) as work:
            apt = Apt(suite, Path(work, "apt"))
            unpacked = Path(work, "unpacked")
            for package in apt.kernel(say):
                external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, unpacked)
            say(f"{suite}: preparing …")
            # Older packages have the first path, newer ones the second.
            _only(unpacked, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz").rename(new / _VMLINUZ)
            return _keep(new, _only(unpacked, "lib/modules/*", "usr/lib/modules/*"), Path(work))

    return _cached(suite, suite, folder, make, say, row.userspace)


def custom(vmlinuz: Path, modules: Path | None, folder: Path, say: Say) -> Kernel:
    """Returns the user's own kernel, prepared in the cache `folder`.

    `modules` is its /lib/modules/RELEASE, or the INSTALL_MOD_PATH that has it; None if all that the lab needs is built
    in. Only reads the user's files. Raises DataProblem if they are not a kernel and its modules, and UsageProblem if
    there are no modules and the kernel's configuration has kvm_amd as a module.
    """
    release = kernel_image.release(vmlinuz)
    modules_dir = None if modules is None else own_modules.find(modules, release)
    if modules_dir is None and (source := kernel_config.with_kvm_amd_as_module(vmlinuz)):
        raise UsageProblem(
            f"kvm_amd is a module of {vmlinuz}: CONFIG_KVM_AMD=m in {source}",
            "Give the kernel's modules with --modules.",
        )
    name = modules_dir.name if modules_dir else release or vmlinuz.name

    def make(new: Path) -> cache.Meta:
        say(f"{name}: preparing …")
        (new / _VMLINUZ).symlink_to(vmlinuz.resolve())
        with TemporaryDirectory(dir=new) as work:
            return _keep(new, modules_dir, Path(work))

    cache.forget_unused(folder / _FOLDER, _CUSTOM, _FORGET_CUSTOM_AFTER)
    key = _CUSTOM + _fingerprint(vmlinuz, modules_dir)
    kernel = _cached(name, key, folder, make, say, CUSTOM_USERSPACE)
    return dataclasses.replace(kernel, release=name, vmlinuz=vmlinuz, modules=modules_dir)


def _only(folder: Path, *patterns: str) -> Path:
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    if len(found) != 1:
        raise Problem(
            f"the kernel's packages have {len(found)} files {' or '.join(patterns)} instead of 1", "Please report it."
        )
    return found[0]


def _keep(new: Path, modules_dir: Path | None, work: Path) -> cache.Meta:
    kernel_image.unpack(new / _VMLINUZ, new / _VMLINUX)
    if modules_dir is None:
        (new / _BASE).write_bytes(initramfs.base(work))
        return {"release": "", "parameters": ""}
    release = modules_dir.name
    root = guest_modules.root(modules_dir, release, work / "root")
    trimmed = guest_modules.trim(root, release, work / "trimmed")
    (new / _BASE).write_bytes(initramfs.base(trimmed))
    return {"release": release, "parameters": " ".join(guest_modules.parameters(trimmed, "kvm"))}


def _cached(name: str, key: str, folder: Path, make: Callable[[Path], cache.Meta], say: Say, userspace: str) -> Kernel:
    place, meta = cache.entry(folder / _FOLDER, key, make, say)
    vmlinux = place / _VMLINUX
    image = vmlinux if vmlinux.exists() else place / _VMLINUZ
    parameters = frozenset(meta["parameters"].split())
    return Kernel(name, meta["release"], image, place / _BASE, parameters, userspace)


def _fingerprint(vmlinuz: Path, modules_dir: Path | None) -> str:
    """A name that differs for every build: from names, sizes and times of all files."""
    digest = hashlib.sha256()
    modules = [] if modules_dir is None else [*guest_modules.files(modules_dir), *guest_modules.indexes(modules_dir)]
    for path in (vmlinuz.resolve(), *modules):
        state = path.stat()
        digest.update(f"{path}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]
