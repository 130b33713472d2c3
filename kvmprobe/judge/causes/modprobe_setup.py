"""Configuration that keeps kvm_amd away: of modprobe (modprobe.d(5)), or module_blacklist= of the kernel."""

from __future__ import annotations

import re

from kvmprobe.judge.causes.cause import Cause, Found
from kvmprobe.judge.causes.quotes import from_log, log_matches, module_files, parameter_values, same_name
from kvmprobe.judge.causes.steps import LOAD, LOAD_AGAIN, OFF_COMMAND_LINE
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import answer_of_modprobe, attempt_to_load

REFUSED = ("kvm-amd-not-loaded", "kvm-amd-load-failed", "msr-unreadable")
MODULES = r"(?:kvm|kvm[-_]amd|ccp|irqbypass)"  # kvm_amd and what it needs
CONFIGURATION = "/etc/modprobe.d /run/modprobe.d /usr/local/lib/modprobe.d /usr/lib/modprobe.d /lib/modprobe.d"
_DOES_NOTHING = re.compile(r"\s(?:(?:/usr)?/bin/)?(?:true|false|:|echo)\b")


def is_absent(facts: Facts) -> bool:
    """Whether kvm_amd is known to be neither loaded nor built in."""
    return facts.has_kvm_amd is False


def configuration_lines(facts: Facts, command: str) -> list[tuple[str, int, str]]:
    """The lines of modprobe's configuration that begin with `command` and name kvm_amd or what it needs."""
    files = module_files(facts)
    lines = files["lines"] if files and isinstance(files["lines"], list) else []
    return [
        (line["file"], line["number"], line["text"])
        for line in lines
        if re.match(rf"{command}\s+{MODULES}(?:\s|$)", line["text"])
    ]


def blacklisted_in_kernel(facts: Facts) -> Found | None:
    """module_blacklist= refuses the module in the kernel itself (blacklisted() in kernel/module/main.c), and
    initcall_blacklist= its first function, whether it is built in or not (init/main.c)."""
    initcalls = [text for text, values in parameter_values(facts, "initcall_blacklist") if "svm_init" in values]
    if initcalls:
        return Found([f"kernel command line: {initcalls[0]}"], parameter=initcalls[0])
    if not is_absent(facts):
        return None
    given = [
        text
        for text, values in parameter_values(facts, "module_blacklist")
        if any(re.fullmatch(MODULES, value) for value in values)
    ]
    logged = [match.string for match in log_matches(facts, rf"Module {MODULES} is blacklisted")]
    if not given and not logged:
        return None
    because = [f"kernel command line: {text}" for text in given] + from_log(*logged)
    return Found(because, parameter=given[0] if given else "module_blacklist=kvm_amd")


def install_line(facts: Facts) -> Found | None:
    """An install line runs a command in place of loading (modprobe.d(5))."""
    if not is_absent(facts):
        return None
    attempt = attempt_to_load(facts)
    lines = configuration_lines(facts, "install")
    ran = re.search(r"install command", answer_of_modprobe(facts)) is not None
    # kvm_amd's symbols are of kvm and ccp: an install line kept one of them from being loaded before it.
    ran = ran or ("Unknown symbol" in answer_of_modprobe(facts) and _lacks_what_it_needs(facts))
    succeeded = attempt is not None and attempt["status"] == 0
    would_run = _install_commands(facts)
    if attempt is None:
        lines = [line for line in lines if _DOES_NOTHING.search(line[2])]
        would_run = [command for command in would_run if _DOES_NOTHING.search(command)]
    if not (ran or succeeded or (attempt is None and (lines or would_run))):
        return None
    quoted = [f"{file}:{number}: {text}" for file, number, text in lines]
    quoted += [f"modprobe -n -v kvm_amd: {command}" for command in would_run]
    quoted += from_log(*_unknown_symbols_of_ccp(facts)[-2:]) if ran else []
    if not lines:
        return Found(quoted, _FIND_INSTALL_LINE)
    file, number, _ = lines[0]
    return Found(quoted, file=file, number=str(number))


