"""What a run of the guest that runs a guest shows: one rule for the judge, which reads evidence, and for `soak`.

Sources: nested_svm_vmrun() and nested_svm_check_permissions() in arch/x86/kvm/svm/nested.c; AMD APM volume 2, 15.5 and
appendix C (exit codes).
"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.own_errors import was_refused
from kvmprobe.model.registers import CPUID_SVM, svme, word
from kvmprobe.model.values import as_int, error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.evidence import GuestRun
    from kvmprobe.model.nested_evidence import Nested, NestedExit, NestedReport

# What a run shows: that nested SVM works, nothing, or how it fails.
WORKS, NOT_RUN = "works", "not run"
REGISTERS, VMRUN, EXIT_CODE, SUM, DEADLINE, STOPPED = "registers", "vmrun", "exit code", "sum", "deadline", "stopped"

PAGING = {"nested": "nested paging", "shadow": "shadow paging"}

_SHUTDOWN = "KVM_EXIT_SHUTDOWN"  # how KVM_RUN ends after a triple fault
_EXCEPTIONS = {0: "#DE", 1: "#DB", 6: "#UD", 8: "#DF", 10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF"}
_EXITS = {0x60: "INTR", 0x78: "HLT", 0x7F: "SHUTDOWN", 0x81: "VMMCALL", 0x400: "NPF", 0xFFFFFFFF: "INVALID"}
_FIRST_EXCEPTION_EXIT = 0x40


def kind_of(run: GuestRun) -> str:
    """What a run shows: WORKS, NOT_RUN, or how it fails."""
    if run["result"] == "skipped" or was_refused(run):
        return NOT_RUN
    if run["result"] == "timeout":
        return DEADLINE
    report = run.get("nested")
    if report is None:
        return STOPPED
    if _is_exception(run):
        step = report["step"] or ""
        return VMRUN if step.startswith("VMRUN") else REGISTERS if step else STOPPED
    if run["result"] != "ended" or report["efer"] is None:
        return STOPPED
    if not svme(report["efer"]):
        return REGISTERS
    exits, expected = report["exits"], report["expected"]
    if not exits or [one["code"] for one in exits] != [one["code"] for one in expected]:
        return EXIT_CODE
    return WORKS if exits == expected else SUM


def text_of(run: GuestRun) -> str:
    """What a run shows, for people: "#GP at VMRUN", "exit code 0x46 (#UD) instead of 0x81 (VMMCALL)"."""
    kind, report = kind_of(run), run.get("nested")
    why = " ".join(filter(None, (run["detail"], run["error"])))
    if kind == WORKS:
        return "ok"
    if kind == NOT_RUN or report is None:
        return why or run["result"]
    at = f" at {report['step']}" if report["step"] else ""
    if _is_exception(run):
        return f"{_exception(run, report)}{at}"
    if kind == REGISTERS:
        return f"EFER = {report['efer']} after SVME was set"
    if kind in (DEADLINE, STOPPED):
        return f"{why or 'the outer guest halted before its end'}{at}"
    return _difference(report, kind)


def short_text_of(run: GuestRun) -> str:
    """As text_of(), without the values that each CPU has for itself: its sums."""
    return "wrong sum" if kind_of(run) == SUM else text_of(run)


def offers_svm(nested: Nested) -> bool | None:
    """Whether KVM offers SVM to guests: KVM_GET_SUPPORTED_CPUID; None where that is unknown."""
    leaves = nested["supported_cpuid"]
    if leaves is None or is_failure(leaves):
        return None
    value = word(leaves, CPUID_SVM.leaf, CPUID_SVM.register)
    return None if value is None else bool(value >> CPUID_SVM.bit & 1)


def why_none_ran(nested: Nested) -> str:
    """Why no guest ran in a guest, for people; empty where the guest itself was not run, whatever the cause.

    `nested`: with the answer of KVM_GET_SUPPORTED_CPUID.
    """
    error = error_of(nested["supported_cpuid"])
    if error:
        return f"KVM_GET_SUPPORTED_CPUID: {error}"
    if offers_svm(nested) is None:
        return "KVM_GET_SUPPORTED_CPUID has no leaf 0x80000001"
    runs = (run for of_paging in nested["runs"].values() for run in of_paging)
    return ", ".join(dict.fromkeys(text_of(run) for run in runs if kind_of(run) == NOT_RUN))


def _is_exception(run: GuestRun) -> bool:
    """Whether an instruction of the outer guest was refused: an exception, or a triple fault on the way to it."""
    return run["result"] == "exception" or (run["result"] == "failed" and _SHUTDOWN in (run["detail"] or ""))


def _exception(run: GuestRun, report: NestedReport) -> str:
    vector = report["exception"]
    if vector is None:
        return "an exception" if run["result"] == "exception" else f"a triple fault ({_SHUTDOWN})"
    return _EXCEPTIONS.get(vector, f"exception {vector}")


def _difference(report: NestedReport, kind: str) -> str:
    """The first exit code, or the first sum, that is not as expected."""
    exits: list[NestedExit | None] = [*report["exits"]]
    exits += [None] * (len(report["expected"]) - len(exits))
    for found, expected in zip(exits, report["expected"]):
        wanted = _exit_name(expected["code"])
        if kind == EXIT_CODE and (found is None or found["code"] != expected["code"]):
            return f"exit code {_exit_name(found['code']) if found else 'missing'} instead of {wanted}"
        if kind == SUM and found is not None and found["sum"] != expected["sum"]:
            return f"sum {found['sum']} instead of {expected['sum']}"
    return "exit codes that are not expected"


def _exit_name(text: str) -> str:
    code = as_int(text)
    name = _EXITS.get(code) if code is not None else None
    if code is not None and 0 <= code - _FIRST_EXCEPTION_EXIT < 32:  # an exception of the inner guest
        name = _EXCEPTIONS.get(code - _FIRST_EXCEPTION_EXIT)
    return f"{text} ({name})" if name else text
