"""Did the kernel set EFER.SVME on every CPU, does SVM work there, and is it given back? svm_hardware_enable() and
its pair in arch/x86/kvm/svm/svm.c."""

from __future__ import annotations

from kvmprobe.judge.check import FAIL, PASS, SKIP, UNKNOWN, WARN, Result, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, fold, group
from kvmprobe.model.values import SNAPSHOT_PHASES


def svme(facts: Facts) -> Result:
    """Gives the confirming reason when it passes."""
    created = facts.svme("created")
    values = facts.register("created", "EFER")
    if facts.kvm_without_svm() and not any(created.values()):
        return Result(SKIP, f"{facts.backend_text()} has no use for EFER.SVME (EFER {fold(values)})")
    clear = [cpu for cpu, value in created.items() if value is False]
    if clear:
        return Result(FAIL, f"EFER = {fold(values)}: SVME is 0 on {cpu_names(clear)}", "svme-not-set")
    if None in created.values() or not created:
        unread = why_unread(facts.register_errors("created", "EFER"))
        return Result(UNKNOWN, f"EFER after KVM_CREATE_VM: {fold(values)}{unread}", "msr-unreadable")
    return _attribute(facts)


def _attribute(facts: Facts) -> Result:
    """SVME is 1 on every CPU: who set it, and when?"""
    story = _story(facts)
    before = facts.svme("before")
    # A mere user will do: where SVME was not KVM's own, KVM would have refused to make a VM.
    others = facts.other_vms() or facts.users()
    cpus = cpu_names(facts.cpus)
    if facts.gone:
        story += f"; {cpu_names(facts.gone)} came or went during the probe"
    if None in before.values() or not before:
        unread = why_unread(facts.register_errors("before", "EFER"))
        return Result(UNKNOWN, f"{story}; EFER was not readable before{unread}", "msr-unreadable")
    if not any(before.values()):
        if facts.vms_alive_at_create():
            return Result(UNKNOWN, f"{story}; {others}: who set SVME cannot be told", "interfered")
        return Result(PASS, f"KVM_CREATE_VM set EFER.SVME on {cpus}: {story}", "svme-set-by-create-vm")
    if not all(before.values()):
        return Result(UNKNOWN, f"{story}; SVME was changing before KVM_CREATE_VM", "interfered")
    if facts.has_kvm_amd and facts.enables_at_load():
        message = f"kvm_amd set EFER.SVME on {cpus} when it was loaded: {story}"
        return _needs_guest(facts, Result(PASS, message, "svme-set-at-module-load"))
    if others:
        message = f"EFER.SVME was already set on {cpus} for other VMs: {story}; {others}"
        return _needs_guest(facts, Result(PASS, message, "svme-set-by-another-vm"))
    return Result(UNKNOWN, f"{story}; SVME was 1 before, and nothing shows by whom", "interfered")


def _needs_guest(facts: Facts, result: Result) -> Result:
    """Where SVME did not change, only a guest proves that it works: ours on every CPU, or a watched command's."""
    ran_elsewhere = facts.witnessed_run()
    if facts.watch and not facts.watch["own"] and ran_elsewhere:
        return Result(PASS, f"{result.message}; the command's own guest ran", result.reason)
    ran = {run["cpu"] for run in facts.evidence["guest"] if run["result"] == "ok"}
    missing = [cpu for cpu in facts.cpus if cpu not in ran]
    if missing:
        return Result(UNKNOWN, f"{result.message}; no guest ran on {cpu_names(missing)} to prove it", "interfered")
    return result


def _story(facts: Facts) -> str:
    # Without the last snapshot the VM of a watched process is alive still.
    phases = [phase for phase in SNAPSHOT_PHASES if phase != "closed" or not facts.watch or facts.has_snapshot(phase)]
    steps = {phase: fold(facts.register(phase, "EFER")) for phase in phases}
    if any(", " in step for step in steps.values()):
        return "EFER " + "; ".join(f"{phase}: {step}" for phase, step in steps.items())
    return "EFER " + " → ".join(steps.values())


def guest(facts: Facts) -> Result:
    runs = [run for run in facts.evidence["guest"] if run["cpu"] not in facts.gone]
    elsewhere = facts.witnessed_run()
    if not runs and elsewhere:
        return Result(PASS, f"the command's own guest ran ({elsewhere})")
    if not runs:
        return Result(SKIP, "no guest was run")
    bad = [run for run in runs if run["result"] not in ("ok", "skipped")]
    if bad:
        what = fold({run["cpu"]: f"{run['result']}: {run['detail']} {run['error'] or ''}".strip() for run in bad})
        # Without a register that says SVME = 1, the guest's failure shows nothing about SVM.
        reason = "guest-failed" if facts.works() else None
        return Result(
            FAIL, f"the guest did not run to its end: {what} ({cpu_names(run['cpu'] for run in bad)})", reason
        )
    ran = [run["cpu"] for run in runs if run["result"] == "ok"]
    skipped = {run["cpu"]: f"{run['detail']} {run['error'] or ''}".strip() for run in runs if run["result"] != "ok"}
    if not skipped:
        return Result(PASS, f"KVM_RUN: the guest computed, wrote and halted on {cpu_names(ran)}")
    text = f"the guest was not run on {cpu_names(skipped)}: {', '.join(group(skipped))}"
    return Result(WARN if ran else SKIP, text)


def release(facts: Facts) -> Result:
    before, closed = facts.svme("before"), facts.svme("closed")
    if facts.kvm_without_svm() and not any(closed.values()):
        return Result(SKIP, "nothing was set that could be given back")
    if facts.watch and not facts.has_snapshot("closed"):
        return Result(SKIP, "a watched VM was alive at the end")
    text = f"EFER = {fold(facts.register('closed', 'EFER'))}"
    if None in closed.values() or not closed or None in before.values():
        unread = why_unread(facts.register_errors("closed", "EFER"))
        return Result(UNKNOWN, f"{text}{unread}; what it should be cannot be told")
    still = [cpu for cpu, value in closed.items() if value]
    lost = [cpu for cpu, value in closed.items() if not value]
    if facts.has_kvm_amd and facts.enables_at_load():
        if lost:
            message = f"{text}: SVME is 0 on {cpu_names(lost)} although kvm.enable_virt_at_load=Y"
            return Result(FAIL, message, "svme-not-set")
        return Result(PASS, f"{text}: SVME stays 1, as kvm.enable_virt_at_load=Y promises")
    if not still:
        return Result(PASS, f"{text}: SVME is 0 again")
    if all(before.values()):
        return Result(PASS, f"{text}: SVME stays as it was before the probe")
    others = _others_after(facts)
    if others:
        return Result(WARN, f"{text}: SVME stays for other VMs ({others})")
    if any(before.values()):
        return Result(UNKNOWN, f"{text}: SVME was changing before the probe already")
    if len(still) == len(closed) and facts.evidence["uevents"]["source"] is None:
        message = f"{text}: SVME stays, and without KVM's uevents it cannot be told whether for another VM"
        return Result(UNKNOWN, message, "interfered")
    return Result(FAIL, f"{text}: the last VM is gone, and SVME is 1 on {cpu_names(still)}", "svme-not-cleared")


def _others_after(facts: Facts) -> str | None:
    """Evidence that other VMs may be alive when ours is gone."""
    events = facts.foreign_events()
    if events:
        names = {f"{event['comm'] or '?'}[{event['pid']}]" for event in events}
        return f"KVM's uevents show VMs of {', '.join(sorted(names))} coming or going"
    return facts.other_vms()
