"""Are all CPUs equal in what decides about SVM?"""

from __future__ import annotations

from collections.abc import Mapping

from kvmprobe.judge.check_result import FAIL, PASS, UNKNOWN, WARN, Result, bits, quote
from kvmprobe.judge.checks.firmware import SVML_BIT
from kvmprobe.judge.checks.svm_bit import SVM_BIT
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.registers import VM_CR


def cpus_agree(facts: Facts) -> Result:
    """svm_check_processor_compat(), which runs on each CPU since 6.12.

    Reads what the checks before it read, and compares what is known of the CPUs.
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
    differing = _differing(
        {VM_CR.name: facts.register("before", VM_CR.name), "highest extended leaf": facts.highest_extended()}
    )
    if differing:
        return Result(WARN, f"CPUs differ, without effect on SVM, in {_text(differing)}")
    if not any(value is not None for values in decisive.values() for value in values.values()):
        return Result(UNKNOWN, "nothing could be read that can be compared")
    return Result(PASS, f"no difference on {cpu_names(facts.identified)}")


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
