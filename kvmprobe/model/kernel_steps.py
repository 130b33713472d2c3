"""The kernel's call chain from KVM_CREATE_VM to EFER.SVME and back: its steps, and every name each step has had.

This is a table of steps, not of kernel versions: available_filter_functions shows which of the names a kernel has.
Sources: virt/kvm/kvm_main.c, arch/x86/kvm/x86.c, arch/x86/kvm/svm/svm.c, arch/x86/virt/hw.c. Which functions compilers
leave visible was read from Debian's kernels 5.10 to 7.3.
"""

from __future__ import annotations

# The phases of a trace in which the kernel's functions are recorded.
LOAD, CREATE, CLOSE = "load", "create", "close"

# All phases of a trace, in time order: what kvmprobe did between the first reading of the registers and the last.
PHASES = (LOAD, "before", CREATE, "alive", CLOSE, "after")


class Step:
    """One step of the kernel's call chain.

    `module`: the module that contains the function, "" for the kernel image. `phases`: the phases in which the kernel
    is expected to call it. `names`: the names of the function, oldest first.
    """

    def __init__(self, module: str, phases: tuple[str, ...], *names: str) -> None:
        self.module = module
        self.phases = phases
        self.names = names

    @property
    def id(self) -> str:
        """The oldest name, which identifies the step in evidence."""
        return self.names[0]


_ENABLING = (LOAD, CREATE)

STEPS = (
    # Load kvm_amd.
    Step("kvm_amd", (LOAD,), "svm_init"),
    Step("kvm", (LOAD,), "kvm_arch_init"),  # calls has_svm() and is_disabled() until 6.1; gone since 6.3
    Step("kvm", (LOAD,), "kvm_x86_vendor_init"),
    Step("kvm_amd", (LOAD,), "has_svm", "kvm_is_svm_supported", "__kvm_is_svm_supported"),
    Step("kvm_amd", (LOAD,), "is_disabled"),
    Step("kvm_amd", (LOAD,), "svm_hardware_setup"),
    Step("kvm_amd", (LOAD,), "svm_check_processor_compat"),
    Step("kvm", (LOAD,), "kvm_init"),
    # Create the first VM.
    Step("kvm", (CREATE,), "kvm_dev_ioctl"),
    Step("kvm", (CREATE,), "kvm_dev_ioctl_create_vm"),  # Debian's kernels have it inlined in kvm_dev_ioctl()
    Step("kvm", (CREATE,), "kvm_create_vm"),
    # Enable SVM on every CPU.
    Step("kvm", _ENABLING, "hardware_enable_all", "kvm_enable_virtualization"),
    Step("kvm", _ENABLING, "hardware_enable_nolock", "__hardware_enable_nolock", "kvm_enable_virtualization_cpu"),
    Step("kvm", _ENABLING, "kvm_arch_hardware_enable", "kvm_arch_enable_virtualization_cpu"),
    Step("kvm_amd", _ENABLING, "svm_hardware_enable", "svm_enable_virtualization_cpu"),
    Step("", _ENABLING, "x86_virt_get_ref"),
    Step("", _ENABLING, "x86_svm_enable_virtualization_cpu"),
    # Close the last VM.
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
    """Return the step of a kernel function, None for a function that is not in the chain.

    A suffix that the compiler appended (".isra.0") is ignored.
    """
    return _STEPS_BY_NAME.get(function.partition(".")[0])


_STEPS_BY_NAME = {name: step for step in STEPS for name in step.names}
