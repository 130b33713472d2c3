"""Near misses of causes in evidence of containers, virtual machines and machines of public reports."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    DOCKER,
    NOT_PERMITTED,
    OPEN_EACCES,
    all_of,
    attempt,
    bare_metal,
    built_in_refused,
    command_line,
    firmware,
    line,
    module,
    module_files,
    refused,
    release,
    surroundings,
    unread,
)
from tests.helpers.evidence_changes import kvm_amd, log, no_flag, under, without_module
from tests.helpers.near_changes import NO_NODE, UNKNOWN, USER, Near, loads, near, no_modules, node
from tests.helpers.variants import lacks_svm, no_kvm_amd, no_vm, set_everywhere, without_cpuid

_QEMU = surroundings(vendor="QEMU", product="Standard PC (i440FX + PIIX, 1996)")
_SYMBOL = "Unknown symbol in module, or unknown parameter (see dmesg)"
_CCP_LINE = module_files(lines=[line("install ccp /bin/true")])
_NOT_AVAILABLE = "kvm_amd: SVM not supported by CPU 3, svm not available"

_SVMDIS = all_of(lambda e: no_vm(e, {"error": "EIO"}), lambda e: set_everywhere(e, "VM_CR", "0x18"))
_BUILT_IN = kvm_amd(state="builtin", refcount=None)
_BITS_UNREAD = all_of(no_kvm_amd, no_flag, USER, without_cpuid, unread("EACCES"))

MACHINES: Near = (
    *near(
        BASE,
        "firmware-disabled",
        ("SVMDIS since load, in a VM", _SVMDIS, "svm-disabled-by-hypervisor"),
        ("SVMDIS, kvm_amd built in", all_of(_SVMDIS, bare_metal, _BUILT_IN), "svm-disabled-locked"),
        (
            "SVMDIS, /sys/module unread",
            all_of(firmware("0x10"), no_modules),
            "svm-disabled-not-locked",
        ),
        (
            "SVMDIS on a machine of a maker of VMs",
            all_of(firmware("0x10"), surroundings(vendor="Microsoft Corporation", product="Surface Laptop 4")),
            "svm-disabled-not-locked",
        ),
        (
            "SVMDIS, DMI unread",
            all_of(firmware("0x10"), surroundings(vendor=UNKNOWN, product=UNKNOWN)),
            "svm-disabled-not-locked",
        ),
        (
            "no bit by the log, and SVMDIS by the log",
            all_of(_BITS_UNREAD, log("SVM disabled (by BIOS) in MSR_VM_CR", _NOT_AVAILABLE)),
            "svm-disabled-by-hypervisor",
        ),
    ),
    *near(
        BASE,
        "cpu-lacks-svm",
        (
            "QEMU's DMI under VMware",
            all_of(lacks_svm, under("VMwareVMware"), _QEMU),
            "vmware-guest-without-nested-svm",
        ),
        ("QEMU's DMI without KVM", all_of(lacks_svm, _QEMU), "qemu-without-svm"),
        (
            "Hyper-V by DMI",
            all_of(
                lacks_svm,
                under("Microsoft Hv"),
                surroundings(vendor="Microsoft Corporation", product="Virtual Machine"),
            ),
            "hyperv-guest-without-nested-svm",
        ),
        (
            "VMware hidden from CPUID",
            all_of(lacks_svm, bare_metal, surroundings(vendor="VMware, Inc.", product="VMware20,1")),
            "vm-without-nested-svm",
        ),
        (
            "isolation without encryption",
            all_of(lacks_svm, under("Microsoft Hv"), log("Hyper-V: Isolation Config: Group A 0x0, Group B 0xba1")),
            "hyperv-guest-without-nested-svm",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "unknown symbol of ccp, ccp loaded",
            all_of(
                refused("kvm_amd: Unknown symbol sev_platform_init (err -2)", answer=_SYMBOL), module("kvm", refcount=1)
            ),
            "module-mismatch",
        ),
        (
            "install line of ccp, ccp loaded",
            all_of(attempt(_SYMBOL), module("kvm", refcount=1), _CCP_LINE),
            "module-mismatch",
        ),
        (
            "ccp not loaded, unknown symbol of kvm",
            all_of(
                refused("kvm_amd: Unknown symbol kvm_x86_vendor_init (err -2)", answer=_SYMBOL),
                module("kvm", refcount=1),
                without_module("ccp"),
            ),
            "module-mismatch",
        ),
        (
            "another initcall blacklisted",
            all_of(attempt(NOT_PERMITTED), command_line("initcall_blacklist=sysfb_init")),
            "load-not-permitted",
        ),
        (
            "BTF of another module",
            refused("failed to validate module [nouveau] BTF: -22", answer="Invalid argument"),
            None,
        ),
        (
            "flag hidden, refused otherwise",
            all_of(refused("kvm: inadequate fpu"), no_flag),
            "fpu-inadequate",
        ),
    ),
    *near(
        BASE,
        "kvm-device-missing",
        ("kvm_amd going", all_of(built_in_refused(), module("kvm_amd", state="going", refcount=0)), None),
        ("WSL 2 without the node", all_of(NO_NODE, release("5.15.0-microsoft-standard-WSL2")), "node-missing"),
    ),
    *near(
        BASE,
        "kvm-not-permitted",
        ("group without a name of another owner", all_of(OPEN_EACCES, USER, node(group="nogroup")), "not-in-group"),
        ("owner nobody alone", all_of(OPEN_EACCES, USER, node(owner="nobody")), "not-in-group"),
        ("container of another kind", all_of(OPEN_EACCES, USER, surroundings(container="rkt")), "not-in-group"),
        (
            "device-for-root-only in a container",
            all_of(OPEN_EACCES, USER, DOCKER, node(mode="0600")),
            "device-for-root-only",
        ),
        (
            "denied another device",
            all_of(
                OPEN_EACCES, log('audit: type=1400 audit(1.1:1): apparmor="DENIED" operation="open" name="/dev/null"')
            ),
            "open-refused-by-policy",
        ),
    ),
    *near(
        BASE,
        "msr-unreadable",
        ("msr in vain, modules unknown", all_of(unread("ENOENT"), no_modules, loads(("msr", 0, ""))), None),
    ),
)
