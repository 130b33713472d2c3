"""Evidence of the CPU, the firmware, the module and the device, changed.

One part of each compound condition of the judge is true and the others are false; CPUs differ in what is usually equal;
each entry of each list of names occurs; and so does everything that excuses a failure.
"""

from __future__ import annotations

from tests.helpers.evidence_changes import (
    CLEAR,
    SET,
    UNREAD,
    create_answers,
    device,
    everywhere,
    kvm_amd,
    leaf,
    leaf_unread,
    log,
    machine,
    modprobe,
    module,
    no_flag,
    registered,
    sev,
    under,
    user_of_kvm_pvm,
    vendor,
    without_flags,
    without_module,
)
from tests.helpers.variants import (
    BASE,
    Variant,
    create_fails,
    each,
    firmware_disabled,
    intel,
    lacks_svm,
    no_device,
    no_kvm_amd,
    no_vm,
    open_fails,
    register,
    through_kvm_pvm,
    without_cpuid,
    without_sysfs,
)

_SEV_LINE = "Memory Encryption Features active: AMD SEV"

CPU: tuple[Variant, ...] = (
    ("Hygon", BASE, vendor("HygonGenuine"), "svme-set-by-create-vm"),
    ("Centaur", BASE, each(no_kvm_amd, vendor("CentaurHauls")), "vendor-not-amd"),
    ("Intel on cpu1", BASE, each(no_kvm_amd, vendor("GenuineIntel", "1")), "cpus-disagree"),
    ("Intel on cpu1 against a VM", BASE, vendor("GenuineIntel", "1"), "svme-set-by-create-vm"),
    ("Hygon on cpu1", BASE, each(no_kvm_amd, vendor("HygonGenuine", "1")), "cpus-disagree"),
    ("Hygon on cpu1 against a VM", BASE, vendor("HygonGenuine", "1"), "svme-set-by-create-vm"),
    (
        "vendor unread on cpu1",
        BASE,
        each(without_cpuid, lambda e: e["cpus"]["cpuinfo"].pop("1")),
        "svme-set-by-create-vm",
    ),
    (
        "Intel, kvm_intel",
        BASE,
        each(through_kvm_pvm, vendor("GenuineIntel"), without_module("kvm_pvm"), module("kvm_intel")),
        "kvm-without-svm",
    ),
    (
        "Intel, KVM_CREATE_VM fails",
        BASE,
        each(through_kvm_pvm, vendor("GenuineIntel"), no_vm, create_answers({"error": "ENOMEM"})),
        "kvm-without-svm",
    ),
    ("Intel with the SVM bit", BASE, each(intel, leaf("0x80000001", 2, "0x5")), "vendor-not-amd"),
    ("machine aarch64", BASE, each(no_kvm_amd, machine("aarch64")), "vendor-not-amd"),
    *((f"machine {name}", BASE, machine(name), "svme-set-by-create-vm") for name in ("i686", "i586", "i386")),
    ("no leaf of the SVM bit", BASE, each(no_kvm_amd, leaf("0x80000000", 0, "0x80000000")), "cpu-lacks-svm"),
    ("low highest leaf on cpu1", BASE, leaf("0x80000000", 0, "0x80000009", "1"), "svme-set-by-create-vm"),
    ("highest leaf is that of SVM on cpu1", BASE, leaf("0x80000000", 0, "0x8000000a", "1"), "svme-set-by-create-vm"),
    ("highest leaf unread on cpu1", BASE, leaf_unread("0x80000000", "1"), "svme-set-by-create-vm"),
    ("SVML on cpu1", BASE, each(no_kvm_amd, leaf("0x8000000a", 3, "0x5", "1")), "cpus-disagree"),
    ("SVML on cpu1 against a VM", BASE, leaf("0x8000000a", 3, "0x5", "1"), "svme-set-by-create-vm"),
    ("SVM bit 0 on cpu1 against a VM", BASE, leaf("0x80000001", 2, "0x1", "1"), "svme-set-by-create-vm"),
    ("no SVM bit, SEV guest", BASE, each(lacks_svm, sev("0x1")), "sev-guest"),
    ("no SVM bit, no SEV guest", BASE, each(lacks_svm, sev("0x0")), "cpu-lacks-svm"),
    ("Hyper-V guest", BASE, under("Microsoft Hv"), "svme-set-by-create-vm"),
    ("hypervisor bit unread", BASE, leaf_unread("0x1", "0", "1"), "svme-set-by-create-vm"),
    (
        "raw CPUID unread, the log shows no SVM three times",
        BASE,
        each(no_kvm_amd, without_cpuid, no_flag, log(*(f"{n} has_svm: svm not available" for n in range(3)))),
        "cpu-lacks-svm",
    ),
    (
        "raw CPUID unread, the log shows no SVM, svm flag",
        BASE,
        each(no_kvm_amd, without_cpuid, log("has_svm: svm not available")),
        "kvm-amd-load-failed",
    ),
    (
        "raw CPUID unread, the log shows no SVM and SEV",
        BASE,
        each(no_kvm_amd, without_cpuid, no_flag, log(_SEV_LINE, "has_svm: svm not available")),
        "sev-guest",
    ),
    (
        "no CPU listed throughout",
        BASE,
        lambda e: e["cpus"].update(online="0", online_at_end="1"),
        "svme-set-by-create-vm",
    ),
    ("SEV guest against a VM", BASE, sev("0x3"), "svme-set-by-create-vm"),
    ("SEV_STATUS unread", BASE, each(no_kvm_amd, sev({"error": "EIO"})), "kvm-amd-not-loaded"),
    ("flags unread on cpu1", BASE, without_flags("1"), "svme-set-by-create-vm"),
    ("no svm flag", BASE, no_flag, "svme-set-by-create-vm"),
    ("no svm flag, raw CPUID unread", BASE, each(no_flag, without_cpuid), "svme-set-by-create-vm"),
)

