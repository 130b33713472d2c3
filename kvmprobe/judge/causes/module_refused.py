"""The kernel's module loader, or modprobe's configuration, refuses kvm_amd before KVM's own checks."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import (
    from_log,
    is_root,
    log_matches,
    module_files,
    parameter_values,
    rights,
    same_name,
)
from kvmprobe.judge.causes.steps import LOAD, LOAD_AGAIN, OFF_COMMAND_LINE
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import answer_of_modprobe, attempt_to_load
from kvmprobe.model.values import as_int

_REFUSED = ("kvm-amd-not-loaded", "kvm-amd-load-failed", "msr-unreadable")
_MODULES = r"(?:kvm|kvm[-_]amd|ccp|irqbypass)"
_CAP_SYS_MODULE = 16  # include/uapi/linux/capability.h
_DOES_NOTHING = re.compile(r"\s(?:(?:/usr)?/bin/)?(?:true|false|:|echo)\b")
_CONFIGURATION = "/etc/modprobe.d /run/modprobe.d /usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d"


def _absent(facts: Facts) -> bool:
    return facts.has_kvm_amd is False


def _lines(facts: Facts, command: str) -> list[tuple[str, int, str]]:
    """The lines of modprobe's configuration that begin with `command` and name kvm_amd or what it needs."""
    files = module_files(facts)
    lines = files["lines"] if files and isinstance(files["lines"], list) else []
    return [
        (line["file"], line["number"], line["text"])
        for line in lines
        if re.match(rf"{command}\s+{_MODULES}(?:\s|$)", line["text"])
    ]


def blacklisted_in_kernel(facts: Facts) -> Found | None:
    """module_blacklist= refuses the module in the kernel itself (blacklisted() in kernel/module/main.c)."""
    if not _absent(facts):
        return None
    given = [
        text
        for text, values in parameter_values(facts, "module_blacklist")
        if any(re.fullmatch(_MODULES, value) for value in values)
    ]
    logged = [match.string for match in log_matches(facts, rf"Module {_MODULES} is blacklisted")]
    if not given and not logged:
        return None
    because = [f"kernel command line: {text}" for text in given] + from_log(*logged)
    return Found(because, parameter=given[0] if given else "module_blacklist=kvm_amd")


def install_line(facts: Facts) -> Found | None:
    """An install line runs a command in place of loading (modprobe.d(5))."""
    if not _absent(facts):
        return None
    attempt = attempt_to_load(facts)
    lines = _lines(facts, "install")
    ran = re.search(r"install command", answer_of_modprobe(facts)) is not None
    # kvm_amd's symbols are kvm's: an install line kept kvm from being loaded before it.
    ran = ran or ("Unknown symbol" in answer_of_modprobe(facts) and "kvm" not in facts.modules)
    succeeded = attempt is not None and attempt["status"] == 0
    if attempt is None:
        lines = [line for line in lines if _DOES_NOTHING.search(line[2])]
    if not (ran or succeeded or (attempt is None and lines)):
        return None
    quoted = [f"{file}:{number}: {text}" for file, number, text in lines]
    files = module_files(facts)
    would_run = files["would_run"] if files else None
    if would_run and re.search(r"^install ", would_run["output"], re.MULTILINE):
        quoted.append(f"modprobe -n -v kvm_amd: {would_run['output']}")
    if not lines:
        return Found(quoted, _FIND_INSTALL_LINE)
    file, number, _ = lines[0]
    return Found(quoted, file=file, number=str(number))


_FIND_INSTALL_LINE = (
    "An install line of modprobe's configuration runs another command in place of loading kvm_amd. Find the line:",
    f"$ grep -rnE '^[[:space:]]*install[[:space:]]+kvm' {_CONFIGURATION}",
    "Remove this install line from its file.",
    *LOAD_AGAIN,
)


def blacklist_line(facts: Facts) -> Found | None:
    """blacklist (modprobe.d(5)) and modprobe.blacklist= only keep a module from being loaded by its aliases at boot."""
    if not _absent(facts) or attempt_to_load(facts) is not None:
        return None
    lines = [line for line in _lines(facts, "blacklist") if re.search(r"kvm[-_]amd", line[2])]
    given = [
        text
        for text, values in parameter_values(facts, "modprobe.blacklist")
        if any(same_name(value, "kvm_amd") for value in values)
    ]
    if lines:
        file, number, text = lines[0]
        return Found([f"{file}:{number}: {text}"], file=file, number=str(number))
    if given:
        steps = ("Load kvm_amd now:", *LOAD, "For the next boots:", *OFF_COMMAND_LINE[:-2])
        return Found([f"kernel command line: {given[0]}"], steps, parameter=given[0])
    return None


