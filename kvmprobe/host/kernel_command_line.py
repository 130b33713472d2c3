"""The kernel's command line, reduced to the parameters that bear on KVM.

The others may have secrets: keys of disks, passwords of file servers, whole configurations. Neither their values nor
their names are kept.
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.values import failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Failure

_MODULES = ("kvm", "kvm_amd", "kvm_intel", "ccp", "module", "msr")

# Documentation/admin-guide/kernel-parameters.txt, with "_" for "-". They take words, numbers and lists of CPUs or of
# names, and so nothing that is secret.
_NAMES = frozenset(
    (
        # CPUs, SVM, IOMMU, modules
        "amd_iommu clearcpuid elfcorehdr initcall_blacklist iommu lockdown maxcpus mem_encrypt modprobe.blacklist "
        "module_blacklist no387 no5lvl noexec noexec32 nofxsr nopat nosmp nr_cpus "
        "amd_iommu_dump amd_iommu_intr amd_pstate apic intremap iommu.forcedac iommu.passthrough iommu.strict "
        "isolcpus irqaffinity no_kvmclock no_kvmapf no_steal_acc no_x2apic_optout nolapic noapic nox2apic "
        "nohz nohz_full nosmt noxsave noxsaveopt noxsaves possible_cpus rcu_nocbs rdt sev smt x2apic_phys "
        # mitigations (arch/x86/kernel/cpu/bugs.c)
        "gather_data_sampling indirect_target_selection kpti l1d_flush l1tf mds mitigations mmio_stale_data nopti "
        "nospec_store_bypass_disable nospectre_v1 nospectre_v2 pti reg_file_data_sampling retbleed "
        "spec_rstack_overflow spec_store_bypass_disable spectre_bhi spectre_v2 spectre_v2_user srbds tsa tsx "
        "tsx_async_abort vmscape ibt nosmap nosmep nopku nopcid noinvpcid nofsgsbase unsafe_fsgsbase "
        # time, idle, preemption: how long an exit takes
        "clocksource cpufreq.off cpuidle.off hpet idle intel_idle.max_cstate nmi_watchdog nowatchdog preempt "
        "processor.max_cstate tsc threadirqs skew_tick split_lock_detect "
        # memory
        "default_hugepagesz hugepages hugepagesz init_on_alloc init_on_free kernelcore mem memmap movablecore "
        "numa_balancing page_poison slab_nomerge slub_debug swiotlb transparent_hugepage"
    ).split()
)

_QUOTED_SPACE = "\0"  # no command line has it


def read_command_line(root: Sysroot) -> tuple[list[str] | Failure, int | None]:
    """Return the parameters of /proc/cmdline that bear on KVM, in order ("clearcpuid=svm"), and how many others it has.

    Without the file: why, and None.
    """
    try:
        text = root.read_text("/proc/cmdline")
    except OSError as error:
        return failure(error), None
    parameters = _split(text)
    kept = [parameter for parameter in parameters if _bears_on_kvm(parameter)]
    return kept, len(parameters) - len(kept)


def _split(text: str) -> list[str]:
    """The kernel's parameters: next_arg() in lib/cmdline.c, and parse_args() in kernel/params.c, which ends at "--".

    What follows is for init. White space within quotation marks belongs to a parameter.
    """
    parts = text.split('"')
    parts[1::2] = [_QUOTED_SPACE.join(part.split(" ")) for part in parts[1::2]]
    parameters = [parameter.replace(_QUOTED_SPACE, " ") for parameter in '"'.join(parts).split()]
    return parameters[: parameters.index("--")] if "--" in parameters else parameters


def _bears_on_kvm(parameter: str) -> bool:
    name = parameter.lstrip('"').partition("=")[0].replace("-", "_")  # The kernel takes one for the other: parameq().
    module, dot, _ = name.partition(".")
    return name in _NAMES or bool(dot and module in _MODULES)
