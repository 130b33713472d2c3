"""What the lab needs of a kernel's configuration (lab.config), and what of it a kernel of the user's lacks.

A kernel's configuration is in its image (CONFIG_IKCONFIG), or in a file beside it. Without one, the folder of modules
shows which parts are neither modules nor built in.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

from kvmprobe.lab import guest_modules, kernel_image

_OPTION = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)

# Kbuild's names of those of guest_modules.NEEDED that a guest cannot do without.
_OPTION_OF = {
    "virtio_pci": "CONFIG_VIRTIO_PCI",
    "9pnet_virtio": "CONFIG_NET_9P_VIRTIO",
    "9p": "CONFIG_9P_FS",
    "overlay": "CONFIG_OVERLAY_FS",
    "virtio_blk": "CONFIG_VIRTIO_BLK",
    "squashfs": "CONFIG_SQUASHFS",
    "kvm_amd": "CONFIG_KVM_AMD",
    "msr": "CONFIG_X86_MSR",
    "cpuid": "CONFIG_X86_CPUID",
}


def fragment() -> str:
    """Returns the configuration that the lab needs, for the kernel's merge_config.sh."""
    data = pkgutil.get_data("kvmprobe.lab", "lab.config")
    assert data is not None, "kvmprobe.lab has no lab.config"  # noqa: S101
    return data.decode()


def lacking(vmlinuz: Path, modules_dir: Path | None) -> str:
    """Returns what of the fragment a kernel lacks, in words with the source; "" if nothing, or if no source shows it.

    `modules_dir` is its /lib/modules/RELEASE; None if the lab has no modules of it.
    """
    source, options = next(_configurations(vmlinuz, modules_dir), ("", None))
    if options is not None:
        enough = ("y",) if modules_dir is None else ("y", "m")
        lacks = [name for name, _ in _OPTION.findall(fragment()) if options.get(name) not in enough]
        if lacks:
            named = (f"{name}=y" if name in options else name for name in lacks)
            return f"the kernel's configuration ({source}) lacks {', '.join(named)}"
    if modules_dir is None or not (modules_dir / guest_modules.BUILTIN).is_file():
        return ""
    known = {_module_name(path.name) for path in guest_modules.files(modules_dir)}
    known.update(map(_module_name, _text(modules_dir / guest_modules.BUILTIN).split()))
    absent = [option for name, option in _OPTION_OF.items() if name not in known]
    if not absent:
        return ""
    return f"{modules_dir} has no module, and its {guest_modules.BUILTIN} no entry, for {', '.join(absent)}"


def with_kvm_amd_as_module(vmlinuz: Path) -> str:
    """Returns the source of the kernel's configuration if that has kvm_amd as a module, else ""."""
    source, options = next(_configurations(vmlinuz, None), ("", {}))
    return source if options.get("CONFIG_KVM_AMD") == "m" else ""


def _configurations(vmlinuz: Path, modules_dir: Path | None) -> Iterator[tuple[str, dict[str, str]]]:
    """Where a configuration of the kernel is, and its options with their values; the most certain source first."""
    text = kernel_image.configuration(vmlinuz)
    if text is not None:
        yield str(vmlinuz), dict(_OPTION.findall(text))
    for path in _files(vmlinuz, modules_dir):
        options = dict(_OPTION.findall(_text(path)))
        if options:
            yield str(path), options


def _files(vmlinuz: Path, modules_dir: Path | None) -> Iterator[Path]:
    if vmlinuz.name.startswith("vmlinuz-"):  # /boot of most distributions
        yield vmlinuz.with_name(vmlinuz.name.replace("vmlinuz-", "config-", 1))
    if modules_dir is not None:  # Fedora, and newer packages of Debian
        yield modules_dir / "config"
    real = vmlinuz.resolve()
    if real.parts[-4:] == ("arch", "x86", "boot", "bzImage"):  # a tree in which a kernel was built
        yield real.parents[3] / ".config"
    elif real.name == "vmlinux":
        yield real.with_name(".config")


def _text(path: Path) -> str:
    """The content of a regular file, "" if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace") if path.is_file() else ""
    except OSError:
        return ""


def _module_name(path: str) -> str:
    """The kernel's name of a module, by its file's name or path."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