FIRMWARE: tuple[Variant, ...] = (
    ("SVMDIS, not locked", BASE, each(firmware_disabled, everywhere("VM_CR", "0x10")), "firmware-disabled"),
    (
        "SVMDIS, not locked, SVML",
        BASE,
        each(firmware_disabled, everywhere("VM_CR", "0x10"), leaf("0x8000000a", 3, "0x4")),
        "firmware-disabled",
    ),
    ("SVMDIS, SVML unread", BASE, each(firmware_disabled, leaf_unread("0x8000000a", "0", "1")), "firmware-disabled"),
    (
        "SVMDIS, locked on cpu1 only",
        BASE,
        each(firmware_disabled, everywhere("VM_CR", "0x10", "0"), leaf("0x8000000a", 3, "0x4")),
        "firmware-disabled",
    ),
    (
        "SVMDIS, VM_CR unread on cpu1",
        BASE,
        each(firmware_disabled, everywhere("VM_CR", UNREAD, "1")),
        "firmware-disabled",
    ),
    (
        "VM_CR unread, two lines of the kernel about SVMDIS",
        BASE,
        each(no_kvm_amd, everywhere("VM_CR", UNREAD), log("kvm: disabled by bios", "kvm: support disabled by bios")),
        "firmware-disabled",
    ),
    ("SVMDIS against a VM", BASE, everywhere("VM_CR", "0x18"), "svme-set-by-create-vm"),
    ("SVMDIS on cpu1 against a VM", BASE, everywhere("VM_CR", "0x18", "1"), "svme-set-by-create-vm"),
    ("VM_CR unread on cpu1", BASE, everywhere("VM_CR", UNREAD, "1"), "svme-set-by-create-vm"),
    ("LOCK alone", BASE, everywhere("VM_CR", "0x8"), "svme-set-by-create-vm"),
)

MODULE: tuple[Variant, ...] = (
    (
        "not loaded, VM_CR unread on cpu1",
        BASE,
        each(no_kvm_amd, register("before", "VM_CR", {"error": "EPERM"}, "1")),
        "msr-unreadable",
    ),
    (
        "not loaded, VM_CR refused",
        BASE,
        each(no_kvm_amd, register("before", "VM_CR", UNREAD, "1")),
        "kvm-amd-not-loaded",
    ),
    (
        "not loaded, SVM bit unread on cpu1",
        BASE,
        each(no_kvm_amd, leaf_unread("0x80000001", "1")),
        "kvm-amd-not-loaded",
    ),
    (
        "not loaded, SVM bit and flags unread",
        BASE,
        each(no_kvm_amd, leaf_unread("0x80000001", "1"), without_flags("1")),
        "msr-unreadable",
    ),
    ("not loaded, raw CPUID unread", BASE, each(no_kvm_amd, without_cpuid), "kvm-amd-not-loaded"),
    ("not loaded, EFER unread", BASE, each(no_kvm_amd, register("before", "EFER", UNREAD)), "kvm-amd-not-loaded"),
    (
        "not loaded, vboxdrv, held",
        BASE,
        each(no_kvm_amd, register("before", "EFER", SET), module("vboxdrv")),
        "svm-held-by-another-owner",
    ),
    (
        "not loaded, kvm_intel, held",
        BASE,
        each(no_kvm_amd, register("before", "EFER", SET), module("kvm_intel")),
        "svm-held-by-another-owner",
    ),
    (
        "refused in two lines",
        BASE,
        modprobe(("msr", 0, ""), ("kvm_amd", 1, "modprobe: ERROR: one\n\n  modprobe: two\n")),
        "kvm-amd-load-failed",
    ),
    ("refused without a message", BASE, modprobe(("kvm_amd", 127, "")), "kvm-amd-load-failed"),
    ("modprobe not run", BASE, modprobe(("kvm_amd", None, "")), "kvm-amd-not-loaded"),
    ("only msr failed", BASE, modprobe(("msr", 1, "modprobe: FATAL: Module msr not found")), "kvm-amd-not-loaded"),
    ("kvm_amd without parameters", BASE, kvm_amd(parameters={}), "svme-set-by-create-vm"),
    (
        "kvm_amd's parameters unread",
        BASE,
        kvm_amd(parameters={"npt": {"error": "EACCES"}, "avic": "N"}),
        "svme-set-by-create-vm",
    ),
    (
        "VM without kvm_amd, EFER unread",
        BASE,
        each(without_module("kvm_amd"), everywhere("EFER", UNREAD)),
        "kvm-amd-not-loaded",
    ),
    ("VM without kvm_amd, SVME set", BASE, without_module("kvm_amd"), "svme-set-by-create-vm"),
)

