"""What the lab needs of a kernel's configuration, and what a kernel lacks by each source that shows it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from kvmprobe.lab import kernel_config
from kvmprobe.model.errors import EXIT_CONFIRMED, EXIT_USAGE
from tests.helpers import lab_images
from tests.helpers.run_kvmprobe import kvmprobe

# Of config-6.1.0-56-cloud-amd64 (Debian): options of the fragment that are not =y there.
_CLOUD = {
    **dict.fromkeys(("CONFIG_NET_9P", "CONFIG_NET_9P_VIRTIO", "CONFIG_9P_FS"), None),
    **dict.fromkeys(("CONFIG_VIRTIO_PCI", "CONFIG_OVERLAY_FS", "CONFIG_VIRTIO_BLK", "CONFIG_SQUASHFS"), "m"),
    **dict.fromkeys(("CONFIG_KVM", "CONFIG_KVM_AMD", "CONFIG_X86_MSR", "CONFIG_X86_CPUID"), "m"),
}
_CLOUD_LACKS = "lacks CONFIG_NET_9P, CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS"

_MODULES = (
    *("virtio/virtio_pci.ko", "net/9p/9pnet_virtio.ko.xz", "fs/9p/9p.ko", "fs/overlayfs/overlay.ko.zst"),
    *("block/virtio_blk.ko", "fs/squashfs/squashfs.ko", "kvm/kvm-amd.ko", "kernel/msr.ko"),
)


def _options() -> list[str]:
    return re.findall(r"^(CONFIG_\w+)=y$", kernel_config.fragment(), re.MULTILINE)


def _config(**different: str | None) -> str:
    """A kernel's configuration with the fragment, in which some options are not =y; None: "is not set"."""
    values = {**dict.fromkeys(_options(), "y"), "CONFIG_LOCALVERSION": '""', **different}
    lines = (f"{name}={value}" if value else f"# {name} is not set" for name, value in values.items())
    return "\n".join(("# Linux/x86 6.1.192 Kernel Configuration", *lines, ""))


def _image(path: Path, config: str | None = None) -> Path:
    """A bzImage, with a configuration inside if one is given."""
    packed = b"" if config is None else b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lab_images.bzimage(gzip.compress(lab_images.vmlinux() + packed)))
    return path


def _modules(folder: Path, *names: str, builtin: str = "") -> Path:
    for name in names:
        (folder / "kernel" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "kernel" / name).write_bytes(b"")
    (folder / "modules.builtin").write_text(builtin)
    return folder


def test_the_fragment_is_one_for_merge_config() -> None:
    done = kvmprobe("lab", "config")
    assert (done.returncode, done.stderr) == (EXIT_CONFIRMED, "")
    lines = [line for line in done.stdout.splitlines() if line and not line.startswith("# ")]
    assert lines == [f"{name}=y" for name in _options()]
    assert len(set(lines)) == len(lines)
    assert {"CONFIG_9P_FS=y", "CONFIG_OVERLAY_FS=y", "CONFIG_SQUASHFS=y", "CONFIG_KVM_AMD=y"} <= set(lines)
    assert kvmprobe("lab", "config", "--", "x").returncode == EXIT_USAGE


@pytest.mark.parametrize("place", ["image", "boot", "modules", "tree", "tree of a vmlinux"])
def test_a_configuration_names_what_is_missing(place: str, tmp_path: Path) -> None:
    modules = _modules(tmp_path / "6.1.0", *_MODULES)
    config = _config(**_CLOUD)
    source = {
        "image": tmp_path / "vmlinuz",
        "boot": tmp_path / "config-6.1.0",
        "modules": modules / "config",
        "tree": tmp_path / "linux/.config",
        "tree of a vmlinux": tmp_path / "linux/.config",
    }[place]
    if place == "image":
        vmlinuz = _image(source, config)
        (tmp_path / "config-6.1.0").write_text(_config())  # the configuration in the image is more certain
    else:
        vmlinuz = tmp_path / {"boot": "vmlinuz-6.1.0", "tree": "linux/arch/x86/boot/bzImage"}.get(place, "bzImage")
        if place == "tree of a vmlinux":
            vmlinuz = tmp_path / "linux/vmlinux"
        _image(vmlinuz)
        source.parent.mkdir(exist_ok=True)
        source.write_text(config)
    assert kernel_config.lacking(vmlinuz, modules) == f"the kernel's configuration ({source}) {_CLOUD_LACKS}"


def test_without_a_folder_of_modules_all_must_be_built_in(tmp_path: Path) -> None:
    vmlinuz = _image(tmp_path / "vmlinuz", _config(CONFIG_9P_FS=None, CONFIG_KVM_AMD="m"))
    assert kernel_config.lacking(vmlinuz, None).endswith("lacks CONFIG_9P_FS, CONFIG_KVM_AMD=y")
    assert kernel_config.with_kvm_amd_as_module(vmlinuz) == str(vmlinuz)


def test_without_a_configuration_the_folder_of_modules_shows_what_is_missing(tmp_path: Path) -> None:
    vmlinuz = _image(tmp_path / "vmlinuz-6.1.0")
    builtin = "kernel/arch/x86/kernel/cpuid.ko\n"
    present = [name for name in _MODULES if "9p" not in name]
    modules = _modules(tmp_path / "6.1.0", *present, builtin=builtin)
    lacks = "CONFIG_NET_9P_VIRTIO, CONFIG_9P_FS"
    expected = f"{modules} has no module, and its modules.builtin no entry, for {lacks}"
    assert kernel_config.lacking(vmlinuz, modules) == expected


@pytest.mark.parametrize("known", ["configuration", "modules", "no list of what is built in", "nothing"])
def test_a_kernel_that_is_not_known_to_lack_anything(known: str, tmp_path: Path) -> None:
    vmlinuz = _image(tmp_path / "vmlinuz", _config() if known == "configuration" else None)
    modules = _modules(tmp_path / "6.1.0", *_MODULES, "kernel/cpuid.ko")
    if known == "no list of what is built in":
        modules = _modules(tmp_path / "other", "kernel/msr.ko")
        (modules / "modules.builtin").unlink()
    assert kernel_config.lacking(vmlinuz, None if known == "nothing" else modules) == ""
    assert kernel_config.with_kvm_amd_as_module(vmlinuz) == ""


@pytest.mark.parametrize("damage", [b"IKCFG_ST\x1f\x8b damage", b"IKCFG_ST", b"IKCFG_ST\x1f\x8b"])
def test_a_damaged_configuration_in_the_image_is_none(damage: bytes, tmp_path: Path) -> None:
    vmlinuz = tmp_path / "vmlinux"
    vmlinuz.write_bytes(lab_images.vmlinux() + damage)
    assert kernel_config.lacking(vmlinuz, None) == ""


@pytest.mark.kernel
def test_debians_kernel_lacks_nothing(own_kernel: tuple[Path, Path]) -> None:
    assert kernel_config.lacking(*own_kernel) == ""
    assert (own_kernel[1] / "modules.builtin").read_text()
