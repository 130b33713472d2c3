"""Does a guest run?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN, CpuResult, Result, by_cpu, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.runs import BAD, cpus_shown_by_guest, observed_run, other_runs, result_of, runs_by_cpu, text_of_run
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.registers import SNAPSHOT_REGISTERS


def guest_runs(facts: Facts) -> Result:
    """svm_vcpu_run() in arch/x86/kvm/svm/svm.c, which executes VMRUN.

    Reads what KVM_RUN gave on each CPU, or the KVM_RUN of a watched command.
    Reasons: guest-failed, where the registers show SVME = 1; else the guest's failure shows nothing about SVM.
    guest-ran, where no register could be read and the guest shows that SVM works. An ioctl that was refused to this
    process, or exceeds its limits, is no failure of the guest.
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
    texts = {cpu: text_of_run(run) for cpu, run in runs.items()}
    results = {cpu: result_of(run) for cpu, run in runs.items()}
    parts = by_cpu(results, lambda cpu, result: CpuResult(_status(result), texts[cpu]))
    bad = {cpu: texts[cpu] for cpu, result in results.items() if result in BAD}
    if bad:
        message = f"the guest did not run to its end on {cpu_names(bad)}: {fold(bad)}"
        reason = "guest-failed" if facts.works() else None
        because = [*quote(facts.register_texts("created", "EFER"), "EFER"), *quote(texts, "guest", " ")]
        return Result(FAIL, message, reason, because=because, by_cpu=parts)
    skipped = {cpu: texts[cpu] for cpu, result in results.items() if result != "ok"}
    shown = cpus_shown_by_guest(facts)
    if shown:
        why = {**facts.guest_left_out(), **texts}
        others = {cpu: why.get(cpu, "not run") for cpu in facts.there("created") if cpu not in shown}
        return _guest_ran(facts, shown, others, parts)
    if not skipped:
        left_out = "".join(
            f"; not run on {cpu_names(cpus)} ({why})" for why, cpus in group(facts.guest_left_out()).items()
        )
        return Result(PASS, f"the guest ran to its end on {cpu_names(results)}{left_out}")
    message = f"the guest did not run on {cpu_names(skipped)}: {', '.join(group(skipped))}"
    return Result(SKIP if len(skipped) == len(results) else WARN, message, by_cpu=parts)


def _guest_ran(facts: Facts, cpus: list[int], others: dict[int, str], parts: dict[int, CpuResult]) -> Result:
    """No register shows SVME, and the guest shows it on `cpus`; `others`: why it did not run on the others."""
    errors = facts.register_texts("created", "EFER")
    state = facts.modules["kvm_amd"]["state"]
    message = f"a guest ran to its end on {cpu_names(cpus)}, and kvm_amd is KVM's only backend"
    message += f"; not on {cpu_names(others)}: {', '.join(group(others))}" if others else ""
    unread = ", ".join(_unread(facts))
    message += f"; {unread} could not be read{why_unread(facts.register_errors('created', 'EFER'))}"
    because = [f"{cpu_names(cpus)}: guest ok", f"kvm_amd is {state}, no other backend", *quote(errors, "EFER")]
    return Result(PASS, message, "guest-ran", because=because, by_cpu=parts)


def _unread(facts: Facts) -> list[str]:
    """The registers that could not be read on some CPU while the VM lived."""
    names = [register.name for register in SNAPSHOT_REGISTERS]
    return [name for name in names if None in facts.register("created", name).values()]


def _status(result: str) -> str:
    return PASS if result == "ok" else FAIL if result in BAD else SKIP
