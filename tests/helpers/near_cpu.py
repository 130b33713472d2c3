"""Near misses of causes about the CPU, the firmware, and the hypervisor below."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    all_of,
    bare_metal,
    firmware,
    guest_wrong,
    release,
    surroundings,
    svme_lost,
)
from tests.helpers.caused_cpu import CAUSED_CPU
from tests.helpers.evidence_changes import leaf, leaf_unread, log, no_flag, under, without_flags
from tests.helpers.near_changes import (
    UNKNOWN,
    Near,
    cpu_family,
    near,
)
from tests.helpers.variants import (
    lacks_svm,
    register,
    without_cpuid,
)

HYPERVISOR: Near = (
    *near(
        BASE,
        "svme-not-set",
        ("svme lost on bare metal", all_of(svme_lost, bare_metal), None),
        (
            "svme lost, VM_HSAVE_PA 0",
            all_of(svme_lost, register("created", "VM_HSAVE_PA", "0x0")),
            "hypervisor-loses-svme",
        ),
        (
            "svme lost, VM_HSAVE_PA unread on cpu1",
            all_of(svme_lost, register("created", "VM_HSAVE_PA", UNKNOWN, "1")),
            "hypervisor-loses-svme",
        ),
        ("svme lost on cpu1", all_of(register("created", "EFER", "0xd01", "1")), "hypervisor-loses-svme"),
        (
            "write of another register refused",
            all_of(svme_lost, bare_metal, log("unchecked MSR access error: WRMSR to 0xc00000801")),
            None,
        ),
    ),
    *near(
        BASE,
        "guest-failed",
        ("guest wrong on bare metal", all_of(guest_wrong, bare_metal), None),
    ),
    *near(
        BASE,
        "svme-not-set",
        ("svme lost, raw CPUID unread", all_of(svme_lost, without_cpuid), "hypervisor-loses-svme"),
        ("svme lost, raw CPUID and flags unread", all_of(svme_lost, without_cpuid, without_flags("0", "1")), None),
        (
            "svme lost, /proc/cpuinfo without cpu0",
            all_of(svme_lost, without_cpuid, lambda e: e["cpus"]["cpuinfo"].pop("0")),
            "hypervisor-loses-svme",
        ),
        (
            "svme lost, flags of cpu0 unread",
            all_of(svme_lost, without_cpuid, without_flags("0")),
            "hypervisor-loses-svme",
        ),
    ),
)

CPU: Near = (
    *near(
        BASE,
        "firmware-disabled",
        (
            "locked, SVML on cpu1 alone",
            all_of(firmware("0x18", "0x1"), leaf("0x8000000a", 3, "0x5", "1")),
            "svm-disabled-locked-key-possible",
        ),
        (
            "locked, VM_CR unread on cpu0",
            all_of(firmware("0x18"), register("before", "VM_CR", UNKNOWN, "0")),
            "svm-disabled-locked-key-possible",
        ),
        (
            "locked on cpu1 alone",
            all_of(firmware("0x18"), register("before", "VM_CR", "0x10", "0")),
            "svm-disabled-locked-key-possible",
        ),
        ("SVMDIS, no flag", all_of(firmware("0x18"), no_flag), "svm-disabled-locked-key-possible"),
        (
            "SVMDIS, no flag on cpu0",
            all_of(firmware("0x18"), lambda e: e["cpus"]["cpuinfo"]["0"]["flags"].remove("svm")),
            "svm-disabled-locked-key-possible",
        ),
        (
            "SVMDIS, no flag, flags of cpu1 unread",
            all_of(firmware("0x18"), no_flag, without_flags("1")),
            "svm-disabled-locked-key-possible",
        ),
        (
            "SVMDIS, no flag, SVM bit unread on cpu1",
            all_of(firmware("0x18"), no_flag, leaf_unread("0x80000001", "1")),
            "svm-disabled-locked-key-possible",
        ),
    ),
    *near(
        BASE,
        "sev-guest",
        (
            "paravisor of another hypervisor",
            all_of(lacks_svm, under("KVMKVMKVM"), log("Memory Encryption Features active: AMD SEV")),
            "confidential-vm",
        ),
        (
            "Hyper-V, CPUID shows SEV",
            all_of(
                lacks_svm,
                under("Microsoft Hv"),
                log("Memory Encryption Features active: AMD SEV"),
                leaf("0x80000000", 0, "0x8000001f"),
                leaf("0x8000001f", 0, "0x2"),
            ),
            "confidential-vm",
        ),
    ),
    *near(
        BASE,
        "cpu-lacks-svm",
        (
            "Xen dom0, features unknown",
            all_of(lacks_svm, under("XenVMMXenVMM"), surroundings(hypervisor_type="xen")),
            "xen-guest-without-nested-svm",
        ),
        (
            "Xen, no dom0 by features",
            all_of(lacks_svm, under("XenVMMXenVMM"), surroundings(hypervisor_type="xen", xen_features="00002705")),
            "xen-guest-without-nested-svm",
        ),
        (
            "features of dom0 without Xen",
            all_of(lacks_svm, under("KVMKVMKVM"), surroundings(xen_features="00002f05")),
            "kvm-guest-without-nested-svm",
        ),
        (
            "Xen by sysfs alone",
            all_of(lacks_svm, under("KVMKVMKVM"), surroundings(hypervisor_type="xen")),
            "xen-guest-without-nested-svm",
        ),
        (
            "no PGE without Xen",
            all_of(lacks_svm, under("KVMKVMKVM"), leaf("0x1", 3, "0x1789d3f5")),
            "kvm-guest-without-nested-svm",
        ),
        (
            "Xen, EDX unread",
            all_of(
                lacks_svm, surroundings(hypervisor_type="xen"), leaf_unread("0x1", "0", "1"), without_flags("0", "1")
            ),
            "xen-guest-without-nested-svm",
        ),
        (
            "WSL by lower case",
            all_of(lacks_svm, under("Microsoft Hv"), release("5.15.0-wsl2")),
            "wsl2-without-nested-svm",
        ),
        (
            "Azure's kernel under KVM",
            all_of(lacks_svm, under("KVMKVMKVM"), release("6.8.0-1019-azure")),
            "kvm-guest-without-nested-svm",
        ),
    ),
    *(
        (
            f"cloud {name}",
            BASE,
            all_of(lacks_svm, under("KVMKVMKVM"), surroundings(vendor=name, product="x")),
            "cpu-lacks-svm",
            "cloud-instance-without-nested-svm",
        )
        for name in "Google OpenStack Alibaba Tencent DigitalOcean Hetzner Vultr Oracle OVH".split()
    ),
    *(
        (
            f"cloud kernel {name}",
            BASE,
            all_of(lacks_svm, under("KVMKVMKVM"), release(f"6.1.0-28-{name}")),
            "cpu-lacks-svm",
            "cloud-instance-without-nested-svm",
        )
        for name in "aws gcp gke oracle cloud".split()
    ),
    *near(
        BASE,
        "cpu-lacks-svm",
        (
            "cloud's kernel on bare metal",
            all_of(lacks_svm, bare_metal, release("6.8.0-1019-aws")),
            "svm-filtered-on-bare-metal",
        ),
        (
            "cloud by product, vendor unknown",
            all_of(lacks_svm, under("KVMKVMKVM"), surroundings(vendor=UNKNOWN, product="Google Compute Engine")),
            "cloud-instance-without-nested-svm",
        ),
        (
            "VM by /proc/cpuinfo alone",
            all_of(lacks_svm, leaf_unread("0x1", "0", "1"), leaf_unread("0x40000000", "0", "1")),
            "vm-without-nested-svm",
        ),
        ("unknown whether a VM", all_of(lacks_svm, leaf_unread("0x1", "0", "1"), without_flags("0", "1")), None),
        (
            "unknown whether a VM, old family",
            all_of(lacks_svm, leaf_unread("0x1", "0", "1"), without_flags("0", "1"), cpu_family("15")),
            None,
        ),
        ("family unread", all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0", "1")), "svm-filtered-on-bare-metal"),
        ("family unread on cpu0", all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0")), "svm-filtered-on-bare-metal"),
        ("family 0x10", all_of(lacks_svm, bare_metal, leaf("0x1", 0, "0x100f42")), "svm-filtered-on-bare-metal"),
        ("family 6", all_of(lacks_svm, bare_metal, leaf("0x1", 0, "0x6a0")), "cpu-too-old"),
        ("family unknown", all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0", "1"), cpu_family(None)), None),
        ("family no number", all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0", "1"), cpu_family("x")), None),
    ),
)

_NO_SVM = log("kvm_amd: SVM not supported by CPU 0", "kvm_amd: SVM not supported by CPU 1", "kvm: inadequate fpu")

_UNNAMED = leaf_unread("0x40000000", "0", "1")

# The last line of the kernel that finds no SVM is quoted with each of these causes.
LOGGED: Near = tuple(
    (f"{number} {cause}, logged twice", base, all_of(change, _NO_SVM), reason, cause)
    for number, (cause, base, change, reason, _) in enumerate(CAUSED_CPU)
    if reason == "cpu-lacks-svm"
)

# A hypervisor that CPUID does not name is quoted from /proc/cpuinfo.
UNNAMED: Near = (
    *near(
        BASE,
        "cpu-lacks-svm",
        (
            "Xen dom0, hypervisor unnamed",
            all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen", xen_features="00002f05")),
            "xen-dom0",
        ),
        (
            "Xen PV domain, hypervisor unnamed",
            all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen"), leaf("0x1", 3, "0x1789d3f5")),
            "xen-pv-domain",
        ),
        (
            "Xen guest, hypervisor unnamed",
            all_of(lacks_svm, _UNNAMED, surroundings(hypervisor_type="xen")),
            "xen-guest-without-nested-svm",
        ),
        ("WSL, hypervisor unnamed", all_of(lacks_svm, _UNNAMED, release("5.15.0-WSL2")), "wsl2-without-nested-svm"),
        (
            "cloud, hypervisor unnamed",
            all_of(lacks_svm, _UNNAMED, release("6.1.0-28-aws")),
            "cloud-instance-without-nested-svm",
        ),
    ),
)