DEVICE: tuple[Variant, ...] = (
    *(
        (f"open {error}", BASE, open_fails(error), "kvm-not-permitted")
        for error in ("EACCES", "ENFILE", "ENOMEM", "EINTR", "EAGAIN")
    ),
    ("open EISDIR", BASE, open_fails("EISDIR"), "kvm-device-missing"),
    ("open not tried", BASE, each(no_vm, device(opened=None)), "vm-not-created"),
    ("folder without a driver", BASE, each(no_device, device(type="folder")), "kvm-device-missing"),
    ("node without a driver", BASE, each(no_device, device(type="char")), "kvm-device-missing"),
    (
        "node without a driver, held",
        BASE,
        each(no_device, register("before", "EFER", SET, "1")),
        "svm-held-by-another-owner",
    ),
    ("device without a mode", BASE, device(mode=None, owner=None, group=None), "svme-set-by-create-vm"),
    ("open EACCES, no mode", BASE, each(open_fails("EACCES"), device(mode=None)), "kvm-not-permitted"),
    ("user, kvm_pvm", BASE, user_of_kvm_pvm, "kvm-not-permitted"),
    ("user, kvm_pvm, open EPERM", BASE, each(user_of_kvm_pvm, device(opened={"error": "EPERM"})), "kvm-not-permitted"),
    ("user, kvm_pvm, open EMFILE", BASE, each(user_of_kvm_pvm, device(opened={"error": "EMFILE"})), "kvm-without-svm"),
    ("user, kvm_pvm perhaps registered", BASE, each(user_of_kvm_pvm, registered(None)), "msr-unreadable"),
    (
        "user, kvm_pvm not registered",
        BASE,
        each(user_of_kvm_pvm, device(registered=False, opened=None)),
        "msr-unreadable",
    ),
    ("user, no /dev/kvm", BASE, each(user_of_kvm_pvm, device(opened={"error": "ENOENT"})), "kvm-device-missing"),
)

BACKEND: tuple[Variant, ...] = (
    ("kvm_pvm beside kvm_amd", BASE, each(through_kvm_pvm, module("kvm_amd")), "cpu-lacks-svm"),
    (
        "kvm_amd alone built in, no SVM bit",
        BASE,
        each(through_kvm_pvm, without_module("kvm_pvm"), module("kvm_amd", state="builtin")),
        "cpu-lacks-svm",
    ),
    (
        "kvm_pvm, SVM bit unread on cpu1",
        BASE,
        each(through_kvm_pvm, leaf_unread("0x80000001", "1"), without_flags("1")),
        "cpu-lacks-svm",
    ),
    ("kvm_pvm, modules unread", BASE, each(through_kvm_pvm, without_sysfs), "kvm-without-svm"),
    ("kvm_pvm, raw CPUID unread", BASE, each(through_kvm_pvm, without_cpuid), "kvm-without-svm"),
    ("kvm_pvm, no VM", BASE, each(through_kvm_pvm, create_fails("ENOMEM")), "kvm-without-svm"),
    (
        "a backend of another name",
        BASE,
        each(through_kvm_pvm, without_module("kvm_pvm"), lambda e: e["modules"]["kvm"].update(holders=["other_hv"])),
        "kvm-without-svm",
    ),
    ("no backend in /sys/module", BASE, each(through_kvm_pvm, without_module("kvm_pvm")), "kvm-without-svm"),
    (
        "kvm_pvm, EFER.SVME set at the end",
        BASE,
        each(through_kvm_pvm, register("closed", "EFER", SET)),
        "kvm-without-svm",
    ),
    (
        "kvm_pvm, EFER.SVME set before on cpu0 and at the end",
        BASE,
        each(
            through_kvm_pvm,
            everywhere("EFER", CLEAR),
            register("before", "EFER", SET, "0"),
            register("closed", "EFER", SET),
        ),
        "kvm-without-svm",
    ),
    ("kvm_pvm, EFER.SVME set", BASE, each(through_kvm_pvm, everywhere("EFER", SET)), "svme-owner-unknown"),
    (
        "kvm_pvm, EFER readable",
        BASE,
        each(through_kvm_pvm, everywhere("EFER", CLEAR), everywhere("VM_CR", "0x0")),
        "kvm-without-svm",
    ),
)

SUPPORT = (*CPU, *FIRMWARE, *MODULE, *DEVICE, *BACKEND)