_MISMATCH = (
    rf"^{_MODULES}: (?:disagrees about version of symbol|Unknown symbol|version magic|no symbol version|"
    r"exports duplicate symbol|Invalid relocation|overflow in relocation)|^Invalid ELF"
)


def mismatch(facts: Facts) -> Found | None:
    if not _absent(facts):
        return None
    logged = [match.string for match in log_matches(facts, _MISMATCH)]
    answered = re.search(r"Exec format error|Invalid module format|Unknown symbol", answer_of_modprobe(facts))
    attempt = attempt_to_load(facts)
    if not answered and not (logged and (attempt is None or attempt["status"] not in (0, None))):
        return None
    if log_matches(facts, _BAD_PARAMETER) and not logged:
        return None  # modprobe has one message for both
    kvm = facts.modules.get("kvm")
    old = kvm is not None and kvm["state"] == "live" and kvm["refcount"] == 0
    return Found(from_log(*logged[-3:]), unload="# modprobe -r kvm" if old else "")


_BAD_PARAMETER = rf"^{_MODULES}: [`'](?P<value>.*)' (?:invalid|too large) for parameter [`'](?P<name>[^']*)'"
_UNKNOWN_PARAMETER = rf"^{_MODULES}: Unknown parameter [`'](?P<name>[^']*)'"


def bad_parameter(facts: Facts) -> Found | None:
    """parse_args() in kernel/params.c; "unknown parameter '…' ignored" is no refusal."""
    if not _absent(facts):
        return None
    matches = log_matches(facts, _BAD_PARAMETER) + log_matches(facts, _UNKNOWN_PARAMETER)
    if not matches:
        return None
    match = matches[-1]
    name = match.group("name")
    lines = [line for line in _lines(facts, "options") if re.search(rf"\b{re.escape(name)}\b", line[2])]
    quoted = [f"{file}:{number}: {text}" for file, number, text in lines]
    because = from_log(match.string) + quoted
    module = match.string.partition(":")[0].replace("-", "_")
    if lines:
        return Found(because, _EDIT_PARAMETER, file=lines[0][0], number=str(lines[0][1]), name=name, module=module)
    return Found(because, name=name, module=module)


_EDIT_PARAMETER = (
    "Remove or correct {name}= in line {number} of {file}. The command makes a comment of the line:",
    "# sed -i '{number}s/^/# /' {file}",
    "Also remove {module}.{name}= from the kernel's command line, if it is there.",
    *LOAD_AGAIN,
)


