"""The table of checks: the kernel's own order, and the tree in which people read them."""

from __future__ import annotations

from kvmprobe.judge import access, soaked, support, watched, witnesses
from kvmprobe.judge import virtualization as witness
from kvmprobe.judge.check import Check

_SUPPORTED = "__kvm_is_svm_supported"
_ENABLE = "svm_enable_virtualization_cpu"
_DISABLE = "svm_disable_virtualization_cpu"
_COMPAT = "svm_check_processor_compat"

CHECKS = (
    # first, so that a failure among many cycles decides, also where a single VM would say "not applicable"
    Check("cycles", None, "cycles", "soak", soaked.cycles, applies=soaked.done),
    Check("vendor", None, "vendor", "has_svm", support.vendor, since_at_load=_SUPPORTED),
    Check("extended-leaf", "vendor", "extended leaves", "has_svm", support.extended_leaf, since_at_load=_SUPPORTED),
    Check("svm-bit", "vendor", "SVM bit", "has_svm", support.svm_bit, since_at_load=_SUPPORTED),
    Check("cpuinfo-flag", "svm-bit", "svm flag", "/proc/cpuinfo", support.hidden_flag),
    Check("sev-guest", "vendor", "memory encryption", "has_svm", support.sev_guest, since_at_load=_SUPPORTED),
    Check("firmware", None, "firmware", "is_disabled", support.firmware, "svm-bit", since_at_load=_SUPPORTED),
    Check("cpus-agree", None, "all CPUs alike", "each CPU", support.cpus_agree, since_at_load=_COMPAT),
    Check("kvm-amd", None, "module kvm_amd", "svm_init", access.module, "firmware"),
    Check("kvm-device", "kvm-amd", "/dev/kvm", "kvm_init", access.device, "kvm-amd", access.tried),
    Check("api-version", "kvm-device", "API version", "kvm_dev_ioctl", access.api_version, "kvm-device"),
    Check("create-vm", "kvm-device", "KVM_CREATE_VM", "kvm_dev_ioctl", access.create_vm, "api-version"),
    Check("svme", "create-vm", "SVME set", "svm_hardware_enable", witness.svme, "create-vm", since_at_load=_ENABLE),
    Check("guest", "create-vm", "guest runs", "svm_vcpu_run", witness.guest, "create-vm"),
    Check("release", "create-vm", "SVME back", "svm_hardware_disable", witness.release, "svme", since_at_load=_DISABLE),
    Check("witnesses", None, "witnesses agree", "tracefs", witnesses.agree, applies=witnesses.traced),
    Check("watched", None, "the watched command", "ptrace", watched.watched, applies=watched.applies),
)
