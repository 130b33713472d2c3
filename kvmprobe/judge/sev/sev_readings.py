"""What several conditions of SEV ask of the evidence. What it lacks is unknown, never "no"."""

from __future__ import annotations

import re

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.causes.quotes import same_name
from kvmprobe.judge.check_result import quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.kernel_lines import log_texts
from kvmprobe.judge.sev.sev_step import StepAnswer, failed, met, unknown
from kvmprobe.model.registers import LEAF_MEMORY_ENCRYPTION, CpuidBit, Register, word
from kvmprobe.model.values import as_int, error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.sev_evidence import Sev, SevDevice, SevStatus

NO, YES = ("N", "0"), ("Y", "1")


def sev_evidence(facts: Facts) -> Sev | None:
    """The evidence of --sev; None where it was not taken."""
    return facts.evidence.get("sev")


def device(facts: Facts) -> SevDevice | None:
    """What is known of /dev/sev; None where it was not asked for."""
    found = sev_evidence(facts)
    return found["device"] if found else None


def platform_status(facts: Facts, of_snp: bool = False) -> SevStatus | None:
    """The answer of SEV_PLATFORM_STATUS, or of SNP_PLATFORM_STATUS; None where there is none."""
    found = device(facts)
    answer = None if found is None else found["snp_platform"] if of_snp else found["platform"]
    return None if answer is None or is_failure(answer) else answer


def register(facts: Facts, wanted: Register) -> dict[int, int | None]:
    """A register of memory encryption by CPU; None where it could not be read. Without CPUs that do not have it."""
    found = sev_evidence(facts)
    values = found["registers"] if found else {}
    return {int(cpu): as_int(of_cpu[wanted.name]) for cpu, of_cpu in values.items() if wanted.name in of_cpu}


def register_bit(facts: Facts, wanted: Register, bit: str, otherwise: str) -> StepAnswer:
    """Whether a bit of a register is 1 on every CPU. `otherwise`: the message where it is not."""
    values = register(facts, wanted)
    name = f"{wanted.name}.{bit}"
    clear = {cpu: value for cpu, value in values.items() if value is not None and not wanted.bit(value, bit)}
    if clear:
        shown = quote({cpu: hex(value) for cpu, value in clear.items()}, f"{wanted.name} (0x{wanted.number:X})")
        return failed(otherwise, [f"{line}: {bit} = 0" for line in shown])
    if values and None not in values.values():
        return met(f"{name} is 1 on every CPU")
    return unknown(f"{name} is not known{_why(facts, wanted)}")


def _why(facts: Facts, wanted: Register) -> str:
    found = sev_evidence(facts)
    for of_cpu in found["registers"].values() if found else ():
        error = error_of(of_cpu.get(wanted.name))
        if error:
            return f": {error}"
    return "" if found else ": the evidence was taken without --sev"


def cpuid_bit(facts: Facts, bit: CpuidBit, name: str) -> StepAnswer:
    """Whether raw CPUID has a bit on every CPU. `name`: of the feature, for the message."""
    bits = facts.cpuid_bit(bit)
    clear = [cpu for cpu, value in bits.items() if value is False]
    if clear:
        where = f"CPUID 0x{bit.leaf:X} {('EAX', 'EBX', 'ECX', 'EDX')[bit.register]} bit {bit.bit}"
        return failed(f"CPUID shows no {name}", quote(dict.fromkeys(clear, 0), where))
    if bits and None not in bits.values():
        return met(f"CPUID shows {name} on every CPU")
    return unknown("raw CPUID could not be read on every CPU")


def asids(facts: Facts) -> tuple[int, int] | None:
    """CPUID 0x8000001F ECX and EDX of the first CPU where they are known: the highest ASID of an encrypted guest, and
    the lowest of one that is not SEV-ES; None where no CPU's is known, or no CPU has SEV."""
    for leaves in facts.evidence["cpus"]["cpuid"].values():
        highest, lowest = (word(leaves, LEAF_MEMORY_ENCRYPTION, register) for register in (2, 3))
        if highest is not None and lowest is not None:
            return (highest, lowest)
    return None


def lines(facts: Facts, pattern: str) -> list[str]:
    """The log lines that have a regular expression, oldest first."""
    compiled = re.compile(pattern)
    return [text for text in log_texts(facts) if compiled.search(text)]


def line_not_followed(facts: Facts, bad: str, good: str) -> str | None:
    """The last log line that has `bad`, if no later one has `good`: regular expressions."""
    last = None
    for text in log_texts(facts):
        if re.search(bad, text):
            last = text
        elif good and re.search(good, text):
            last = None
    return last


def parameter(facts: Facts, module: str, name: str) -> str | None:
    """The value of a module's parameter; None where it has none or is not known."""
    found = facts.modules.get(module)
    value = found["parameters"].get(name) if found else None
    return value if isinstance(value, str) else None


def turned_off(facts: Facts, module: str, name: str) -> list[tuple[str, str]]:
    """Who turned a parameter off: the text of the place, and what it is ("kernel command line", a file). [] where the
    last setting does not turn it off: modprobe gives the kernel's command line after its configuration."""
    found = []
    configuration = sev_evidence(facts)
    configured = configuration["modprobe_lines"] if configuration else []
    for line in configured if isinstance(configured, list) else ():
        kind, _, rest = line["text"].partition(" ")
        target, *options = rest.split()
        if kind == "options" and same_name(target, module):
            given = [option.partition("=") for option in options]
            found += [
                (line["text"], f"{line['file']}:{line['number']}", value)
                for key, _, value in given
                if same_name(key, name)
            ]
    words = facts.evidence.get("command_line")
    for text in words if isinstance(words, list) else ():
        key, _, value = text.partition("=")
        if same_name(key, f"{module}.{name}"):
            found.append((text, "kernel command line", value))
    return [(text, where) for text, where, value in found[-1:] if value[:1] in ("0", "n", "N")]
