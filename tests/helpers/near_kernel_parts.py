"""Near misses of causes about vendor modules, refusals of the kernel, the CPU, and owners of SVM.

A row differs from a case of the cause by one part of its question: the cause, its hint or what it quotes then differs.
"""

from __future__ import annotations

from tests.helpers.cause_changes import (
    AT_LOAD,
    BASE,
    Change,
    all_of,
    bare_metal,
    built_in_refused,
    command_line,
    hygon,
    module,
    refused,
    release,
    surroundings,
    svm_through_kvm,
    svme_lost,
)
from tests.helpers.evidence_changes import (
    create_answers,
    everywhere,
    leaf,
    leaf_unread,
    log,
    no_flag,
    under,
    users,
)
from tests.helpers.near_changes import (
    NO_NODE,
    OTHER_VENDOR,
    Near,
    at_load_y,
    cpu_family,
    loads,
    near,
    no_modules,
    vbox,
)
from tests.helpers.variants import Evidence, held_at_create, held_at_load, lacks_svm, no_device, no_kvm_amd, register

_OTHER_UNNAMED = "kvm: already loaded the other module"
_NO_NX = "kvm_amd: NX (Execute Disable) not supported"
_NO_SVM = "kvm_amd: SVM not supported by CPU 0"
_BUILT_IN = {"state": "builtin", "refcount": None}


def _cpus_unknown(evidence: Evidence) -> None:
    """Neither raw CPUID, nor /proc/cpuinfo, nor the list of CPUs could be read."""
    evidence["cpus"].update(online=None, online_at_end=None, cpuid={}, cpuinfo={"error": "EACCES"})


def _no_cpuinfo(evidence: Evidence) -> None:
    evidence["cpus"]["cpuinfo"] = {"error": "EACCES"}


def _no_hypervisor_flag(evidence: Evidence) -> None:
    for info in evidence["cpus"]["cpuinfo"].values():
        info["flags"].remove("hypervisor")


def _kvm(**fields: object) -> Change:
    return lambda evidence: evidence["modules"]["kvm"].update(fields)


# The kernel's log shows that there is no SVM bit, where raw CPUID does not.
_NO_BIT_BY_LOG = all_of(no_kvm_amd, no_flag, leaf_unread("0x80000001", "0", "1"), log("has_svm: svm not available"))

VENDOR: Near = (
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "two other vendors unnamed, one built in",
            all_of(refused(_OTHER_UNNAMED), module("kvm_intel", **_BUILT_IN), module("kvm_pvm")),
            "other-vendor-module",
        ),
        (
            "other vendor unnamed, built in",
            all_of(refused(_OTHER_UNNAMED), module("kvm_intel", **_BUILT_IN)),
            "other-vendor-module",
        ),
        (
            "two other vendors, the second one named",
            all_of(refused(OTHER_VENDOR), module("kvm_intel"), module("kvm_pvm")),
            "other-vendor-module",
        ),
        (
            "other vendor, references unknown",
            all_of(refused(OTHER_VENDOR), module("kvm_pvm", refcount=None)),
            "other-vendor-module",
        ),
        ("other vendor named and gone", refused(OTHER_VENDOR), None),
    ),
    *near(
        BASE,
        "kvm-device-missing",
        (
            "other vendor named, /sys/module unread",
            all_of(no_device, no_modules, log(OTHER_VENDOR)),
            "other-vendor-module",
        ),
        (
            "kvm_amd built in beside another vendor, no node",
            all_of(NO_NODE, module("kvm_amd", **_BUILT_IN), module("kvm_pvm"), loads(("kvm_amd", 0, ""))),
            "node-missing",
        ),
        (
            "other vendor named, kvm_amd built in",
            all_of(built_in_refused(OTHER_VENDOR), module("kvm_pvm")),
            "other-vendor-module",
        ),
    ),
)

