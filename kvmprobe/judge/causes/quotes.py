"""The evidence that several causes ask for, and how it is quoted: the kernel's log and command line, attempts to load,
modules, and where the host runs. What evidence of older versions lacks is unknown, never "no"."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import log_texts, refusals, texts_since_loaded
from kvmprobe.model.registers import CPUID_HYPERVISOR, LEAF_FEATURES, word
from kvmprobe.model.values import is_failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Module, ModuleFiles, Rights, Surroundings

_LAST_LINES = 5
# Which lines of the log are about KVM on this host, for a verdict without a cause.
_ABOUT_KVM = re.compile(
    r"^(kvm|kvm_amd|SVM|SEV|ccp)\b|\bkvm_amd\b|has_svm|MSR_VM_CR|virtualization on CPU", re.IGNORECASE
)
# Others of the name, and what KVM logs where nothing is wrong.
_NOT_ABOUT_KVM = re.compile(
    r"^kvm-(clock|guest)|^(kernel )?command line:|Nested (Virtualization|Paging)|(supported|enabled|is disabled)$",
    re.IGNORECASE,
)


def log_matches(facts: Facts, pattern: str) -> list[re.Match[str]]:
    """The matches of a regular expression in the log, one for each line that has one, oldest first."""
    return _matches(log_texts(facts), pattern)


def matches_since_loaded(facts: Facts, pattern: str) -> list[re.Match[str]]:
    """As `log_matches`, without what was settled when kvm_amd last loaded: the log keeps the lines until the reboot."""
    return _matches(texts_since_loaded(facts), pattern)


def _matches(texts: list[str], pattern: str) -> list[re.Match[str]]:
    compiled = re.compile(pattern)
    return [found for text in texts if (found := compiled.search(text))]


def from_log(*texts: str) -> list[str]:
    """Log lines as `because` has them, each once."""
    return [f"kernel log: {text}" for text in dict.fromkeys(texts)]


def denials(facts: Facts) -> list[str]:
    """The audit lines in which AppArmor or SELinux denied /dev/kvm, oldest first."""
    matches = log_matches(facts, r"^audit: .*(?:apparmor=\"DENIED\"|avc: +denied)")
    return [match.string for match in matches if '="/dev/kvm"' in match.string or ' name="kvm" ' in match.string]


def no_svm_lines(facts: Facts) -> list[str]:
    """The last line in which kvm_amd found no SVM, quoted."""
    found = [refusal.text for refusal in refusals(facts) if refusal.kind == "no-svm"]
    return from_log(*found[-1:])


def last_lines(facts: Facts) -> list[str]:
    """The last log lines about KVM, quoted: for a verdict whose cause the evidence does not show."""
    texts = [text for text in log_texts(facts) if _ABOUT_KVM.search(text) and not _NOT_ABOUT_KVM.search(text)]
    return from_log(*texts[-_LAST_LINES:])


def parameters(facts: Facts) -> list[str]:
    """The parameters of the kernel's command line that the evidence has, in order."""
    found = facts.evidence.get("command_line")
    if isinstance(found, list):
        return found
    lines = log_matches(facts, r"^(?:Kernel command line|Command line): (.*)")
    return lines[-1].group(1).split() if lines else []


def parameter_values(facts: Facts, name: str) -> list[tuple[str, list[str]]]:
    """Each parameter `name` of the command line, whole, with its comma-separated values."""
    found = []
    for parameter in parameters(facts):
        key, _, value = parameter.partition("=")
        if same_name(key, name):
            found.append((parameter, value.strip('"').split(",")))
    return found


def same_name(first: str, second: str) -> bool:
    """Whether two names of a module or parameter are the same to the kernel, which takes "-" for "_"."""
    return first.replace("-", "_") == second.replace("-", "_")


# Modules


def module(facts: Facts, name: str) -> Module | None:
    """A kernel module of the evidence; None where it is not there, or unknown."""
    return facts.modules.get(name)


def is_built_in(facts: Facts, name: str) -> bool:
    """Whether a module is built into the kernel, so that nothing can unload it."""
    found = module(facts, name)
    return found is not None and found["state"] == "builtin"


