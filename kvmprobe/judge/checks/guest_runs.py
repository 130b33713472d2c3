"""Does a guest run?"""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, CpuResult, Result, by_cpu, quote
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.runs import observed_run, other_runs, runs_by_cpu
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.values import IOCTL_REFUSED, NO_RESOURCES

if TYPE_CHECKING:
    from kvmprobe.model.evidence import GuestRun

_NOT_BAD = ("ok", "skipped", "refused")
_OWN_LIMITS = (*IOCTL_REFUSED, *NO_RESOURCES)  # not the host's fault: its ioctls were refused to this process


def guest_runs(facts: Facts) -> Result:
    """svm_vcpu_run() in arch/x86/kvm/svm/svm.c, which executes VMRUN.

    Reads what KVM_RUN gave on each CPU, or the KVM_RUN of a watched command.
    Reason: guest-failed, where the registers show SVME = 1; else the guest's failure shows nothing about SVM. An ioctl
    that was refused to this process, or exceeds its limits, is no failure of the guest.
    """
    runs = runs_by_cpu(facts)
    elsewhere = observed_run(facts)
    if not runs and elsewhere:
        return Result(PASS, f"the command's own guest ran ({elsewhere})")
    if not runs and other_runs(facts):
        return Result(UNKNOWN, f"whether the command's own guest ran is unknown ({'; '.join(other_runs(facts))})")
    if not runs:
        left_out = ", ".join(group(facts.guest_left_out()))
        return Result(SKIP, f"no guest was run{left_out and f': {left_out}'}")
    texts = {cpu: _text(run) for cpu, run in runs.items()}
    results = {cpu: _result(run) for cpu, run in runs.items()}
    parts = by_cpu(results, lambda cpu, result: CpuResult(_status(result), texts[cpu]))
    bad = {cpu: texts[cpu] for cpu, result in results.items() if result not in _NOT_BAD}
    if bad:
        message = f"the guest did not run to its end on {cpu_names(bad)}: {fold(bad)}"
        reason = "guest-failed" if facts.works() else None
        because = [*quote(facts.register_texts("created", "EFER"), "EFER"), *quote(texts, "guest", " ")]
        return Result(FAIL, message, reason, because=because, by_cpu=parts)
    skipped = {cpu: texts[cpu] for cpu, result in results.items() if result != "ok"}
    if not skipped:
        left_out = "".join(
            f"; not run on {cpu_names(cpus)} ({why})" for why, cpus in group(facts.guest_left_out()).items()
        )
        return Result(PASS, f"the guest ran to its end on {cpu_names(results)}{left_out}")
    message = f"the guest did not run on {cpu_names(skipped)}: {', '.join(group(skipped))}"
    return Result(SKIP if len(skipped) == len(results) else WARN, message, by_cpu=parts)


def _result(run: GuestRun) -> str:
    """The run's result; "refused" where an ioctl failed for what this process may do or has."""
    return "refused" if run["result"] == "failed" and run["error"] in _OWN_LIMITS else run["result"]


def _text(run: GuestRun) -> str:
    """The result of one run for people: "timeout: KVM_RUN", "ok"."""
    detail = " ".join(filter(None, (run["detail"], run["error"])))
    if run["result"] == "ok" or not detail:
        return run["result"]
    return detail if run["result"] == "skipped" else f"{run['result']}: {detail}"


def _status(result: str) -> str:
    return PASS if result == "ok" else SKIP if result in _NOT_BAD else FAIL
