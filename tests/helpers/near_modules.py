"""Near misses of causes about modules that are not there, or that modprobe's configuration keeps out."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    DOCKER,
    NO_OPTION,
    NOT_FOUND,
    all_of,
    attempt,
    command_line,
    line,
    module,
    module_files,
    refused,
    unread,
)
from tests.helpers.evidence_changes import log
from tests.helpers.near_changes import (
    USER,
    Near,
    loads,
    near,
    no_modules,
)
from tests.helpers.variants import (
    held_at_create,
    no_kvm_amd,
)

MODULES: Near = (
    *near(
        BASE,
        "msr-unreadable",
        ("container, kvm_amd unknown", all_of(no_modules, unread("ENOENT"), DOCKER), "container-without-msr"),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("folder of modules exists", all_of(no_kvm_amd, module_files()), None),
        ("folder of modules unknown", all_of(no_kvm_amd, module_files(folder=None, index=None)), None),
        ("index and kvm_amd unknown", all_of(no_kvm_amd, module_files(index=None, kvm_amd=None)), None),
        ("index unknown", all_of(no_kvm_amd, module_files(index=None)), None),
        ("kvm_amd not in the folder", all_of(no_kvm_amd, module_files(kvm_amd=None)), "module-not-installed"),
        ("only msr not found", all_of(no_kvm_amd, loads(("msr", 1, NOT_FOUND.format("msr")))), None),
        (
            "msr and cpuid not found",
            all_of(no_kvm_amd, loads(("msr", 1, NOT_FOUND.format("msr")), ("cpuid", 1, NOT_FOUND.format("cpuid")))),
            "modules-gone",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "msr and cpuid not found, kvm_amd refused",
            all_of(
                no_kvm_amd,
                loads(
                    ("msr", 1, NOT_FOUND.format("msr")),
                    ("cpuid", 1, NOT_FOUND.format("cpuid")),
                    ("kvm_amd", 1, NO_OPTION),
                ),
            ),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("modprobe killed", attempt("killed", None), None),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("no modprobe, with a status", attempt("modprobe: there is no modprobe", 2), None),
        ("no loadable modules, with a status", attempt("modprobe: no loadable modules", 2), None),
        ("did not end, with a status", attempt("modprobe: did not end", 2), None),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("permission denied to a user", all_of(attempt("Permission denied"), USER), "load-needs-root"),
        ("user, another answer", all_of(attempt(NO_OPTION), USER), None),
        ("user, modprobe not run", all_of(attempt("modprobe: Permission denied", None), USER), None),
        ("user, modprobe succeeded", all_of(attempt("modprobe: Operation not permitted", 0), USER), "install-line"),
        (
            "module_blacklist of another module",
            all_of(no_kvm_amd, command_line("module_blacklist=nouveau,kvm_intel")),
            None,
        ),
        ("module_blacklist of kvm", all_of(no_kvm_amd, command_line("module_blacklist=kvm")), "module-blacklisted"),
        (
            "module_blacklist twice",
            all_of(no_kvm_amd, command_line("module_blacklist=kvm", "module_blacklist=kvm_amd")),
            "module-blacklisted",
        ),
        ("module_blacklist without a value", all_of(no_kvm_amd, command_line("module_blacklist", "quiet")), None),
        (
            "command line in the log",
            all_of(
                no_kvm_amd,
                lambda e: e.pop("command_line", None),
                log("Command line: quiet", "Command line: quiet", "Kernel command line: module_blacklist=kvm_amd"),
            ),
            "module-blacklisted",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "install line, loaded otherwise",
            all_of(refused(), module_files(lines=[line("install kvm_amd /bin/true")])),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "install line, nothing tried",
            all_of(no_kvm_amd, module_files(lines=[line("install kvm-amd /bin/true")])),
            "install-line",
        ),
        (
            "install line that loads, nothing tried",
            all_of(no_kvm_amd, module_files(lines=[line("install kvm_amd /sbin/modprobe -i kvm_amd")])),
            None,
        ),
        (
            "install line of another module",
            all_of(no_kvm_amd, module_files(lines=[line("install kvm_intel /bin/true")])),
            None,
        ),
        (
            "would run an install line",
            all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "insmod x\ninstall /bin/false"})),
            "install-line",
        ),
        (
            "would run an install line that loads",
            all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "install /sbin/modprobe -i kvm_amd"})),
            None,
        ),
        (
            "would run an install line, succeeded in vain",
            all_of(attempt("", 0), module_files(would_run={"status": 0, "output": "insmod x\ninstall /bin/false"})),
            "install-line",
        ),
        (
            "would run insmod",
            all_of(no_kvm_amd, module_files(would_run={"status": 0, "output": "insmod /lib/modules/x/kvm-amd.ko"})),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "unknown symbol, kvm loaded",
            all_of(attempt("Unknown symbol in module"), module("kvm", refcount=1)),
            "module-mismatch",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "two install lines",
            all_of(
                attempt("", 0),
                module_files(
                    lines=[line("install kvm /bin/true"), {**line("install kvm_amd /bin/false"), "number": 7}]
                ),
            ),
            "install-line",
        ),
        (
            "mismatch in the log, nothing tried",
            all_of(no_kvm_amd, log("kvm_amd: disagrees about version of symbol kvm_init")),
            "module-mismatch",
        ),
        (
            "mismatch in the log, modprobe succeeded",
            all_of(attempt("", 0), log("kvm_amd: disagrees about version of symbol kvm_init")),
            "install-line",
        ),
    ),
    *near(
        BASE,
        "svm-held-by-another-owner",
        (
            "mismatch in the log, kvm_amd loaded",
            all_of(held_at_create, log("kvm_amd: disagrees about version of symbol kvm_init")),
            "svm-owner-not-found",
        ),
    ),
)