def users_beyond_holders(found: Module) -> int | None:
    """References to a module that are not other modules: open files, VMs, or another module's use of its functions.

    None where a kernel that unloads no modules (CONFIG_MODULE_UNLOAD=n) counts none.
    """
    return None if found["refcount"] is None else found["refcount"] - len(found["holders"])


def module_files(facts: Facts) -> ModuleFiles | None:
    """What is known of /lib/modules and modprobe's configuration; None in evidence that lacks it."""
    return facts.evidence.get("module_files")


# Where the host runs


# What hypervisors write into the DMI table of their VMs. A hypervisor that hides itself from CPUID is still there.
_PRODUCTS_OF_VMS = re.compile(
    r"\bQEMU\b|\bKVM\b|VMware|VirtualBox|Bochs|HVM domU|Parallels|Microsoft Corporation Virtual Machine"
)


def in_vm(facts: Facts) -> bool | None:
    """Whether the host is a virtual machine, by CPUID and DMI, else by /proc/cpuinfo; None where all are unknown."""
    if _PRODUCTS_OF_VMS.search(product(facts)):
        return True
    bits = [bit for bit in facts.cpuid_bit(CPUID_HYPERVISOR).values() if bit is not None]
    if bits:
        return any(bits)
    flags = [info["flags"] for info in facts.cpuinfos() if info["flags"] is not None]
    return any("hypervisor" in names for names in flags) if flags else None


def hypervisor(facts: Facts) -> str:
    """The name of the hypervisor outside as CPUID 0x40000000 has it; "" on bare metal and where it is unknown."""
    return facts.hypervisor() or ""


def hypervisor_text(facts: Facts) -> list[str]:
    """That the host is a virtual machine, as `because` has it."""
    name = hypervisor(facts)
    if name:
        return [f"hypervisor = {name}"]
    if _PRODUCTS_OF_VMS.search(product(facts)):
        return [f"/sys/class/dmi/id: {product(facts)}"]
    return ["/proc/cpuinfo: flag hypervisor"] if in_vm(facts) else []


def is_wsl(facts: Facts) -> bool:
    """Whether the kernel is the one that Windows gives to WSL."""
    return re.search(r"microsoft|WSL2", facts.evidence["kernel"]["release"], re.IGNORECASE) is not None


def surroundings(facts: Facts) -> Surroundings | None:
    """What is known of container, Xen and hardware; None in evidence that lacks it."""
    return facts.evidence.get("surroundings")


def container(facts: Facts) -> str | None:
    """The kind of the container that kvmprobe ran in; None outside of one and where it is unknown."""
    found = surroundings(facts)
    return found["container"] if found else None


def product(facts: Facts) -> str:
    """Vendor and product of the machine by DMI ("Amazon EC2 m5.large"); "" where unknown."""
    found = surroundings(facts)
    return " ".join(value for value in (found["vendor"], found["product"]) if isinstance(value, str)) if found else ""


def rights(facts: Facts) -> Rights | None:
    """What is known of the process's rights; None in evidence that lacks it."""
    return facts.evidence.get("rights")


def is_root(facts: Facts) -> bool:
    """Whether kvmprobe ran with effective user id 0."""
    return facts.evidence["host"]["euid"] == 0


def leaf_word(facts: Facts, leaf: int, register: int) -> int | None:
    """One of EAX, EBX, ECX, EDX (0 to 3) of a CPUID leaf on the first CPU where it could be read."""
    for cpu in facts.cpus:
        value = word(facts.evidence["cpus"]["cpuid"].get(str(cpu), {}), leaf, register)
        if value is not None:
            return value
    return None


def family(facts: Facts) -> int | None:
    """The CPU's family (AMD APM volume 3, CPUID Fn0000_0001 EAX: base plus extended family); None where unknown."""
    value = leaf_word(facts, LEAF_FEATURES, 0)
    if value is not None:
        base = value >> 8 & 0xF
        return base + (value >> 20 & 0xFF) if base == 0xF else base
    info = facts.first_cpuinfo()
    text = info["cpu_family"] if info else None
    return int(text) if text and text.isascii() and text.isdigit() else None


def known_text(value: object) -> str | None:
    """A reading that is a text; None where it is an error or unknown."""
    return value if isinstance(value, str) and not is_failure(value) else None
