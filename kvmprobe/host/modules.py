"""Kernel modules: what /sys/module says of them, and loading some for as long as they are needed.

pyudev cannot list modules, so their state comes from /sys/module (Documentation/ABI/stable/sysfs-module).
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import OTHER_OWNERS

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Module


# The parameters that decide how SVM is used (kernel: virt/kvm/kvm_main.c, arch/x86/kvm/svm/svm.c, svm/sev.c).
PARAMETERS = {
    "kvm": ("enable_virt_at_load",),
    "kvm_amd": ("nested", "npt", "avic", "vnmi", "vgif", "sev", "sev_es", "sev_snp"),
    "kvm_intel": ("nested", "ept", "unrestricted_guest"),
}

_ALWAYS_SHOWN = ("kvm", "kvm_amd", "kvm_intel", "msr", "cpuid", "ccp", *OTHER_OWNERS)


def observe(root: Sysroot) -> dict[str, Module] | None:
    """KVM, its backends and others that use SVM, as far as the kernel has them; None where it cannot be told."""
    present = root.listdir("/sys/module")
    if not present:
        return None
    wanted = set(_ALWAYS_SHOWN).union(name for name in present if name.startswith("kvm_"))
    wanted.update(root.listdir("/sys/module/kvm/holders"))
    return {name: _describe(root, name) for name in present if name in wanted}


def _describe(root: Sysroot, name: str) -> Module:
    folder = f"/sys/module/{name}"
    refcount = root.text_or_none(f"{folder}/refcnt") or ""
    parameters = {parameter: root.reading(f"{folder}/parameters/{parameter}") for parameter in PARAMETERS.get(name, ())}
    return {
        # initstate and refcnt belong to loadable modules only
        "state": root.text_or_none(f"{folder}/initstate") or "builtin",
        "refcount": int(refcount) if refcount.isascii() and refcount.isdigit() else None,
        "holders": root.listdir(f"{folder}/holders"),
        "parameters": {parameter: value for parameter, value in parameters.items() if value is not None},
    }


def is_loaded(root: Sysroot, name: str) -> bool:
    """Whether `name` is there as a loadable module (a built-in one has no initstate)."""
    return root.exists(f"/sys/module/{name}/initstate")


def enables_at_load(root: Sysroot) -> bool:
    """Whether kvm_amd, when loaded, holds SVM by itself (since 6.12)."""
    return is_present(root, "kvm_amd") and root.text_or_none("/sys/module/kvm/parameters/enable_virt_at_load") == "Y"


def is_present(root: Sysroot, name: str) -> bool:
    """Whether `name` is there, loaded or built in."""
    return root.exists(f"/sys/module/{name}")
