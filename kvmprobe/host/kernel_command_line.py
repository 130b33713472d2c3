"""The kernel's command line, reduced to the parameters that bear on KVM. The others may be secrets."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Failure

_MODULES = ("kvm", "kvm_amd", "kvm_intel", "ccp", "module", "msr")
_NAMES = frozenset(
    (
        "amd_iommu clearcpuid elfcorehdr initcall_blacklist iommu lockdown maxcpus mem_encrypt modprobe.blacklist "
        "module_blacklist no387 no5lvl noexec noexec32 nofxsr nopat nosmp nr_cpus"
    ).split()
)


def read_command_line(root: Sysroot) -> list[str] | Failure:
    """Return the parameters of /proc/cmdline that bear on KVM, in order ("clearcpuid=svm")."""
    try:
        text = root.read_text("/proc/cmdline")
    except OSError as error:
        return failure(error)
    return [parameter for parameter in text.split() if _bears_on_kvm(parameter)]


def _bears_on_kvm(parameter: str) -> bool:
    name = parameter.partition("=")[0]
    module, dot, _ = name.partition(".")
    return name in _NAMES or bool(dot and module.replace("-", "_") in _MODULES)
