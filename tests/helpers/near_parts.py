"""Near misses of causes about rights, registers, and modules that are kept away.

A row differs from a case of the cause by one part of its question: the cause, its hint or what it quotes then differs.
"""

from __future__ import annotations

from tests.helpers.cause_changes import (
    BASE,
    DOCKER,
    NOT_FOUND,
    NOT_PERMITTED,
    OPEN_EACCES,
    all_of,
    attempt,
    command_line,
    device,
    line,
    lockdown,
    module,
    module_files,
    refused,
    rights,
    unread,
)
from tests.helpers.evidence_changes import (
    everywhere,
    log,
    no_flag,
)
from tests.helpers.near_changes import (
    OTHER_VENDOR,
    UNKNOWN,
    UNSIGNED,
    USER,
    Near,
    loads,
    near,
    no_guest,
    node,
)
from tests.helpers.variants import no_kvm_amd, register

_BAD_NPT = "kvm_amd: `x' invalid for parameter `npt'"
_UNREAD = all_of(no_guest, everywhere("EFER", None), everywhere("VM_CR", None))


def _line(number: int, text: str) -> dict[str, object]:
    return {**line(text), "file": f"/etc/modprobe.d/{number}.conf", "number": number}


ACCESS: Near = (
    *near(
        BASE,
        "kvm-not-permitted",
        ("not in group, others may only execute", all_of(OPEN_EACCES, USER, node(mode="0661")), "not-in-group"),
        (
            "in the group, others may only execute",
            all_of(OPEN_EACCES, USER, node(mode="0661"), rights(groups=["kvm"])),
            "open-refused-by-policy",
        ),
        ("everybody may do anything", all_of(OPEN_EACCES, USER, node(mode="0667")), "open-refused-by-policy"),
        ("mode with each octal digit", all_of(OPEN_EACCES, USER, node(mode="76543210")), "device-for-root-only"),
        ("EACCES, nothing on /dev", all_of(device("EACCES"), rights(dev_mounts=[])), "open-refused-by-policy"),
    ),
    *near(
        BASE,
        "msr-unreadable",
        (
            "EMFILE of EFER before KVM_CREATE_VM alone",
            all_of(_UNREAD, register("before", "EFER", {"error": "EMFILE"})),
            "out-of-resource",
        ),
        (
            "EMFILE of VM_CR after KVM_CREATE_VM alone",
            all_of(_UNREAD, register("created", "VM_CR", {"error": "EMFILE"})),
            "out-of-resource",
        ),
        ("container, registers unknown", all_of(_UNREAD, DOCKER), None),
    ),
    *near(BASE, "kvm-device-missing", ("wrong number, type unknown", device("EIO", type="other", number="1:3"), None)),
)

# Whatever the log and the configuration have: kvm_amd is loaded.
_KEPT_AWAY = all_of(
    unread("EPERM"),
    command_line("module_blacklist=kvm_amd"),
    lockdown("integrity"),
    log("kvm_amd: disagrees about version of symbol kvm_init", _BAD_NPT, UNSIGNED),
)
_LINES = [line("install kvm_amd /bin/true"), line("blacklist kvm_amd")]

LOADED: Near = (
    *near(
        BASE,
        "msr-unreadable",
        (
            "kvm_amd loaded, its folder gone",
            all_of(_KEPT_AWAY, module_files(folder=False, index=None, lines=_LINES)),
            "registers-need-capability",
        ),
        (
            "kvm_amd loaded, no index",
            all_of(_KEPT_AWAY, module_files(index=False, lines=_LINES)),
            "registers-need-capability",
        ),
        (
            "kvm_amd loaded, not in the index",
            all_of(_KEPT_AWAY, module_files(kvm_amd=None, lines=_LINES)),
            "registers-need-capability",
        ),
        (
            "kvm_amd loaded for a user, with a complaint",
            all_of(unread("EPERM"), USER, loads(("kvm_amd", 0, f"modprobe: {NOT_PERMITTED}"))),
            "registers-need-root",
        ),
        (
            "kvm_amd loaded, another vendor was refused",
            all_of(unread("EPERM"), module("kvm_pvm"), log(OTHER_VENDOR)),
            "registers-need-capability",
        ),
        (
            "blacklisted, VM_CR unread",
            all_of(no_kvm_amd, unread("ENOENT"), command_line("module_blacklist=kvm_amd")),
            "module-blacklisted",
        ),
        (
            "other vendor, VM_CR unread",
            all_of(attempt("", 0), module("kvm_pvm"), unread("ENOENT")),
            "other-vendor-module",
        ),
        (
            "clearcpuid, VM_CR unread",
            all_of(no_kvm_amd, unread("ENOENT"), command_line("clearcpuid=svm"), no_flag),
            "svm-cleared-by-clearcpuid",
        ),
    ),
)

MODULES: Near = (
    *near(
        BASE,
        "kvm-amd-load-failed",
        (
            "no index, by modprobe's answer",
            attempt(
                "modprobe: ERROR: libkmod/libkmod.c:586 kmod_search_moddep() could not open moddep file "
                "'/lib/modules/6.1.0-50-amd64/modules.dep.bin'"
            ),
            "module-index-missing",
        ),
        (
            "kvm_amd and cpuid not found, msr loaded",
            all_of(
                no_kvm_amd,
                loads(
                    ("msr", 0, ""),
                    ("cpuid", 1, NOT_FOUND.format("cpuid")),
                    ("kvm_amd", 1, NOT_FOUND.format("kvm_amd")),
                ),
            ),
            "module-not-installed",
        ),
        (
            "parameter, with the answer of a mismatch",
            all_of(refused(_BAD_NPT, answer="Unknown symbol in module, or unknown parameter"), module("kvm")),
            "parameter-invalid",
        ),
        (
            "two option lines",
            all_of(
                refused(_BAD_NPT, answer="Invalid argument"),
                module_files(lines=[_line(1, "options kvm_amd npt=x"), _line(2, "options kvm_amd npt=y")]),
            ),
            "parameter-invalid",
        ),
    ),
    *near(
        BASE,
        "kvm-amd-not-loaded",
        (
            "no index, folder unknown",
            all_of(no_kvm_amd, module_files(folder=None, index=False, kvm_amd=None)),
            None,
        ),
        ("modprobe's configuration unread", all_of(no_kvm_amd, module_files(lines=UNKNOWN)), None),
        (
            "install line of a script, succeeded in vain",
            all_of(attempt("", 0), module_files(lines=[line("install kvm_amd /usr/local/sbin/later")])),
            "install-line",
        ),
        (
            "two blacklist lines",
            all_of(no_kvm_amd, module_files(lines=[_line(1, "blacklist kvm_amd"), _line(2, "blacklist kvm-amd")])),
            "blacklist-line",
        ),
        ("blacklist line of kvm", all_of(no_kvm_amd, module_files(lines=[line("blacklist kvm")])), None),
        (
            "user, modprobe not permitted to run",
            all_of(attempt(f"/sbin/modprobe: {NOT_PERMITTED}", None), USER),
            None,
        ),
    ),
)

NEAR_PARTS: Near = (*ACCESS, *LOADED, *MODULES)
