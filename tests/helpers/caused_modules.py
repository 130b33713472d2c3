"""Evidence of each cause in modprobe's files and configuration."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    DOCKER,
    NOT_FOUND,
    NOT_PERMITTED,
    Caused,
    all_of,
    attempt,
    built_in_refused,
    command_line,
    line,
    lockdown,
    module,
    module_files,
    refused,
)
from tests.helpers.evidence_changes import log
from tests.helpers.variants import (
    no_kvm_amd,
)

CAUSED_MODULES: Caused = (
    ("modules-of-the-host", BASE, all_of(no_kvm_amd, DOCKER), "kvm-amd-not-loaded", ("On the host", "docker")),
    (
        "modules-gone",
        BASE,
        all_of(no_kvm_amd, module_files(folder=False, index=None, kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("6.1.0-50-amd64 does not exist", "`systemctl reboot`"),
    ),
    (
        "modules-gone",
        BASE,
        all_of(
            attempt(NOT_FOUND.format("kvm_amd")),
            lambda e: e["loads"].append(
                {"module": "msr", "status": 1, "output": NOT_FOUND.format("msr"), "unloaded": None}
            ),
        ),
        "kvm-amd-load-failed",
        ("`systemctl reboot`",),
    ),
    (
        "module-index-missing",
        BASE,
        all_of(no_kvm_amd, module_files(index=False, kvm_amd=None)),
        "kvm-amd-not-loaded",
        ("`depmod -a`",),
    ),
    (
        "module-not-installed",
        BASE,
        all_of(attempt(NOT_FOUND.format("kvm_amd")), module_files(kvm_amd=None)),
        "kvm-amd-load-failed",
        ("linux-modules-extra",),
    ),
    (
        "module-not-installed",
        BASE,
        attempt(NOT_FOUND.format("kvm_amd")),
        "kvm-amd-load-failed",
        ("linux-modules-extra",),
    ),
    (
        "kernel-without-modules",
        BASE,
        attempt("this kernel has no loadable modules: there is no /proc/modules", None),
        "kvm-amd-not-loaded",
        ("CONFIG_KVM_AMD",),
    ),
    (
        "modprobe-hangs",
        BASE,
        attempt("modprobe did not end within 120 s", None),
        "kvm-amd-not-loaded",
        ("Reboot, which alone ends it: `systemctl reboot`",),
    ),
    ("modprobe-missing", BASE, attempt("there is no modprobe in /sbin", None), "kvm-amd-not-loaded", ("install kmod",)),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm"), log("kvm: already loaded the other module")),
        "kvm-amd-load-failed",
        ("`modprobe -r kvm_pvm`",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm")),
        "kvm-amd-not-loaded",
        ("`modprobe -r kvm_pvm`",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(attempt("", 0), module("kvm_pvm", refcount=2), log("kvm: already loaded vendor module 'kvm_pvm'")),
        "kvm-amd-load-failed",
        ("End its VMs first",),
    ),
    (
        "other-vendor-module",
        BASE,
        all_of(
            built_in_refused("kvm: already loaded vendor module 'kvm_intel'"),
            module("kvm_intel", state="builtin", refcount=None),
        ),
        "kvm-device-missing",
        ("boot a kernel that has",),
    ),
    (
        "install-line",
        BASE,
        all_of(
            attempt("", 0),
            module_files(
                lines=[line("install kvm_amd /bin/true")], would_run={"status": 0, "output": "install /bin/true"}
            ),
        ),
        "kvm-amd-not-loaded",
        ("sed -i '3s/\\^/# /' /etc/modprobe.d/local.conf", "modprobe -n -v kvm_amd: install /bin/true"),
    ),
    (
        "install-line",
        BASE,
        attempt(
            "modprobe: ERROR: Error running install command '/bin/false' for module kvm_amd: retcode 1\n"
            "modprobe: ERROR: could not insert 'kvm_amd': Invalid argument"
        ),
        "kvm-amd-load-failed",
        ("Remove this install line",),
    ),
    (
        "install-line",
        BASE,
        all_of(
            attempt("Unknown symbol in module, or unknown parameter (see dmesg)"),
            module_files(lines=[line("install kvm /bin/true")]),
            log("kvm_amd: Unknown symbol kvm_x86_vendor_exit (err -2)"),
        ),
        "kvm-amd-load-failed",
        ("local.conf:3: install kvm /bin/true",),
    ),
    (
        "module-blacklisted",
        BASE,
        all_of(no_kvm_amd, command_line("module_blacklist=nouveau,kvm-amd")),
        "kvm-amd-not-loaded",
        ("Remove module_blacklist=nouveau,kvm-amd from", "reboot"),
    ),
    (
        "module-blacklisted",
        BASE,
        refused("Module kvm is blacklisted", answer=NOT_PERMITTED),
        "kvm-amd-load-failed",
        ("module_blacklist=", "Module kvm is blacklisted"),
    ),
    (
        "module-mismatch",
        BASE,
        refused("kvm_amd: disagrees about version of symbol kvm_init", answer="Invalid argument"),
        "kvm-amd-load-failed",
        ("--reinstall", "`depmod -a`"),
    ),
    (
        "module-mismatch",
        BASE,
        all_of(
            refused(
                "kvm_amd: Unknown symbol kvm_x86_vendor_init (err -2)",
                answer="Unknown symbol in module, or unknown parameter (see dmesg)",
            ),
            module("kvm"),
        ),
        "kvm-amd-load-failed",
        ("`modprobe -r kvm`",),
    ),
    ("module-mismatch", BASE, attempt("Exec format error"), "kvm-amd-load-failed", ("--reinstall",)),
    (
        "parameter-invalid",
        BASE,
        all_of(
            refused("kvm_amd: `maybe' invalid for parameter `nested'", answer="Invalid argument"),
            module_files(lines=[line("options kvm_amd nested=maybe")]),
        ),
        "kvm-amd-load-failed",
        ("local.conf:3: options kvm_amd nested=maybe", "line 3 of /etc/modprobe.d/local.conf"),
    ),
    (
        "parameter-invalid",
        BASE,
        refused("kvm: `2' invalid for parameter `enable_virt_at_load'", answer="Invalid argument"),
        "kvm-amd-load-failed",
        ("enable_virt_at_load= is set for kvm",),
    ),
    (
        "module-unsigned",
        BASE,
        all_of(
            refused(
                "Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7",
                answer=NOT_PERMITTED,
            ),
            lockdown("integrity"),
        ),
        "kvm-amd-load-failed",
        ("signed modules", "Secure Boot"),
    ),
    (
        "module-unsigned",
        BASE,
        refused("Loading of unsigned module is rejected", answer="Key was rejected by service"),
        "kvm-amd-load-failed",
        ("mokutil",),
    ),
)
