"""Near misses of causes about the kernel's refusals, the vendor module in KVM's slot, and other owners of SVM."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    AT_LOAD,
    BASE,
    all_of,
    bare_metal,
    built_in_refused,
    command_line,
    ioctl,
    module,
    refused,
    surroundings,
    svm_through_kvm,
)
from tests.helpers.evidence_changes import at_load, everywhere, leaf_unread, log, no_flag, no_uevents, without_flags
from tests.helpers.near_changes import (
    OTHER_VENDOR,
    UNKNOWN,
    Near,
    at_load_y,
    near,
    no_modules,
    node,
    vbox,
)
from tests.helpers.variants import (
    held_at_create,
    held_at_load,
    no_kvm_amd,
    register,
    set_everywhere,
)

VENDOR: Near = (
    *near(
        BASE,
        "svm-held-by-another-owner",
        (
            "other vendor, kvm_amd loaded",
            all_of(held_at_create, module("kvm_pvm"), log(OTHER_VENDOR)),
            "svm-owner-not-found",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("other vendor unnamed and gone", refused("kvm: already loaded the other module"), "other-vendor-module"),
        (
            "two other vendors unnamed",
            all_of(refused("kvm: already loaded the other module"), module("kvm_intel"), module("kvm_pvm")),
            "other-vendor-module",
        ),
        (
            "other vendor, kvm_amd refused otherwise",
            all_of(refused("kvm: inadequate fpu"), module("kvm_pvm")),
            "fpu-inadequate",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "other vendor answers, nothing tried",
            all_of(no_kvm_amd, module("kvm_pvm"), node(registered=True)),
            "other-vendor-module",
        ),
        ("other vendor, not registered, nothing tried", all_of(no_kvm_amd, module("kvm_pvm")), None),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "other vendor used by its holders",
            all_of(refused(OTHER_VENDOR), module("kvm_pvm", refcount=1, holders=["x"])),
            "other-vendor-module",
        ),
        (
            "other vendor with one VM",
            all_of(refused(OTHER_VENDOR), module("kvm_pvm", refcount=1)),
            "other-vendor-module",
        ),
        (
            "other vendor built in",
            all_of(refused(OTHER_VENDOR), module("kvm_pvm", state="builtin", refcount=None)),
            "other-vendor-module",
        ),
        (
            "other vendor by kvm's holders",
            all_of(refused("kvm: already loaded the other module"), module("kvm", holders=["other_hv"])),
            "other-vendor-module",
        ),
    ),
)

KERNEL: Near = (
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("clearcpuid, flag there", refused("Clearing CPUID bits: svm", "has_svm: svm not available"), None),
        (
            "clearcpuid=6:2",
            all_of(refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx,6:2"), no_flag),
            "svm-cleared-by-clearcpuid",
        ),
        (
            "clearcpuid after another",
            all_of(
                refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx", "clearcpuid=svm"), no_flag
            ),
            "svm-cleared-by-clearcpuid",
        ),
        (
            "clearcpuid of another",
            all_of(refused("kvm_amd: SVM not supported by CPU 0"), command_line("clearcpuid=nx"), no_flag),
            "svm-hidden-by-kernel",
        ),
        (
            "clearcpuid, flags of cpu1 unread",
            all_of(refused("Clearing CPUID bits: svm"), no_flag, without_flags("1")),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "clearcpuid, nothing refused",
            all_of(no_kvm_amd, command_line("clearcpuid=svm", "clearcpuid=194"), no_flag),
            "svm-cleared-by-clearcpuid",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "clearcpuid, SVM bit unread",
            all_of(
                refused("Clearing CPUID bits: 6:2", "kvm_amd: SVM not supported by CPU 0"),
                no_flag,
                leaf_unread("0x80000001", "0", "1"),
            ),
            "svm-cleared-by-clearcpuid",
        ),
        (
            "hidden since boot, flag there",
            refused("SVM disabled (by BIOS) in MSR_VM_CR", "kvm_amd: SVM not supported by CPU 1"),
            None,
        ),
        (
            "hidden since boot, VM_CR unread on cpu1",
            all_of(
                refused("SVM disabled (by BIOS) in MSR_VM_CR", "kvm_amd: SVM not supported by CPU 1"),
                no_flag,
                register("before", "VM_CR", {"error": "EIO"}, "1"),
            ),
            "svm-hidden-by-kernel",
        ),
        (
            "hidden, SVM bit unread on cpu1",
            all_of(refused("kvm_amd: SVM not supported by CPU 0"), no_flag, leaf_unread("0x80000001", "1")),
            None,
        ),
        (
            "NX off by noexec",
            all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("noexec=off")),
            "no-nx",
        ),
        (
            "NX off by noexec32",
            all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("noexec32=off")),
            "no-nx",
        ),
        (
            "NX cleared by number",
            all_of(refused("kvm_amd: NX (Execute Disable) not supported"), command_line("clearcpuid=52")),
            "no-nx",
        ),
        (
            "NX cleared by word",
            all_of(refused("Clearing CPUID bits: 1:20", "kvm_amd: NX (Execute Disable) not supported")),
            "no-nx",
        ),
        ("not amd, AMD", refused("has_svm: not amd"), None),
        (
            "FPU off",
            all_of(refused("kvm: inadequate fpu"), command_line("nofxsr", "no387", "clearcpuid=fxsr"), bare_metal),
            "fpu-inadequate",
        ),
        ("FPU cleared", all_of(refused("kvm: inadequate fpu"), command_line("clearcpuid=fpu")), "fpu-inadequate"),
        (
            "two refusals",
            refused("kvm_amd: NX (Execute Disable) not supported", "kvm: inadequate fpu"),
            "fpu-inadequate",
        ),
        (
            "five levels on bare metal",
            all_of(refused("SVM: KVM doesn't yet support 5-level paging on AMD SVM"), bare_metal),
            "five-level-paging",
        ),
    ),
    *near(
        AT_LOAD,
        "kvm-amd-load-failed",
        (
            "held at load, EFER unread on cpu1",
            all_of(
                refused("kvm: enabling virtualization on CPU1 failed", answer="Device or resource busy"),
                register("before", "EFER", {"error": "EIO"}, "1"),
                register("before", "EFER", "0xd01", "0"),
            ),
            "svm-held-at-load",
        ),
    ),
    *near(
        AT_LOAD,
        "kvm-device-missing",
        (
            "held at boot, built in",
            all_of(
                built_in_refused("kvm: enabling virtualization on CPU1 failed"),
                at_load("Y"),
                everywhere("EFER", "0xd01"),
            ),
            "built-in-kvm-amd-refused",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("held, another answer", refused("kvm: enabling virtualization on CPU1 failed"), None),
    ),
    *near(
        AT_LOAD,
        "kvm-amd-load-failed",
        (
            "held at boot, at load",
            all_of(
                no_kvm_amd,
                module("kvm", parameters={"enable_virt_at_load": "Y"}),
                log("kvm: enabling virtualization on CPU1 failed"),
                lambda e: set_everywhere(e, "EFER", "0xd01"),
            ),
            "svm-held-at-load",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("held at boot, not at load", all_of(no_kvm_amd, log("kvm: enabling virtualization on CPU1 failed")), None),
    ),
)

OWNER: Near = (
    *near(
        BASE,
        "svm-held-by-another-owner",
        ("vboxdrv built in", all_of(held_at_create, vbox(state="builtin", refcount=None)), "svm-owner-not-found"),
        ("vboxdrv, users not counted", all_of(held_at_create, vbox(refcount=None)), "virtualbox-loaded"),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("vboxdrv, nothing refused", all_of(no_kvm_amd, vbox(refcount=1)), None),
    ),
    *near(
        BASE,
        "create-vm-failed",
        (
            "vboxdrv with VMs, SVME 0, EBUSY",
            all_of(lambda e: ioctl("KVM_CREATE_VM", "EBUSY")(e), vbox(refcount=1)),
            "virtualbox-vms-running",
        ),
        ("vboxdrv with VMs, ENOMEM", all_of(ioctl("KVM_CREATE_VM", "EINVAL"), vbox(refcount=1)), None),
        ("vboxdrv without VMs, EBUSY", all_of(ioctl("KVM_CREATE_VM", "EBUSY"), vbox()), None),
    ),
    *near(
        AT_LOAD,
        "kvm-amd-load-failed",
        (
            "vboxdrv with VMs, held at load",
            all_of(
                refused("kvm: enabling virtualization on CPU1 failed", answer="Input/output error"),
                lambda e: set_everywhere(e, "EFER", "0xd01"),
                vbox(refcount=1),
            ),
            "virtualbox-vms-running",
        ),
    ),
    *near(
        AT_LOAD,
        "svm-held-by-another-owner",
        (
            "vboxdrv of unknown version",
            all_of(held_at_load, vbox(refcount=2, version=None), at_load_y),
            "virtualbox-vms-running",
        ),
        ("vmmon with VMs at load", all_of(held_at_load, module("vmmon", refcount=2), at_load_y), "vmware-vms-running"),
        ("vmmon without VMs at load", all_of(held_at_load, module("vmmon"), at_load_y), "vmware-loaded"),
    ),
    *near(
        BASE,
        "svm-held-by-another-owner",
        ("other boot loader", all_of(held_at_create, surroundings(bootloader_type="114")), "svm-owner-not-found"),
        (
            "boot loader is no number",
            all_of(held_at_create, surroundings(bootloader_type="kexec")),
            "svm-owner-not-found",
        ),
        ("boot loader unknown", all_of(held_at_create, surroundings(bootloader_type=UNKNOWN)), "svm-owner-not-found"),
        ("kexec of type 223", all_of(held_at_create, surroundings(bootloader_type="223")), "svm-left-on-before-kexec"),
        ("held, /sys/module unread", all_of(held_at_create, no_modules), None),
        ("held on bare metal", all_of(held_at_create, bare_metal), "svm-owner-not-found"),
    ),
    *near(
        AT_LOAD,
        "svme-owner-unknown",
        (
            "kvm without users",
            all_of(svm_through_kvm, lambda e: e["modules"]["kvm"].update(refcount=1), no_uevents),
            None,
        ),
        (
            "kvm built in",
            all_of(svm_through_kvm, lambda e: e["modules"]["kvm"].update(state="builtin", refcount=None, holders=[])),
            None,
        ),
    ),
    *near(
        BASE,
        "create-vm-failed",
        (
            "kvm with users, nothing set",
            lambda e: (e["modules"]["kvm"].update(refcount=9), ioctl("KVM_CREATE_VM", "EINVAL")(e))[0],
            None,
        ),
    ),
)
