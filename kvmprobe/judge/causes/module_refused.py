"""The kernel's module loader refuses kvm_amd before KVM's own checks, or a policy forbids to load modules."""

from __future__ import annotations

import re

from kvmprobe.judge.capabilities import CAP_SYS_MODULE, has_capability
from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.modprobe_setup import CONFIGURATION, MODULES, REFUSED, configuration_lines, is_absent
from kvmprobe.judge.causes.packages import reinstall_kernel
from kvmprobe.judge.causes.quotes import (
    from_log,
    is_root,
    matches_since_loaded,
    module_files,
    parameter_values,
    rights,
)
from kvmprobe.judge.causes.steps import LOAD, LOAD_AGAIN, OFF_COMMAND_LINE
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import answer_of_modprobe, attempt_to_load

_MISMATCH = (
    rf"^{MODULES}: (?:disagrees about version of symbol|Unknown symbol|version magic|no symbol version|"
    r"exports duplicate symbol|Invalid relocation|overflow in relocation)|^Invalid ELF|"
    rf"^failed to validate module \[{MODULES}\] BTF"  # kernel/bpf/btf.c
)


def mismatch(facts: Facts) -> Found | None:
    if not is_absent(facts):
        return None
    logged = [match.string for match in matches_since_loaded(facts, _MISMATCH)]
    answered = re.search(r"Exec format error|Invalid module format|Unknown symbol", answer_of_modprobe(facts))
    attempt = attempt_to_load(facts)
    if not answered and not (logged and (attempt is None or attempt["status"] not in (0, None))):
        return None
    if matches_since_loaded(facts, _BAD_PARAMETER) and not logged:
        return None  # modprobe has one message for both
    kvm = facts.modules.get("kvm")
    old = kvm is not None and kvm["state"] == "live" and kvm["refcount"] == 0
    unload = "# modprobe -r kvm" if old else ""
    reinstall = reinstall_kernel(facts)
    steps = (_OF_THIS_KERNEL + ":", *reinstall, *_INDEX_AND_LOAD) if reinstall else None
    return Found(from_log(*logged[-3:]), steps, unload=unload)


_OF_THIS_KERNEL = "Install the modules that belong to the running kernel again"


_INDEX_AND_LOAD = (
    "{unload}",
    "Then make modprobe's index, and load the module:",
    "# depmod -a",
    *LOAD,
    "If an update installed another kernel since the last boot, reboot instead.",
)


_BAD_PARAMETER = rf"^{MODULES}: [`'](?P<value>.*)' (?:invalid|too large) for parameter [`'](?P<name>[^']*)'"
# EINVAL, ERANGE, and ENOENT of older kernels for an unknown parameter.
_PARAMETER_ANSWERS = r"Invalid argument|out of range|Unknown symbol|[Uu]nknown parameter"
_UNKNOWN_PARAMETER = rf"^{MODULES}: Unknown parameter [`'](?P<name>[^']*)'"


def bad_parameter(facts: Facts) -> Found | None:
    """parse_args() in kernel/params.c; "unknown parameter '…' ignored" is no refusal."""
    if not is_absent(facts):
        return None
    matches = matches_since_loaded(facts, _BAD_PARAMETER) + matches_since_loaded(facts, _UNKNOWN_PARAMETER)
    answer = answer_of_modprobe(facts)
    if not matches or (answer and not re.search(_PARAMETER_ANSWERS, answer)):
        return None
    match = matches[-1]
    name = match.group("name")
    lines = [line for line in configuration_lines(facts, "options") if re.search(rf"\b{re.escape(name)}\b", line[2])]
    quoted = [f"{file}:{number}: {text}" for file, number, text in lines]
    because = from_log(match.string) + quoted
    module = match.string.partition(":")[0].replace("-", "_")
    given = [text for text, _ in parameter_values(facts, f"{module}.{name}")]
    because += [f"kernel command line: {text}" for text in given]
    if given and not lines:
        return Found(because, OFF_COMMAND_LINE, parameter=given[0])
    if lines:
        return Found(because, _EDIT_PARAMETER, file=lines[0][0], number=str(lines[0][1]), name=name, module=module)
    return Found(because, name=name, module=module)


_EDIT_PARAMETER = (
    "Correct {name}= in line {number} of {file}, or make the line a comment:",
    "# sed -i '{number}s/^/# /' {file}",
    "Also remove {module}.{name}= from the kernel's command line, if it is there.",
    *LOAD_AGAIN,
)


