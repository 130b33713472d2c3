"""Does a guest run in a guest?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, CpuResult, Result, by_cpu, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.nested_rules import (
    NOT_RUN,
    PAGING,
    WORKS,
    kind_of,
    offers_svm,
    short_text_of,
    text_of,
    why_none_ran,
)

if TYPE_CHECKING:
    from typing import Callable

    from kvmprobe.model.evidence import GuestRun

_CALL = "KVM_GET_SUPPORTED_CPUID"


def nested_svm(facts: Facts) -> Result:
    """nested_svm_vmrun() in arch/x86/kvm/svm/nested.c, which carries out the VMRUN of a guest.

    Reads what KVM offers to guests, and what the guest in kvmprobe's guest gave on each CPU. Without --nested the
    evidence has neither, and this check is left out.
    Reasons: nested-guest-failed, also where KVM does not offer SVM to guests; nested-guest-not-run, where the guest in
    the guest ran on no CPU.
    """
    nested = facts.evidence["nested"]
    if not any(nested["runs"].values()) and _has_other_backend(facts):
        return Result(SKIP, f"no guest was run in a guest, which needs kvm_amd: KVM {facts.answers_through()}")
    if offers_svm(nested) is False:
        found = f"{_CALL} 0x80000001 ECX.SVM = 0"
        return Result(FAIL, f"KVM does not offer SVM to guests: {found}", "nested-guest-failed", because=[found])
    runs = {paging: _runs_by_cpu(of_paging) for paging, of_paging in nested["runs"].items()}
    parts = by_cpu(_by_cpu(runs), lambda _, part: CpuResult(*part))
    bad = _texts(runs, lambda kind: kind not in (WORKS, NOT_RUN))
    if bad:
        because = [line for paging, texts in bad.items() for line in quote(texts, PAGING[paging], ": ")]
        short = _texts(runs, lambda kind: kind not in (WORKS, NOT_RUN), short_text_of)
        failed = _grouped({paging: f"on {cpu_names(texts)}: {fold(texts)}" for paging, texts in short.items()})
        message = f"the guest in the guest failed {'; '.join(failed)}"
        return Result(FAIL, message, "nested-guest-failed", because=because, by_cpu=parts)
    good = _texts(runs, lambda kind: kind == WORKS)
    not_run = _texts(runs, lambda kind: kind == NOT_RUN)
    if not good:
        why = _why_nowhere(facts)
        return Result(UNKNOWN, f"no guest ran in a guest: {why}", "nested-guest-not-run", because=[why], by_cpu=parts)
    ran = _grouped({paging: f"on {cpu_names(texts)}" for paging, texts in good.items()})
    message = f"the guest in the guest computed, and left by VMMCALL and HLT, {'; '.join(ran)}"
    message += "; KVM offers no nested paging to guests" if "nested" not in runs else ""
    left_out = [f"on {cpu_names(cpus)} ({why})" for why, cpus in group(facts.guest_left_out()).items()]
    left_out += _grouped({paging: f"on {cpu_names(texts)} ({fold(texts)})" for paging, texts in not_run.items()})
    message += "".join(f"; not run {text}" for text in left_out)
    return Result(WARN if not_run else PASS, message, by_cpu=parts)


def _has_other_backend(facts: Facts) -> bool:
    """Whether KVM answers without kvm_amd. Where the registers show SVM at work, /sys/module does not decide."""
    return facts.kvm_without_svm() or (facts.has_kvm_amd is False and not facts.works())


def _runs_by_cpu(runs: list[GuestRun]) -> dict[int, GuestRun]:
    """By CPU. Of several runs on a CPU one that failed counts."""
    found: dict[int, GuestRun] = {}
    for run in runs:
        earlier = found.get(run["cpu"])
        if earlier is None or kind_of(earlier) in (WORKS, NOT_RUN):
            found[run["cpu"]] = run
    return found


def _texts(
    runs: dict[str, dict[int, GuestRun]], wanted: Callable[[str], bool], text: Callable[[GuestRun], str] = text_of
) -> dict[str, dict[int, str]]:
    """The texts of the runs whose kind is wanted, by paging and CPU, without a paging that has none."""
    texts = {
        paging: {cpu: text(run) for cpu, run in of_paging.items() if wanted(kind_of(run))}
        for paging, of_paging in runs.items()
    }
    return {paging: of_paging for paging, of_paging in texts.items() if of_paging}


def _grouped(texts: dict[str, str]) -> list[str]:
    """["with nested paging and shadow paging on cpu0-1"]: each text once, after the kinds of paging that have it."""
    groups: dict[str, list[str]] = {}
    for paging, text in texts.items():
        groups.setdefault(text, []).append(PAGING[paging])
    return [f"with {' and '.join(pagings)} {text}" for text, pagings in groups.items()]


def _by_cpu(runs: dict[str, dict[int, GuestRun]]) -> dict[int, tuple[str, str]]:
    """Status and text of each CPU, over both kinds of paging."""
    kinds: dict[int, set[str]] = {}
    texts: dict[int, list[str]] = {}
    for paging, of_paging in runs.items():
        for cpu, run in of_paging.items():
            kinds.setdefault(cpu, set()).add(kind_of(run))
            texts.setdefault(cpu, []).append(f"{PAGING[paging]}: {text_of(run)}")
    return {cpu: (_status(found), "; ".join(texts[cpu])) for cpu, found in sorted(kinds.items())}


def _status(kinds: set[str]) -> str:
    if kinds - {WORKS, NOT_RUN}:
        return FAIL
    return PASS if WORKS in kinds else SKIP


def _why_nowhere(facts: Facts) -> str:
    """Why no guest ran in a guest, for people."""
    nested = facts.evidence["nested"]
    if nested["supported_cpuid"] is None:
        missing = (
            "kvm_amd is not in /sys/module" if facts.has_kvm_amd is False else "whether kvm_amd is there is unknown"
        )
        return missing if facts.vm_created else "no VM was created"
    return why_none_ran(nested) or ", ".join(group(facts.guest_left_out())) or "the guest itself was not run"