def _lacks_what_it_needs(facts: Facts) -> bool:
    """Whether kvm is not there, or ccp: kvm_amd's symbols of it are unknown, or an install line names it."""
    if "kvm" not in facts.modules:
        return True
    named = any(re.match(r"install\s+ccp\b", text) for _, _, text in configuration_lines(facts, "install"))
    return "ccp" not in facts.modules and bool(named or _unknown_symbols_of_ccp(facts))


def _unknown_symbols_of_ccp(facts: Facts) -> list[str]:
    """The log lines in which kvm_amd lacked a function of drivers/crypto/ccp/sev-dev.c."""
    return [match.string for match in log_matches(facts, r"^kvm_amd: Unknown symbol (?:sev|psp|snp)_")]


def _install_commands(facts: Facts) -> list[str]:
    """The commands that modprobe would run in place of loading kvm_amd, or kvm before it: "install /bin/true"."""
    files = module_files(facts)
    would_run = files["would_run"] if files else None
    return [line for line in would_run["output"].split("\n") if line.startswith("install ")] if would_run else []


_FIND_INSTALL_LINE = (
    (
        "An install line of modprobe's configuration runs another command in place of loading kvm_amd, or kvm or ccp, "
        "which it needs. Find the line:"
    ),
    f"$ grep -rnsE '^[[:space:]]*install[[:space:]]+(kvm|ccp|irqbypass)' {CONFIGURATION}",
    "Remove this install line from its file.",
    *LOAD_AGAIN,
)


def blacklist_line(facts: Facts) -> Found | None:
    """blacklist (modprobe.d(5)) and modprobe.blacklist= only keep a module from being loaded by its aliases at boot."""
    if not is_absent(facts) or attempt_to_load(facts) is not None:
        return None
    lines = [line for line in configuration_lines(facts, "blacklist") if re.search(r"kvm[-_]amd", line[2])]
    given = [
        text
        for text, values in parameter_values(facts, "modprobe.blacklist")
        if any(same_name(value, "kvm_amd") for value in values)
    ]
    if lines:
        file, number, text = lines[0]
        return Found([f"{file}:{number}: {text}"], file=file, number=str(number))
    if not given and _is_in_force(facts, "blacklist kvm_amd"):
        return Found(["modprobe -c: blacklist kvm_amd"], ("Load kvm_amd now:", *LOAD))
    if given:
        steps = ("Load kvm_amd now:", *LOAD, "For the next boots:", *OFF_COMMAND_LINE[:-2])
        return Found([f"kernel command line: {given[0]}"], steps, parameter=given[0])
    return None


def _is_in_force(facts: Facts, line: str) -> bool:
    """Whether modprobe's configuration, as modprobe put it together, has a line."""
    files = module_files(facts)
    return bool(files and line in (files["in_force"] or ()))


BLACKLISTED = Cause(
    "module-blacklisted",
    (*REFUSED, "kvm-device-missing"),
    "The kernel's command line has module_blacklist= with kvm_amd, or with a module that it needs, or "
    "initcall_blacklist= with svm_init. The kernel refuses it whoever loads it.",
    blacklisted_in_kernel,
    OFF_COMMAND_LINE,
)

INSTALL_LINE = Cause(
    "install-line",
    REFUSED,
    "modprobe succeeded without loading kvm_amd, or ran an install command: an install line in its configuration runs "
    "another command, such as /bin/true, in place of loading the module. Loading it again changes nothing.",
    install_line,
    (
        ("Remove the install line that replaces loading kvm_amd, line {number} of {file}, or make it a comment:"),
        "# sed -i '{number}s/^/# /' {file}",
        *LOAD_AGAIN,
    ),
)

BLACKLIST_LINE = Cause(
    "blacklist-line",
    REFUSED,
    "A blacklist line of modprobe's configuration, or modprobe.blacklist= on the kernel's command line, keeps kvm_amd "
    "from being loaded at boot. It does not keep root from loading it by name.",
    blacklist_line,
    (
        "Load kvm_amd now:",
        *LOAD,
        "For the next boots, remove the blacklist line, line {number} of {file}, or make it a comment:",
        "# sed -i '{number}s/^/# /' {file}",
    ),
)
