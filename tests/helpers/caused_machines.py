"""Evidence as machines and virtual machines in public reports would give it: each of a kind that other rows lack."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    NO_OPTION,
    NOT_PERMITTED,
    Caused,
    all_of,
    attempt,
    bare_metal,
    built_in_refused,
    command_line,
    firmware,
    line,
    module,
    module_files,
    msr_attempt,
    refused,
    release,
    surroundings,
    unread,
    user,
)
from tests.helpers.evidence_changes import log, machine, no_flag, under, without_module
from tests.helpers.near_changes import NO_NODE, loads
from tests.helpers.variants import Evidence, lacks_svm, no_device, no_kvm_amd, no_vm, set_everywhere, without_cpuid

_QEMU = surroundings(vendor="QEMU", product="Standard PC (Q35 + ICH9, 2009)")
_WSL2 = release("6.6.36.3-microsoft-standard-WSL2")
_UNKNOWN_SYMBOL = "Unknown symbol in module, or unknown parameter (see dmesg)"


def _without_ccp(evidence: Evidence) -> None:
    module("kvm")(evidence)
    evidence["modules"].pop("ccp", None)


def _svmdis_since_load(evidence: Evidence) -> None:
    """kvm_amd is loaded, and a resume from suspend set SVMDIS."""
    bare_metal(evidence)
    no_vm(evidence, {"error": "EIO"})
    set_everywhere(evidence, "VM_CR", "0x18")


def _ordinary_user(evidence: Evidence) -> None:
    user(1000)(evidence)
    without_cpuid(evidence)
    unread("EACCES")(evidence)


MACHINES: Caused = (
    (
        "svm-disabled-since-load",
        BASE,
        _svmdis_since_load,
        "firmware-disabled",
        ("off and on.*SVM Mode", "kvm_amd: live"),
    ),
    (
        "kvm-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, under("Microsoft Hv"), _QEMU),
        "cpu-lacks-svm",
        ("host-passthrough", "hypervisor = Microsoft Hv", "id: QEMU Standard PC"),
    ),
    (
        "kvm-guest-without-nested-svm",
        BASE,
        all_of(lacks_svm, bare_metal, _QEMU),
        "cpu-lacks-svm",
        ("host-passthrough", "id: QEMU Standard PC"),
    ),
    (
        "svm-disabled-by-hypervisor",
        BASE,
        all_of(firmware("0x10"), _QEMU),
        "firmware-disabled",
        ("hypervisor outside", "id: QEMU Standard PC"),
    ),
    (
        "vm-without-nested-svm",
        BASE,
        all_of(
            no_kvm_amd,
            no_flag,
            _ordinary_user,
            release("6.5.0-44-generic"),
            log("kvm_amd: SVM not supported by CPU 3, svm not available"),
        ),
        "cpu-lacks-svm",
        ("hypervisor outside", "svm not available"),
    ),
    (
        "confidential-vm",
        BASE,
        all_of(lacks_svm, under("KVMKVMKVM"), log("SEV: Status: SEV SEV-ES SEV-SNP ")),
        "sev-guest",
        ("Status: SEV SEV-ES",),
    ),
    (
        "modules-gone",
        BASE,
        all_of(no_kvm_amd, under("Microsoft Hv"), _WSL2, module_files(folder=False, index=None, kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("`wsl --update`, `wsl --shutdown`",),
    ),
    (
        "module-not-installed",
        BASE,
        all_of(no_kvm_amd, under("Microsoft Hv"), _WSL2, module_files(kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("`wsl --update`, `wsl --shutdown`",),
    ),
    (
        "wsl1-without-kvm",
        BASE,
        all_of(NO_NODE, _ordinary_user, release("4.4.0-19041-Microsoft"), lambda e: e.update(modules=None)),
        "kvm-device-missing",
        ("`wsl --set-version NAME 2`",),
    ),
    (
        "install-line",
        BASE,
        all_of(attempt(_UNKNOWN_SYMBOL), _without_ccp, module_files(lines=[line("install ccp /bin/true")])),
        "kvm-amd-load-failed",
        ("sed -i '3s", "install ccp /bin/true"),
    ),
    (
        "install-line",
        BASE,
        all_of(refused("kvm_amd: Unknown symbol sev_platform_init (err -2)", answer=_UNKNOWN_SYMBOL), _without_ccp),
        "kvm-amd-load-failed",
        ("kvm or ccp", "Unknown symbol sev_platform_init"),
    ),
    (
        "module-mismatch",
        BASE,
        refused("failed to validate module [kvm] BTF: -22", answer="Invalid argument"),
        "kvm-amd-load-failed",
        ("--reinstall", "BTF: -22"),
    ),
    (
        "module-blacklisted",
        BASE,
        all_of(attempt(NOT_PERMITTED), command_line("initcall_blacklist=svm_init")),
        "kvm-amd-load-failed",
        ("Remove initcall_blacklist=svm_init",),
    ),
    (
        "module-blacklisted",
        BASE,
        all_of(built_in_refused(), command_line("initcall_blacklist=sysfb_init,svm_init")),
        "kvm-device-missing",
        ("Remove initcall_blacklist=sysfb_init,svm_init",),
    ),
    (
        "parameter-invalid",
        BASE,
        all_of(
            refused("kvm_amd: `1foo' invalid for parameter `nested'", answer="Invalid argument"),
            command_line("kvm-amd.nested=1foo"),
        ),
        "kvm-amd-load-failed",
        ("Remove kvm-amd.nested=1foo from the kernel's command line",),
    ),
    (
        "kvm-amd-still-starting",
        BASE,
        all_of(no_device, module("kvm_amd", state="coming", refcount=1)),
        "kvm-device-missing",
        ("still starting.*`dmesg -T`",),
    ),
    (
        "no-nx",
        BASE,
        all_of(refused("kvm_amd: NX (Execute Disable) not supported", answer=NO_OPTION), bare_metal, machine("i686")),
        "kvm-amd-load-failed",
        ("CONFIG_X86_PAE", "machine = i686"),
    ),
    (
        "five-level-paging",
        BASE,
        all_of(built_in_refused("SVM: KVM doesn't yet support 5-level paging on AMD SVM"), no_flag),
        "kvm-device-missing",
        ("no5lvl",),
    ),
    (
        "msr-module-missing",
        BASE,
        all_of(
            unread("ENOENT"),
            without_module("msr"),
            msr_attempt("Error running install command '/bin/false' for module msr"),
        ),
        "msr-unreadable",
        ("install line of modprobe's.*`modprobe msr`",),
    ),
    (
        "msr-module-missing",
        BASE,
        all_of(unread("ENOENT"), without_module("msr"), loads(("msr", 0, ""))),
        "msr-unreadable",
        ("install line of modprobe's.*`modprobe msr`", "succeeded, but msr is not loaded"),
    ),
)
