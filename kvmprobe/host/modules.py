"""Kernel modules as /sys/module shows them (Documentation/ABI/stable/sysfs-module).

pyudev cannot list modules, so their state is read from the files.
"""

from __future__ import annotations

import errno

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import OTHER_OWNERS, as_count

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Module


# The modules whose parameters are recorded, all of them: what decides today is not all that may decide tomorrow.
_WITH_PARAMETERS = ("kvm", "kvm_amd", "kvm_intel", "ccp")

# Recorded where they are present, besides every module whose name begins with kvm_ and every holder of kvm.
_RECORDED = ("kvm", "kvm_amd", "kvm_intel", "msr", "cpuid", "ccp", *OTHER_OWNERS)

_TRIES = 2  # of a read on which it depends what is unloaded


def read_modules(root: Sysroot) -> dict[str, Module] | None:
    """Return the modules that bear on KVM, by name: kvm, its backends, and others that use SVM.

    Only modules that are present, loaded or built in. None where /sys/module cannot be listed.
    """
    present = root.list_folder("/sys/module")
    if not present:
        return None
    recorded = set(_RECORDED).union(name for name in present if name.startswith("kvm_"))
    recorded.update(root.list_folder("/sys/module/kvm/holders"))
    return {name: _read_module(root, name) for name in present if name in recorded}


def _read_module(root: Sysroot, name: str) -> Module:
    folder = f"/sys/module/{name}"
    names = root.list_folder(f"{folder}/parameters") if name in _WITH_PARAMETERS else []
    parameters = {parameter: root.read_value(f"{folder}/parameters/{parameter}") for parameter in names}
    module: Module = {
        # Only loadable modules have initstate and refcnt.
        "state": root.read_text_or_none(f"{folder}/initstate") or "builtin",
        "refcount": as_count(root.read_text_or_none(f"{folder}/refcnt") or ""),
        "holders": root.list_folder(f"{folder}/holders"),
        "parameters": {key: value for key, value in parameters.items() if value is not None},
        "taint": root.read_value(f"{folder}/taint"),
    }
    version = root.read_value(f"{folder}/version")
    if version is not None:  # of modules that are not in the kernel's tree
        module["version"] = version
    return module


def is_present(root: Sysroot, name: str) -> bool:
    """Return whether the module is loaded or built in."""
    return root.exists(f"/sys/module/{name}")


def is_loaded(root: Sysroot, name: str) -> bool:
    """Return whether the module is loaded. A built-in module is not: it has no initstate."""
    return root.exists(f"/sys/module/{name}/initstate")


def is_certainly_unloaded(root: Sysroot, name: str) -> bool:
    """Return whether it is certain that the module is not loaded. Where that cannot be read, nothing is certain."""
    for _ in range(_TRIES):
        try:
            root.stat(f"/sys/module/{name}/initstate")
            return False
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return True
    return False


def enables_virt_at_load(root: Sysroot) -> bool:
    """Return whether kvm_amd sets EFER.SVME when it is loaded, not at the first KVM_CREATE_VM.

    kvm.enable_virt_at_load exists since Linux 6.12 (b4886fab6fb6).
    """
    parameter = root.read_text_or_none("/sys/module/kvm/parameters/enable_virt_at_load")
    return is_present(root, "kvm_amd") and parameter == "Y"
