"""Near misses of causes about modules that the kernel or modprobe refuses to load."""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    NO_OPTION,
    NOT_PERMITTED,
    all_of,
    attempt,
    command_line,
    line,
    lockdown,
    module,
    module_files,
    refused,
    rights,
    unread,
)
from tests.helpers.evidence_changes import log
from tests.helpers.near_changes import (
    UNKNOWN,
    UNSIGNED,
    USER,
    Near,
    near,
)
from tests.helpers.variants import (
    held_at_create,
    no_kvm_amd,
)

REFUSED: Near = (
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "four lines of a mismatch",
            refused(*(f"kvm_amd: Unknown symbol s{n} (err -2)" for n in range(4)), answer="Invalid module format"),
            "module-mismatch",
        ),
        (
            "mismatch, kvm live and in use",
            all_of(attempt("Exec format error"), module("kvm", refcount=1)),
            "module-mismatch",
        ),
        (
            "mismatch and a parameter",
            all_of(
                refused(
                    "kvm_amd: disagrees about version of symbol kvm_init",
                    "kvm_amd: `x' invalid for parameter `npt'",
                    answer="Unknown symbol in module",
                ),
                module("kvm", refcount=1),
            ),
            "module-mismatch",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "mismatch in the log, modprobe killed",
            all_of(attempt("killed", None), log("kvm_amd: disagrees about version of symbol kvm_init")),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "mismatch, kvm built in",
            all_of(attempt("Exec format error"), module("kvm", state="builtin", refcount=0)),
            "module-mismatch",
        ),
        (
            "unknown parameter",
            refused("kvm_amd: Unknown parameter `nestd'", answer="Unknown symbol in module, or unknown parameter"),
            "install-line",
        ),
        (
            "unknown parameter, kvm loaded",
            all_of(refused("kvm_amd: Unknown parameter `nestd'", answer="Invalid argument"), module("kvm", refcount=1)),
            "parameter-invalid",
        ),
        (
            "parameter on the command line",
            all_of(
                refused("kvm_amd: `x' invalid for parameter `npt'", answer="Invalid argument"),
                command_line("kvm_amd.npt=x"),
            ),
            "parameter-invalid",
        ),
        (
            "two parameters invalid",
            refused(
                "kvm: `x' invalid for parameter `a'",
                "kvm_amd: `y' too large for parameter `b'",
                answer="Invalid argument",
            ),
            "parameter-invalid",
        ),
        (
            "options of a longer name",
            all_of(
                refused("kvm_amd: `x' invalid for parameter `sev'", answer="Invalid argument"),
                module_files(lines=[line("options kvm_amd sev_es=x")]),
            ),
            "parameter-invalid",
        ),
    ),
    *near(
        BASE,
        "svm-held-by-another-owner",
        (
            "parameter invalid, kvm_amd loaded",
            all_of(held_at_create, log("kvm_amd: `x' invalid for parameter `npt'")),
            "svm-owner-not-found",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("unsigned, nothing locked", all_of(attempt(NOT_PERMITTED), rights()), "load-not-permitted"),
        ("unsigned by the log", refused(UNSIGNED, answer=NOT_PERMITTED), "module-unsigned"),
        ("unsigned by lockdown", all_of(attempt(NOT_PERMITTED), lockdown("confidentiality")), "module-unsigned"),
        ("unsigned, lockdown none", all_of(attempt(NOT_PERMITTED), lockdown("none")), "load-not-permitted"),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "unsigned, user",
            all_of(refused(UNSIGNED, answer=NOT_PERMITTED), lockdown("integrity"), USER),
            "load-needs-root",
        ),
        ("unsigned at boot", all_of(no_kvm_amd, log(UNSIGNED), lockdown("integrity")), "module-unsigned"),
        ("unsigned at boot, lockdown none", all_of(no_kvm_amd, log(UNSIGNED), lockdown("none")), None),
        ("lockdown at boot, nothing logged", all_of(no_kvm_amd, lockdown("integrity")), None),
    ),
    *(
        (f"key: {text}", BASE, attempt(text), "kvm-amd-load-failed", "module-unsigned")
        for text in ("Required key not available", "Key has expired", "Key has been revoked")
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "unsigned three times",
            refused(
                UNSIGNED,
                "Lockdown: modprobe: unsigned module loading is restricted",
                UNSIGNED + " twice",
                answer="Key was rejected by service",
            ),
            "module-unsigned",
        ),
    ),
    *near(
        BASE,
        "msr-unreadable",
        (
            "loading disabled, kvm_amd loaded",
            all_of(unread("EPERM"), module_files(loading_disabled="1")),
            "registers-need-capability",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "loading disabled, unknown",
            all_of(attempt(NOT_PERMITTED), module_files(loading_disabled=None)),
            "load-not-permitted",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "loading disabled, nothing tried",
            all_of(no_kvm_amd, module_files(loading_disabled="1")),
            "module-loading-disabled",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("not permitted with the capability", all_of(attempt(NOT_PERMITTED), rights()), "load-not-permitted"),
        (
            "not permitted, capabilities unknown",
            all_of(attempt(NOT_PERMITTED), rights(capabilities=UNKNOWN)),
            "load-not-permitted",
        ),
        (
            "not permitted, only CAP_SYS_RAWIO",
            all_of(attempt(NOT_PERMITTED), rights(capabilities="20000")),
            "load-not-permitted",
        ),
        (
            "not permitted, only CAP_SYS_MODULE",
            all_of(attempt(NOT_PERMITTED), rights(capabilities="10000")),
            "load-not-permitted",
        ),
        (
            "blacklist line, tried in vain",
            all_of(attempt(NO_OPTION), module_files(lines=[line("blacklist kvm_amd")])),
            None,
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        ("blacklist line of kvm_intel", all_of(no_kvm_amd, module_files(lines=[line("blacklist kvm_intel")])), None),
        (
            "blacklist in force from somewhere",
            all_of(no_kvm_amd, module_files(in_force=["blacklist kvm_amd"])),
            "blacklist-line",
        ),
        ("blacklist of another in force", all_of(no_kvm_amd, module_files(in_force=["blacklist nouveau"])), None),
        ("modprobe.blacklist of another", all_of(no_kvm_amd, command_line("modprobe.blacklist=nouveau")), None),
        (
            "modprobe.blacklist twice",
            all_of(no_kvm_amd, command_line("modprobe.blacklist=kvm_amd", "modprobe.blacklist=kvm-amd")),
            "blacklist-line",
        ),
        (
            "modprobe.blacklist in force",
            all_of(
                no_kvm_amd, command_line("modprobe.blacklist=kvm-amd"), module_files(in_force=["blacklist kvm_amd"])
            ),
            "blacklist-line",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-load-failed",
        ("log readable, kvm unexplained", refused("kvm: something new"), None),
        (
            "log unreadable, another answer",
            all_of(attempt("Some error"), lambda e: e.update(log={"error": "EPERM", "lines": []})),
            None,
        ),
    ),
)