def unsigned(facts: Facts) -> Found | None:
    """Secure Boot with lockdown, or module.sig_enforce (module_sig_check() in kernel/module/signing.c)."""
    if not is_absent(facts):
        return None
    logged = [
        match.string
        for match in matches_since_loaded(
            facts, r"Lockdown: .*: unsigned module loading is restricted|(?i:loading of .*module.* is rejected)"
        )
    ]
    answer = answer_of_modprobe(facts)
    lockdown = facts.evidence["kernel"]["lockdown"]
    locked = lockdown in ("integrity", "confidentiality")
    refused = re.search(r"Key was rejected|Required key not available|Key has (?:expired|been revoked)", answer)
    denied = "not permitted" in answer and (locked or bool(logged)) and is_root(facts)
    at_boot = attempt_to_load(facts) is None and locked and bool(logged)
    if not (refused or denied or at_boot):
        return None
    because = from_log(*logged[-2:]) + ([f"/sys/kernel/security/lockdown: {lockdown}"] if locked else [])
    reinstall = reinstall_kernel(facts)
    return Found(because, (_OWN_MODULES + ":", *reinstall, *_LOAD_OR_SIGN) if reinstall else None)


_OWN_MODULES = "Install the distribution's own signed modules of the running kernel again"
_LOAD_OR_SIGN = (
    *LOAD_AGAIN,
    (
        "For a kernel of your own: sign its modules with a key that is enrolled (mokutil --import), or disable Secure "
        "Boot in the firmware's setup."
    ),
)


def loading_disabled(facts: Facts) -> Found | None:
    files = module_files(facts)
    if not is_absent(facts) or files is None or files["loading_disabled"] != "1":
        return None
    return Found(["kernel.modules_disabled = 1"])


def not_permitted(facts: Facts) -> Found | None:
    if not is_root(facts) or "not permitted" not in answer_of_modprobe(facts):
        return None
    found = rights(facts)
    if found and has_capability(found, CAP_SYS_MODULE) is False:
        return Found([f"CapEff: {found['capabilities']}, without CAP_SYS_MODULE"], _CAPABILITY)
    return Found([])


_CAPABILITY = (
    "This process lacks CAP_SYS_MODULE. Load kvm_amd outside its container or sandbox:",
    "$ sudo modprobe kvm_amd",
)


def out_of_memory(facts: Facts) -> Found | None:
    return Found([]) if "Cannot allocate memory" in answer_of_modprobe(facts) else None


LOADER = (
    Cause(
        "module-mismatch",
        REFUSED,
        "The file of kvm_amd, or of a module that it needs, does not belong to the running kernel: version magic, "
        "symbol versions or symbols differ. Usually a partly installed update, or a kvm module from elsewhere.",
        mismatch,
        (
            _OF_THIS_KERNEL + ", on Debian and Ubuntu:",
            "# apt-get install --reinstall linux-image-$(uname -r)",
            *_INDEX_AND_LOAD,
        ),
        {"unload": ""},
    ),
    Cause(
        "parameter-invalid",
        REFUSED,
        "A parameter of kvm or kvm_amd has a value that the module does not accept.",
        bad_parameter,
        (
            "Find where {name}= is set for {module}:",
            f"$ grep -rnsE 'options[[:space:]]+kvm|kvm(_amd)?\\.' {CONFIGURATION} /proc/cmdline",
            "Remove it, or correct its value. If it is on the kernel's command line ({module}.{name}=), reboot.",
            *LOAD_AGAIN,
        ),
    ),
    Cause(
        "module-unsigned",
        REFUSED,
        "The kernel loads signed modules only (Secure Boot with lockdown, or module.sig_enforce), and the file of "
        "kvm_amd has no signature that it trusts.",
        unsigned,
        (
            _OWN_MODULES + ", on Debian and Ubuntu:",
            "# apt-get install --reinstall linux-image-$(uname -r)",
            *_LOAD_OR_SIGN,
        ),
    ),
)

POLICY = (
    Cause(
        "module-loading-disabled",
        REFUSED,
        "kernel.modules_disabled is 1: until the next boot nobody can load a module.",
        loading_disabled,
        (
            "Have kvm_amd loaded at boot, before kernel.modules_disabled is set:",
            "# sh -c 'echo kvm_amd >/etc/modules-load.d/kvm_amd.conf'",
            "Reboot, which alone ends kernel.modules_disabled=1:",
            "# systemctl reboot",
        ),
    ),
    Cause(
        "load-not-permitted",
        REFUSED,
        "The kernel refused root to load kvm_amd (EPERM): a policy, not the CPU or the firmware.",
        not_permitted,
        (
            (
                "A policy forbids root to load kvm_amd. Find it: kernel.modules_disabled (reboot), module_blacklist= "
                "(remove it), lockdown (load signed modules), or a container without CAP_SYS_MODULE (load kvm_amd on "
                "the host):"
            ),
            "# sysctl kernel.modules_disabled",
            "$ grep -o 'module_blacklist=[^ ]*' /proc/cmdline",
            "# cat /sys/kernel/security/lockdown",
            "$ grep CapEff /proc/self/status",
            "Read the reason in the kernel's log:",
            "# dmesg -T",
        ),
    ),
    Cause(
        "load-out-of-memory",
        REFUSED,
        "The kernel had no memory to load kvm_amd (ENOMEM).",
        out_of_memory,
        ("Free memory, then load the module:", *LOAD),
    ),
)