def unsigned(facts: Facts) -> Found | None:
    """Secure Boot with lockdown, or module.sig_enforce (module_sig_check() in kernel/module/signing.c)."""
    if not _absent(facts):
        return None
    logged = [
        match.string
        for match in log_matches(
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
    because = from_log(*logged[-2:])
    return Found(because + ([f"/sys/kernel/security/lockdown: {lockdown}"] if locked else []))


def loading_disabled(facts: Facts) -> Found | None:
    files = module_files(facts)
    if not _absent(facts) or files is None or files["loading_disabled"] != "1":
        return None
    return Found(["kernel.modules_disabled = 1"])


def not_permitted(facts: Facts) -> Found | None:
    if not is_root(facts) or "not permitted" not in answer_of_modprobe(facts):
        return None
    found = rights(facts)
    capabilities = found["capabilities"] if found else None
    mask = as_int(capabilities)
    if mask is not None and not mask >> _CAP_SYS_MODULE & 1:
        return Found([f"CapEff: {capabilities}, without CAP_SYS_MODULE"], _CAPABILITY)
    return Found([])


_CAPABILITY = (
    "This process lacks CAP_SYS_MODULE. Load kvm_amd outside its container or sandbox:",
    "$ sudo modprobe kvm_amd",
)


def out_of_memory(facts: Facts) -> Found | None:
    return Found([]) if "Cannot allocate memory" in answer_of_modprobe(facts) else None


BLACKLISTED = Cause(
    "module-blacklisted",
    _REFUSED,
    "The kernel's command line has module_blacklist= with kvm_amd, or with a module that it needs. The kernel refuses "
    "it whoever loads it.",
    blacklisted_in_kernel,
    OFF_COMMAND_LINE,
)

INSTALL_LINE = Cause(
    "install-line",
    _REFUSED,
    "modprobe succeeded without loading kvm_amd, or ran an install command: an install line in its configuration runs "
    "another command, such as /bin/true, in place of loading the module. To load it once more changes nothing.",
    install_line,
    (
        (
            "Remove the install line that runs in place of loading kvm_amd: line {number} of {file}. The command "
            "makes a comment of it:"
        ),
        "# sed -i '{number}s/^/# /' {file}",
        *LOAD_AGAIN,
    ),
)

BLACKLIST_LINE = Cause(
    "blacklist-line",
    _REFUSED,
    "A blacklist line of modprobe's configuration, or modprobe.blacklist= on the kernel's command line, keeps kvm_amd "
    "from being loaded at boot. It does not keep root from loading it by name.",
    blacklist_line,
    (
        "Load kvm_amd now:",
        *LOAD,
        "For the next boots, remove the blacklist line: line {number} of {file}. The command makes a comment of it:",
        "# sed -i '{number}s/^/# /' {file}",
    ),
)

LOADER = (
    Cause(
        "module-mismatch",
        _REFUSED,
        "The file of kvm_amd, or of a module that it needs, does not belong to the running kernel: version magic, "
        "symbol versions or symbols differ. Usually a partly installed update, or a kvm module from elsewhere.",
        mismatch,
        (
            "Install the modules that belong to the running kernel again, on Debian and Ubuntu:",
            "# apt-get install --reinstall linux-image-$(uname -r)",
            "{unload}",
            "Then make modprobe's index, and load the module:",
            "# depmod -a",
            *LOAD,
            "Where an update installed another kernel since the last boot, reboot in place of that.",
        ),
    ),
    Cause(
        "parameter-invalid",
        _REFUSED,
        "A parameter of kvm or kvm_amd has a value that the module does not accept.",
        bad_parameter,
        (
            "Find where {name}= is set for {module}:",
            f"$ grep -rnE 'options[[:space:]]+kvm|kvm(_amd)?\\.' {_CONFIGURATION} /proc/cmdline",
            "Remove it, or correct its value. If it is on the kernel's command line ({module}.{name}=), reboot.",
            *LOAD_AGAIN,
        ),
    ),
    Cause(
        "module-unsigned",
        _REFUSED,
        "The kernel loads signed modules only (Secure Boot with lockdown, or module.sig_enforce), and the file of "
        "kvm_amd has no signature that it trusts.",
        unsigned,
        (
            "Install the distribution's own signed modules of the running kernel again, on Debian and Ubuntu:",
            "# apt-get install --reinstall linux-image-$(uname -r)",
            *LOAD_AGAIN,
            (
                "For a kernel of your own: sign its modules with a key that is enrolled (mokutil --import), or disable "
                "Secure Boot in the firmware's setup."
            ),
        ),
    ),
)

POLICY = (
    Cause(
        "module-loading-disabled",
        _REFUSED,
        "kernel.modules_disabled is 1: until the next boot nobody can load a module.",
        loading_disabled,
        (
            "Have kvm_amd loaded at boot, before kernel.modules_disabled is set:",
            "# sh -c 'echo kvm_amd >/etc/modules-load.d/kvm_amd.conf'",
            "Only a reboot ends kernel.modules_disabled=1:",
            "# systemctl reboot",
        ),
    ),
    Cause(
        "load-not-permitted",
        _REFUSED,
        "The kernel refused root to load kvm_amd (EPERM): a policy, not the CPU or the firmware.",
        not_permitted,
        (
            (
                "The kernel refused root to load kvm_amd. See which policy it is: kernel.modules_disabled (only a "
                "reboot ends it), module_blacklist= on the kernel's command line (remove it), lockdown (signed "
                "modules only), or a container without CAP_SYS_MODULE (load kvm_amd on the host):"
            ),
            "# sysctl kernel.modules_disabled",
            "$ grep -o 'module_blacklist=[^ ]*' /proc/cmdline",
            "# cat /sys/kernel/security/lockdown",
            "$ grep CapEff /proc/self/status",
            "The kernel's log has its reason:",
            "# dmesg",
        ),
    ),
    Cause(
        "load-out-of-memory",
        _REFUSED,
        "The kernel had no memory to load kvm_amd (ENOMEM).",
        out_of_memory,
        ("Free memory, then load the module:", *LOAD),
    ),
)
