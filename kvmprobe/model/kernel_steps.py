"""The kernel's call chain from KVM_CREATE_VM to EFER.SVME and back: its steps, and the names each had over time.

A table of steps, not of kernel versions: which of the names a kernel has is what its available_filter_functions says.
Sources: virt/kvm/kvm_main.c, arch/x86/kvm/x86.c, arch/x86/kvm/svm/svm.c, arch/x86/virt/hw.c; and, for what compilers
leave visible, Debian's kernels from 5.10 to 7.3.
"""

from __future__ import annotations

LOAD, CREATE, CLOSE = "load", "create", "close"

# What kvmprobe was doing: from the first look at the registers to the last one.
PHASES = (LOAD, "before", CREATE, "alive", CLOSE, "after")


class Step:
    """`names`: of the kernel's function, oldest first; `phases`: when it is expected; `module`: where it is."""

    def __init__(self, module: str, phases: tuple[str, ...], *names: str) -> None:
        self.module = module
        self.phases = phases
        self.names = names

    @property
    def id(self) -> str:
        return self.names[0]


_ON = (LOAD, CREATE)

STEPS = (
    # kvm_amd is loaded
    Step("kvm_amd", (LOAD,), "svm_init"),
    Step("kvm", (LOAD,), "kvm_x86_vendor_init"),
    Step("kvm_amd", (LOAD,), "has_svm", "kvm_is_svm_supported", "__kvm_is_svm_supported"),
    Step("kvm_amd", (LOAD,), "is_disabled"),
    Step("kvm_amd", (LOAD,), "svm_hardware_setup"),
    Step("kvm_amd", (LOAD,), "svm_check_processor_compat"),
    Step("kvm", (LOAD,), "kvm_init"),
    # the first VM is created
    Step("kvm", (CREATE,), "kvm_dev_ioctl"),
    Step("kvm", (CREATE,), "kvm_create_vm"),
    # SVM is switched on, on every CPU
    Step("kvm", _ON, "hardware_enable_all", "kvm_enable_virtualization"),
    Step("kvm", _ON, "hardware_enable_nolock", "__hardware_enable_nolock", "kvm_enable_virtualization_cpu"),
    Step("kvm", _ON, "kvm_arch_hardware_enable", "kvm_arch_enable_virtualization_cpu"),
    Step("kvm_amd", _ON, "svm_hardware_enable", "svm_enable_virtualization_cpu"),
    Step("", _ON, "x86_virt_get_ref"),
    Step("", _ON, "x86_svm_enable_virtualization_cpu"),
    # the last VM is closed
    Step("kvm", (CLOSE,), "kvm_vm_release"),
    Step("kvm", (CLOSE,), "kvm_put_kvm"),
    Step("kvm", (CLOSE,), "kvm_destroy_vm"),
    Step("kvm", (CLOSE,), "hardware_disable_all", "kvm_disable_virtualization"),
    Step("kvm", (CLOSE,), "hardware_disable_nolock", "__hardware_disable_nolock", "kvm_disable_virtualization_cpu"),
    Step("kvm", (CLOSE,), "kvm_arch_hardware_disable", "kvm_arch_disable_virtualization_cpu"),
    Step("kvm_amd", (CLOSE,), "svm_hardware_disable", "svm_disable_virtualization_cpu"),
    Step("", (CLOSE,), "x86_virt_put_ref"),
    Step("", (CLOSE,), "x86_svm_disable_virtualization_cpu"),
)


def step_of(function: str) -> Step | None:
    """The step that a kernel's function is, also where the compiler gave it a suffix (".isra.0")."""
    return _BY_NAME.get(function.partition(".")[0])


_BY_NAME = {name: step for step in STEPS for name in step.names}
