"""Are all CPUs equal in what decides about SVM, and in what the kernel combines over all of them?"""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, WARN, Result, bits, quote
from kvmprobe.judge.checks.firmware import SVML_BIT
from kvmprobe.judge.checks.svm_bit import SVM_BIT
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.registers import CPUID_BITS, CPUID_REGISTERS, FEATURE_LEAVES, VM_CR, word
from kvmprobe.model.values import is_failure


def cpus_agree(facts: Facts) -> Result:
    """svm_check_processor_compat(), which runs on each CPU since 6.12; identify_cpu() in arch/x86/kernel/cpu/common.c.

    Reads what the checks before it read, the CPUID leaves whose features the kernel keeps only where every CPU has
    them, and microcode and stepping of /proc/cpuinfo; compares what is known of the CPUs.
    Reason: cpus-disagree.
    """
    decisive: dict[str, Mapping[int, object]] = {
        "vendor": facts.vendors(),
        SVM_BIT: _known_bits(facts.svm()),
        SVML_BIT: _known_bits(facts.svml()),
        "VM_CR.SVMDIS": _known_bits(facts.svmdis()),
    }
    differing = _differing(decisive)
    if differing:
        because = [line for name, values in differing.items() for line in quote(values, name)]
        return Result(FAIL, f"CPUs differ in {_text(differing)}", "cpus-disagree", because=because)
    other: dict[str, Mapping[int, object]] = {
        VM_CR.name: facts.register("before", VM_CR.name),
        "highest extended leaf": facts.highest_extended(),
        "stepping": _of_cpuinfo(facts, "stepping"),
        "microcode": _of_cpuinfo(facts, "microcode"),
    }
    words = _feature_words(facts)
    differing = _differing({**other, **words})
    if differing:
        uses = "; the kernel uses the features that every CPU has" if differing.keys() & words.keys() else ""
        return Result(WARN, f"CPUs differ in {_text(differing)}{uses}")
    compared = {"vendor": decisive["vendor"], **_by_leaf(words), **other}
    known = [name for name, values in compared.items() if _is_known(facts, values)]
    if not known:
        return Result(UNKNOWN, "nothing could be read that can be compared")
    return Result(PASS, f"no difference on {cpu_names(facts.identified)} in {', '.join(known)}")


def _feature_words(facts: Facts) -> dict[str, Mapping[int, object]]:
    """The registers of the leaves with features; the name of one that differs also has the names of its bits."""
    found: dict[str, Mapping[int, object]] = {}
    highest = facts.highest_extended()
    for leaf in FEATURE_LEAVES:
        for index, register in enumerate(CPUID_REGISTERS):
            values = _words(facts, leaf, index, highest)
            known = {value for value in values.values() if value is not None}
            names = [
                name
                for name, bit in CPUID_BITS.items()
                if (bit.leaf, bit.register) == (leaf, index) and len({value >> bit.bit & 1 for value in known}) > 1
            ]
            which = f" ({', '.join(names)})" if names else ""
            found[f"CPUID 0x{leaf:X} {register}{which}"] = values
    return found


def _words(facts: Facts, leaf: int, register: int, highest: Mapping[int, int | None]) -> dict[int, int | None]:
    """One register of an extended leaf by CPU; None also above a CPU's highest leaf."""
    leaves = facts.evidence["cpus"]["cpuid"]
    return {
        cpu: word(leaves[str(cpu)], leaf, register) if (highest[cpu] or 0) >= leaf else None for cpu in facts.identified
    }


def _of_cpuinfo(facts: Facts, field: str) -> dict[int, str | None]:
    """A field of /proc/cpuinfo by CPU."""
    infos = facts.evidence["cpus"]["cpuinfo"]
    known = {} if is_failure(infos) else infos
    return {cpu: known[str(cpu)][field] if str(cpu) in known else None for cpu in facts.identified}  # type: ignore[literal-required]


def _by_leaf(words: Mapping[str, Mapping[int, object]]) -> dict[str, Mapping[int, object]]:
    """The leaves by name, without their registers: all four are known, or none."""
    return {name.rpartition(" ")[0]: values for name, values in words.items()}


def _is_known(facts: Facts, values: Mapping[int, object]) -> bool:
    """Whether a value is known of every CPU, so that no CPU is claimed to be equal that was not compared."""
    return bool(values and facts.identified) and all(values.get(cpu) is not None for cpu in facts.identified)


def _known_bits(values: Mapping[int, bool | None]) -> dict[int, str]:
    return bits({cpu: value for cpu, value in values.items() if value is not None})


def _differing(compared: Mapping[str, Mapping[int, object]]) -> dict[str, dict[int, object]]:
    """What CPUs differ in, of what is known of them."""
    known = {
        name: {cpu: value for cpu, value in values.items() if value is not None} for name, values in compared.items()
    }
    return {name: values for name, values in known.items() if len(group(values)) > 1}


def _text(differing: Mapping[str, Mapping[int, object]]) -> str:
    return "; ".join(f"{name}: {fold(values)}" for name, values in differing.items())