KERNEL: Near = (
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "another feature cleared at boot",
            all_of(refused("Clearing CPUID bits: umip", _NO_SVM), no_flag),
            "svm-hidden-by-kernel",
        ),
        (
            "NX cleared after another",
            all_of(refused(_NO_NX), command_line("clearcpuid=umip", "clearcpuid=nx")),
            "no-nx",
        ),
        ("clearcpuid, CPUs unknown", all_of(refused("Clearing CPUID bits: svm"), _cpus_unknown), None),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("hidden, nothing refused", all_of(no_kvm_amd, no_flag), "svm-hidden-by-kernel"),
        ("Hygon, nothing refused", all_of(no_kvm_amd, hygon), None),
    ),
    *near(
        BASE,
        "kvm-device-missing",
        (
            "hidden since boot, SVMDIS set and a VM created",
            all_of(
                lambda e: e["device"].update(opened={"error": "ENODEV"}),
                everywhere("VM_CR", "0x10"),
                no_flag,
                log("SVM disabled (by BIOS) in MSR_VM_CR"),
            ),
            "svm-hidden-by-kernel",
        ),
    ),
)

CPU: Near = (
    *near(
        BASE,
        "svme-not-set",
        ("svme lost, hypervisor by CPUID alone", all_of(svme_lost, _no_hypervisor_flag), "hypervisor-loses-svme"),
    ),
    *near(
        BASE,
        "cpu-lacks-svm",
        (
            "family of cpu1 alone",
            all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0"), cpu_family(None)),
            "svm-filtered-on-bare-metal",
        ),
        ("family 6 with an extended family", all_of(lacks_svm, bare_metal, leaf("0x1", 0, "0x10006a0")), "cpu-too-old"),
        (
            "family of no ASCII digits",
            all_of(lacks_svm, bare_metal, leaf_unread("0x1", "0", "1"), cpu_family("\u00b2")),
            None,
        ),
        (
            "Azure, SVM bit by the log alone",
            all_of(_NO_BIT_BY_LOG, under("Microsoft Hv"), release("6.8.0-1019-azure")),
            "azure-size-without-nested-svm",
        ),
        ("QEMU, SVM bit by the log alone", _NO_BIT_BY_LOG, "qemu-without-svm"),
        ("family and /proc/cpuinfo unread", all_of(lacks_svm, leaf_unread("0x1", "0", "1"), _no_cpuinfo), None),
    ),
)

OWNER: Near = (
    *near(
        BASE,
        "svm-held-by-another-owner",
        (
            "boot loader of no ASCII digits",
            all_of(held_at_create, surroundings(bootloader_type="\u00b2")),
            "svm-owner-not-found",
        ),
    ),
    *near(
        AT_LOAD,
        "svm-held-by-another-owner",
        (
            "vboxdrv without VMs at load",
            all_of(held_at_load, vbox(version="7.2.8 r168000"), at_load_y),
            "virtualbox-loaded",
        ),
        (
            "VirtualBox before 7.2.10 on Linux 6.16",
            all_of(held_at_load, release("6.16.0-generic"), vbox(refcount=1, version="7.2.9 r168500"), at_load_y),
            "virtualbox-vms-running",
        ),
        (
            "VirtualBox 7.2.10 on a release of two numbers",
            all_of(held_at_load, release("6.16-amd64"), vbox(refcount=1, version="7.2.10 r169000"), at_load_y),
            "virtualbox-vms-running",
        ),
        (
            "VirtualBox of a version without a number, Linux 6.16",
            all_of(held_at_load, release("6.16-amd64"), vbox(refcount=1, version="trunk"), at_load_y),
            "virtualbox-vms-running",
        ),
    ),
    *near(
        AT_LOAD,
        "svme-owner-unknown",
        (
            "kvm used by a module that is no vendor's",
            all_of(svm_through_kvm, _kvm(holders=["kvm_amd", "holder"])),
            "svm-held-through-kvm",
        ),
    ),
    *near(
        AT_LOAD,
        "interfered",
        (
            "kvm with users, SVME set on cpu1 alone",
            all_of(svm_through_kvm, register("before", "EFER", "0xd01", "0"), users("qemu")),
            "svm-held-through-kvm",
        ),
    ),
    *near(
        BASE,
        "vm-not-created",
        ("kvm with users, SVME 0, no VM", all_of(create_answers(None), _kvm(refcount=9)), None),
    ),
)

NEAR_KERNEL_PARTS: Near = (*VENDOR, *KERNEL, *CPU, *OWNER)
