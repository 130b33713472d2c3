"""Selects the modules that a guest needs from a kernel's module folder (/lib/modules/RELEASE)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from kvmprobe.lab import external_programs
from kvmprobe.lab.compression import decompress
from kvmprobe.model.errors import Problem

# For the host's files (9p) or an image, the guest's root, a network, and for kvmprobe itself.
NEEDED = (
    *("virtio_pci", "9pnet_virtio", "9p", "virtio_blk", "squashfs", "overlay"),
    *("virtio_net", "kvm_amd", "msr", "cpuid"),
)

# depmod reads these besides the modules. With them modprobe succeeds for a module that is built in.
BUILTIN = "modules.builtin"
_LISTS = ("modules.order", BUILTIN, "modules.builtin.modinfo")
_INDEX = "modules.dep.bin"

_INSMOD = re.compile(r"insmod (.+?\.ko(?:\.(?:xz|zst|gz))?)(?: |$)")
_PARAMETER = re.compile(rb"\0parmtype=(\w+):")
_EXTENSIONS = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def files(modules_dir: Path) -> list[Path]:
    """Returns every module in the folder, sorted."""
    return sorted(path for path in modules_dir.rglob("*.ko*") if path.name.endswith(_EXTENSIONS))


def indexes(modules_dir: Path) -> list[Path]:
    """Returns the lists and indexes of modules in the folder (modules.builtin, modules.dep ...), sorted."""
    return sorted(path for path in modules_dir.glob("modules.*") if path.is_file())


def root(modules_dir: Path, release: str, new: Path) -> Path:
    """Makes the folder `new`, where `modprobe -d` and `depmod -b` find `modules_dir` as that of `release`.

    `modules_dir` itself does not change: if it has no index, depmod makes one over links to its files.
    """
    # lib may be usr/lib for the kmod of one distribution and lib for another's.
    place = new / "usr/lib/modules" / release
    place.parent.mkdir(parents=True)
    (new / "lib").symlink_to("usr/lib")
    source = modules_dir.resolve()
    if (source / _INDEX).exists():
        place.symlink_to(source)
        return new
    place.mkdir()
    for path in [*files(source), *(source / name for name in _LISTS if (source / name).exists())]:
        link = place / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    _depmod(new, release)
    return new


def trim(root: Path, release: str, new: Path) -> Path:
    """Makes the folder `new`: `root` with only the needed modules, decompressed. Returns `new`.

    Skips a module that is not there, because it may be built in; init.sh reports a module that is really missing.
    Raises Problem if a module cannot be decompressed.
    """
    source = root / "lib/modules" / release
    place = new / "usr/lib/modules" / release
    place.mkdir(parents=True)
    (new / "lib").symlink_to("usr/lib")
    for name in _closure(root, release):
        content = (source / name).read_bytes()
        copy = place / name
        if copy.suffix != ".ko":
            unpacked = decompress(content)
            if unpacked is None:
                raise Problem(f"{copy.name} cannot be decompressed", "Install zstd: apt-get install zstd.")
            content, copy = unpacked, copy.with_suffix("")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    for name in _LISTS:
        if (source / name).exists():
            shutil.copyfile(source / name, place / name)
    _depmod(new, release)
    return new


def parameters(root: Path, name: str) -> list[str]:
    """Returns the parameters of module `name` below `root`, from its .modinfo; none if the module is built in."""
    found: set[str] = set()
    for path in root.rglob(f"{name}.ko"):
        found.update(match.decode() for match in _PARAMETER.findall(path.read_bytes()))
    return sorted(found)


def _closure(root: Path, release: str) -> list[str]:
    """The needed modules and their dependencies, as paths in the module folder."""
    # -C /dev/null: this machine's configuration (blacklists, options) is not the guest's.
    modprobe = external_programs.find("modprobe", "kmod")
    show = (modprobe, "-d", root, "-S", release, "-C", "/dev/null", "--show-depends")
    found: list[str] = []
    for name in NEEDED:
        try:
            lines = external_programs.run(*show, name).decode().splitlines()
        except Problem:
            continue
        paths = [match[1] for match in map(_INSMOD.match, lines) if match]
        found += [path.rpartition(f"/lib/modules/{release}/")[2] for path in paths]
    return list(dict.fromkeys(found))


def _depmod(root: Path, release: str) -> None:
    external_programs.run(external_programs.find("depmod", "kmod"), "-b", root, release)
