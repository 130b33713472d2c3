"""The modules a guest needs, picked out of a kernel's module folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from kvmprobe.lab import tools
from kvmprobe.lab.compression import decompress
from kvmprobe.model.errors import Problem

# The way to the host's files or to an image, the new root, a network, and what kvmprobe looks at.
NEEDED = (
    *("virtio_pci", "9pnet_virtio", "9p", "virtio_blk", "squashfs", "overlay"),
    *("virtio_net", "kvm_amd", "msr", "cpuid"),
)

# What depmod wants besides the modules. They make modprobe succeed for what is built in.
_LISTS = ("modules.order", "modules.builtin", "modules.builtin.modinfo")
_INDEX = "modules.dep.bin"

_INSMOD = re.compile(r"insmod (.+?\.ko(?:\.(?:xz|zst|gz))?)(?: |$)")
_PARAMETER = re.compile(rb"\0parmtype=(\w+):")
_EXTENSIONS = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def files(modules_dir: Path) -> list[Path]:
    """Every module in the folder, sorted."""
    return sorted(path for path in modules_dir.rglob("*.ko*") if path.name.endswith(_EXTENSIONS))


def root(modules_dir: Path, release: str, new: Path) -> Path:
    """Makes the folder `new`, in which `modprobe -d` and `depmod -b` find `modules_dir` as that of `release`.

    `modules_dir` itself stays as it is: where it has no index, the index is made over links to its files.
    """
    # lib may be usr/lib for the kmod of one distribution and lib for the next one's.
    place = new / "usr/lib/modules" / release
    place.parent.mkdir(parents=True)
    (new / "lib").symlink_to("usr/lib")
    source = modules_dir.resolve()
    if (source / _INDEX).exists():
        place.symlink_to(source)
        return new
    for path in [*files(source), *(source / name for name in _LISTS if (source / name).exists())]:
        link = place / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    _depmod(new, release)
    return new


def trim(root: Path, release: str, new: Path) -> Path:
    """Makes the folder `new` like `root`, with nothing but the needed modules, not compressed, and returns it.

    A module that is not there is left out, for it may be built in; what is really missing, the guest says. Raises
    Problem where a module cannot be unpacked.
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
                raise Problem(f"{copy.name} cannot be unpacked", "Install zstd: apt-get install zstd.")
            content, copy = unpacked, copy.with_suffix("")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    for name in _LISTS:
        if (source / name).exists():
            shutil.copyfile(source / name, place / name)
    _depmod(new, release)
    return new


def parameters(root: Path, name: str) -> list[str]:
    """The parameters of the module `name` below `root`, by its own .modinfo; none where it is built in."""
    found: set[str] = set()
    for path in root.rglob(f"{name}.ko"):
        found.update(match.decode() for match in _PARAMETER.findall(path.read_bytes()))
    return sorted(found)


def _closure(root: Path, release: str) -> list[str]:
    """The needed modules and those they depend on, as paths in the module folder."""
    # -C: the configuration of this machine (blacklists, options) is not the guest's.
    show = (tools.find("modprobe", "kmod"), "-d", root, "-S", release, "-C", "/dev/null", "--show-depends")
    found: list[str] = []
    for name in NEEDED:
        try:
            lines = tools.run(*show, name).decode().splitlines()
        except Problem:
            continue
        paths = [match[1] for match in map(_INSMOD.match, lines) if match]
        found += [path.rpartition(f"/lib/modules/{release}/")[2] for path in paths]
    return list(dict.fromkeys(found))


def _depmod(root: Path, release: str) -> None:
    tools.run(tools.find("depmod", "kmod"), "-b", root, release)
