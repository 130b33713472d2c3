"""The reasons of a guest in a guest (--nested), for the table in reasons.py."""

from __future__ import annotations

from kvmprobe.model.verdict_status import Reason

NESTED_GUEST_FAILED = Reason(
    "nested-guest-failed",
    "failed",
    "A guest in a guest was asked for (--nested), and KVM does not offer SVM to guests, or the guest in kvmprobe's "
    "guest did not compute and leave as it must. The other checks show whether SVM itself works.",
    "KVM_GET_SUPPORTED_CPUID has the SVM bit if kvm_amd.nested is 1. The outer guest sets EFER.SVME, writes "
    "VM_HSAVE_PA and executes VMRUN, which KVM carries out for it: nested_svm_vmrun() in "
    "arch/x86/kvm/svm/nested.c. The inner guest adds numbers, and leaves by VMMCALL and by HLT.",
    "'kvm_amd: Nested Virtualization enabled' (5.10: 'kvm: Nested Virtualization enabled') when kvm_amd was loaded "
    "with nested=1.",
    "Do not run VMs in VMs on this host. Install the newest kernel and microcode, and reboot. "
    "If that does not help, send this to your distribution or kvm@vger.kernel.org: "
    "`kvmprobe --nested -o report.json`.",
)

NESTED_GUEST_NOT_RUN = Reason(
    "nested-guest-not-run",
    "inconclusive",
    "A guest in a guest was asked for (--nested), and none ran to its end on any CPU; the report names why.",
    "It runs only where kvmprobe's own guest ran to its end on that CPU, and a run that comes to no end ends it.",
    "No line.",
    "Remove the obstacle that the report names: run `kvmprobe --nested` with root's rights, outside of containers, "
    "where it may use every online CPU.",
)
