"""The table of checks: the kernel's own order, and the tree in which people read them."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import Check
from kvmprobe.judge.checks.api_version import api_version
from kvmprobe.judge.checks.cpuinfo_flag import cpuinfo_flag
from kvmprobe.judge.checks.cpus_agree import cpus_agree
from kvmprobe.judge.checks.create_vm import create_vm
from kvmprobe.judge.checks.extended_leaf import extended_leaf
from kvmprobe.judge.checks.firmware import firmware
from kvmprobe.judge.checks.guest_runs import guest_runs
from kvmprobe.judge.checks.kvm_amd_module import kvm_amd_module
from kvmprobe.judge.checks.kvm_device import kvm_device, was_tried
from kvmprobe.judge.checks.nothing_left import nothing_left
from kvmprobe.judge.checks.register_values import has_faults, register_values
from kvmprobe.judge.checks.sev_guest import sev_guest
from kvmprobe.judge.checks.svm_bit import svm_bit
from kvmprobe.judge.checks.svme_released import is_left_set, svme_released
from kvmprobe.judge.checks.svme_set import svme_set
from kvmprobe.judge.checks.uevents_heard import uevents_heard
from kvmprobe.judge.checks.vendor import vendor

if TYPE_CHECKING:
    from kvmprobe.judge.check_result import Result
    from kvmprobe.judge.facts import Facts


# Loaded when used: the evidence of most checks has no soak, no trace, no watched command and no guest in a guest.


def _soak_cycles(facts: Facts) -> Result:
    from kvmprobe.judge.checks.soak_cycles import soak_cycles

    return soak_cycles(facts)


def _observers(facts: Facts) -> Result:
    from kvmprobe.judge.checks.observers import observers

    return observers(facts)


def _watched_command(facts: Facts) -> Result:
    from kvmprobe.judge.checks.watched_command import watched_command

    return watched_command(facts)


def _nested_svm(facts: Facts) -> Result:
    from kvmprobe.judge.checks.nested_svm import nested_svm

    return nested_svm(facts)


def _is_nested(facts: Facts) -> bool:
    """Whether a guest in a guest was asked for, with --nested."""
    return "nested" in facts.evidence


def _is_soaked(facts: Facts) -> bool:
    """Whether there were cycles: without a first VM there are none, and other checks show why."""
    return "soak" in facts.evidence and facts.evidence["soak"]["cycles"] > 0


def _is_counted(facts: Facts) -> bool:
    """Whether it was read what of the VM was left. Older evidence does not have it."""
    return "left_behind" in facts.evidence


def _is_traced(facts: Facts) -> bool:
    return "trace" in facts.evidence


def _is_watched(facts: Facts) -> bool:
    return facts.watch is not None


# The kernel's functions: before 6.12, and since.
_HAS_SVM = ("has_svm", "__kvm_is_svm_supported")
_IS_DISABLED = ("is_disabled", "__kvm_is_svm_supported")
_EACH_CPU = ("each CPU", "svm_check_processor_compat")
_ENABLE = ("svm_hardware_enable", "svm_enable_virtualization_cpu")
_DISABLE = ("svm_hardware_disable", "svm_disable_virtualization_cpu")
_IOCTL = ("kvm_dev_ioctl",)

CHECKS = (
    # First, so that a failure among many cycles decides, also where a single VM would give "not applicable".
    Check("cycles", None, "soak cycles", ("soak",), _soak_cycles, applies=_is_soaked),
    Check("vendor", None, "CPU vendor", _HAS_SVM, vendor, is_rule=True),
    Check("extended-leaf", "vendor", "extended leaf", _HAS_SVM, extended_leaf, about_svm=True),
    Check("svm-bit", "vendor", "SVM bit", _HAS_SVM, svm_bit, is_rule=True, about_svm=True),
    Check("cpuinfo-flag", "svm-bit", "svm flag", ("/proc/cpuinfo",), cpuinfo_flag, about_svm=True),
    Check("sev-guest", "vendor", "memory encryption", _HAS_SVM, sev_guest, is_rule=True, about_svm=True),
    Check("firmware", None, "firmware allows SVM", _IS_DISABLED, firmware, "svm-bit", is_rule=True, about_svm=True),
    Check("cpus-agree", None, "CPUs agree", _EACH_CPU, cpus_agree, is_rule=True, about_svm=True),
    Check("kvm-amd", None, "module kvm_amd", ("svm_init",), kvm_amd_module, "firmware", is_rule=True, about_svm=True),
    Check("kvm-device", "kvm-amd", "/dev/kvm", ("kvm_init",), kvm_device, "kvm-amd", was_tried),
    Check("api-version", "kvm-device", "API version", _IOCTL, api_version, "kvm-device"),
    Check("create-vm", "kvm-device", "KVM_CREATE_VM", _IOCTL, create_vm, "api-version"),
    Check("svme", "create-vm", "SVME set", _ENABLE, svme_set, "create-vm", about_svm=True),
    Check(
        "registers", "create-vm", "registers kept", _ENABLE, register_values, "create-vm", has_faults, about_svm=True
    ),
    Check("uevents", "create-vm", "KVM's uevents", ("kvm_uevent_notify_change",), uevents_heard, "create-vm"),
    Check("guest", "create-vm", "guest runs", ("svm_vcpu_run",), guest_runs, "create-vm"),
    Check(
        "nested",
        "create-vm",
        "guest in a guest",
        ("nested_svm_vmrun",),
        _nested_svm,
        "guest",
        applies=_is_nested,
        about_svm=True,
    ),
    Check("release", "create-vm", "SVME released", _DISABLE, svme_released, "svme", is_left_set, about_svm=True),
    Check("left-behind", "create-vm", "nothing left", ("kvm_destroy_vm",), nothing_left, applies=_is_counted),
    Check("observers", None, "observers agree", ("tracefs",), _observers, applies=_is_traced, about_svm=True),
    Check("watched", None, "watched command", ("ptrace",), _watched_command, applies=_is_watched),
)
