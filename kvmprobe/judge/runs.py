"""What the evidence shows of guests that ran: kvmprobe's own on each CPU, or a watched command's."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.model.own_errors import was_refused
from kvmprobe.model.printable import process_text
from kvmprobe.model.registers import svme
from kvmprobe.model.values import GUEST_RAN_EXITS

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import WatchedCall
    from kvmprobe.model.evidence import GuestRun


BAD = ("wrong", "failed", "timeout")
_WORST_LAST = ("skipped", "refused", "ok", *BAD)


def runs_by_cpu(facts: Facts) -> dict[int, GuestRun]:
    """By CPU, also those that came or went. Of several runs on a CPU one that failed counts, else one that ran."""
    found: dict[int, GuestRun] = {}
    for run in facts.evidence["guest"]:
        earlier = found.get(run["cpu"])
        if earlier is None or _WORST_LAST.index(result_of(earlier)) < _WORST_LAST.index(result_of(run)):
            found[run["cpu"]] = run
    return dict(sorted(found.items()))


def result_of(run: GuestRun) -> str:
    """The run's result; "refused" where an ioctl failed for what this process may do or has."""
    return "refused" if was_refused(run) else run["result"]


def text_of_run(run: GuestRun) -> str:
    """The result of one run for people: "timeout: KVM_RUN", "ok"."""
    detail = " ".join(filter(None, (run["detail"], run["error"])))
    if run["result"] == "ok" or not detail:
        return run["result"]
    return detail if run["result"] == "skipped" else f"{run['result']}: {detail}"


def cpus_shown_by_guest(facts: Facts) -> list[int]:
    """The CPUs on which a guest shows that SVM works, where no EFER could be read; [] where nothing shows it.

    VMRUN raises #UD where EFER.SVME is 0 (AMD APM volume 2, 15.5), and kvm_amd runs every guest by VMRUN. So it has to
    be KVM's only backend. A guest that failed on some CPU shows nothing about the others.
    """
    snapshots = facts.evidence["snapshots"]
    read = any(svme(registers["EFER"]) is not None for one in snapshots for registers in one["cpus"].values())
    if not facts.vm_created or not facts.has_snapshot("created") or read:
        return []
    kvm_amd = facts.modules.get("kvm_amd")
    if kvm_amd is None or kvm_amd["state"] not in ("live", "builtin") or facts.backends() or facts.kvm_without_svm():
        return []
    results = {cpu: result_of(run) for cpu, run in runs_by_cpu(facts).items()}
    return [] if set(results.values()) & set(BAD) else [cpu for cpu, result in results.items() if result == "ok"]


def observed_run(facts: Facts) -> str | None:
    """The first KVM_RUN of a watched command in which its guest ran, for people; None without one."""
    return next((text for call, text in _watched_runs(facts) if call.get("exit_reason") in GUEST_RAN_EXITS), None)


def other_runs(facts: Facts) -> list[str]:
    """The KVM_RUN of a watched command that succeeded and do not show that its guest ran, for people."""
    return [text for call, text in _watched_runs(facts) if call.get("exit_reason") not in GUEST_RAN_EXITS]


def _watched_runs(facts: Facts) -> Iterator[tuple[WatchedCall, str]]:
    for call in facts.watch["calls"] if facts.watch else ():
        if call["name"] == "KVM_RUN" and call["answer"] == 0:  # kvm_vcpu_ioctl() gives no other answer for success
            thread = f", thread {call['tid']}" if call["tid"] != call["pid"] else ""
            exit = call.get("exit_reason") or "exit reason unknown"
            yield call, f"KVM_RUN = {call['answer']} ({exit}) in {process_text(call['comm'], call['pid'])}{thread}"
