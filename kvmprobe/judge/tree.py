"""The table of checks: the kernel's own order, and the tree in which people read them."""

from __future__ import annotations

from kvmprobe.judge import access, support, virtualization
from kvmprobe.judge.result import Check

CHECKS = (
    Check("vendor", None, "vendor", "has_svm", support.vendor),
    Check("extended-leaf", "vendor", "extended leaves", "has_svm", support.extended_leaf),
    Check("sev-guest", "vendor", "memory encryption", "has_svm", support.sev_guest),
    Check("svm-bit", "vendor", "SVM bit", "has_svm", support.svm_bit),
    Check("cpuinfo-flag", "svm-bit", "svm flag", "/proc/cpuinfo", support.hidden_flag),
    Check("firmware", None, "firmware", "is_disabled", support.firmware, "svm-bit"),
    Check("cpus-agree", None, "all CPUs alike", "svm_check_processor_compat", support.cpus_agree),
    Check("kvm-amd", None, "module kvm_amd", "svm_init", access.module, "firmware"),
    Check("kvm-device", "kvm-amd", "/dev/kvm", "kvm_init", access.device, "kvm-amd", access.tried),
    Check("api-version", "kvm-device", "API version", "kvm_dev_ioctl", access.api_version, "kvm-device"),
    Check("create-vm", "kvm-device", "KVM_CREATE_VM", "kvm_dev_ioctl_create_vm", access.create_vm, "api-version"),
    Check("svme", "create-vm", "EFER.SVME set on every CPU", "svm_hardware_enable", virtualization.svme, "create-vm"),
    Check("guest", "create-vm", "guest runs", "svm_vcpu_run", virtualization.guest, "create-vm"),
    Check("release", "create-vm", "EFER.SVME given back", "svm_hardware_disable", virtualization.release, "svme"),
)
