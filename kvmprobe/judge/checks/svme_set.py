"""Did KVM set EFER.SVME on every CPU?"""

from __future__ import annotations

from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, CpuResult, Result, by_cpu, quote, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.runs import cpus_shown_by_guest, observed_run, other_runs, runs_by_cpu
from kvmprobe.judge.svme_unowned import is_left_by_kvm, overrun_cpus
from kvmprobe.model.cpu_lists import cpu_names, fold


def svme_set(facts: Facts) -> Result:
    """svm_hardware_enable(), since 6.12 svm_enable_virtualization_cpu(), in arch/x86/kvm/svm/svm.c.

    Reads EFER before and after KVM_CREATE_VM, kvm.enable_virt_at_load, and what shows other VMs.
    Reasons when it passes: svme-set-by-create-vm, svme-set-at-module-load, svme-set-by-another-vm.
    Else: svme-not-set, msr-unreadable, guest-not-run, svme-owner-unknown, interfered; svme-not-cleared where KVM left
    it set without a VM; svm-held-by-another-owner where KVM cleared what another owner had set.
    """
    created = facts.svme("created")
    values = facts.register("created", "EFER")
    if facts.kvm_without_svm() and not any(created.values()):
        return Result(SKIP, f"{facts.backend_text()} does not use EFER.SVME (EFER = {fold(values)})")
    steps = facts.efer_steps()
    because = quote(steps, "EFER", " ") or ["no CPU was online during the whole probe"]
    before, texts = facts.svme("before"), facts.register_texts("before", "EFER")
    # A CPU that differs before KVM_CREATE_VM counts only where none does after it.
    mixed = len(set(before.values())) > 1 and all(created.values())
    parts = by_cpu(
        {cpu: (texts.get(cpu), value) for cpu, value in values.items()},
        lambda cpu, _: _of_cpu(before.get(cpu, False), created[cpu], steps[cpu], mixed),
    )
    clear = [cpu for cpu, value in created.items() if value is False]
    if clear:
        message = f"EFER = {fold(values)} after KVM_CREATE_VM: SVME is 0 on {cpu_names(clear)}"
        return Result(FAIL, message, "svme-not-set", because=because, by_cpu=parts)
    for when, phase in (("after", "created"), ("before", "before")):
        svme = facts.svme(phase)
        if None in svme.values() or not svme:
            result = _unread(facts, when, phase, because)
            result.by_cpu = parts
            return result
    result = _attribute(facts, f"EFER {fold(steps)}")
    result.because = because + result.because
    if parts and result.reason == "svm-held-by-another-owner":
        text = "SVME was another owner's before KVM_CREATE_VM, and KVM cleared it"
        parts.update((cpu, CpuResult(FAIL, f"EFER {steps[cpu]}: {text}")) for cpu in overrun_cpus(facts))
    result.by_cpu = result.by_cpu or parts
    if result.status == PASS and not facts.online_is_known:
        message = f"{result.message}; which other CPUs are online is unknown"
        return Result(UNKNOWN, message, "msr-unreadable", _LIST_HINT, [*result.because, _NO_LIST], result.by_cpu)
    return result


_NOBODY = "KVM's uevents: no other VM; kvm_amd: reference count 0 before the probe"
_NO_LIST = "/sys/devices/system/cpu/online and /proc/cpuinfo: could not be read"
_LIST_HINT = "Run `kvmprobe` where /proc and /sys are mounted: they show whether these are all CPUs of this host."
_WATCH_HINT = "Watch a command whose guest runs, or run `kvmprobe watch` without one: it then watches its own guest."
_AGAIN_HINT = "Run `kvmprobe` again while no CPU goes offline or comes online."


def _unread(facts: Facts, when: str, phase: str, because: list[str]) -> Result:
    """EFER was not read on a CPU that was there. What a CPU that came or went would have shown, another run shows."""
    unread = [cpu for cpu, value in facts.svme(phase).items() if value is None]
    where = f"on {cpu_names(unread)}" if unread else "on any CPU"
    message = f"EFER {when} KVM_CREATE_VM could not be read {where}"
    message += why_unread(facts.register_errors(phase, "EFER"))
    moved = [cpu for cpu in unread if cpu in facts.came_or_went]
    if moved:
        message += f"; {cpu_names(moved)} came or went during the probe"
    if cpus_shown_by_guest(facts):
        return Result(UNKNOWN, message)  # The check of the guest has the reason.
    hint = _AGAIN_HINT if moved and moved == unread else None
    return Result(UNKNOWN, message, "msr-unreadable", hint, because)


def _attribute(facts: Facts, steps: str) -> Result:
    """SVME is 1 on every CPU: who set it, and when?"""
    before = facts.svme("before")
    there = facts.there("created")
    cpus = cpu_names(there)
    if facts.came_or_went:
        steps += f"; {cpu_names(facts.came_or_went)} came or went during the probe"
    # An open /dev/kvm is enough: if SVME were another owner's, KVM would have refused to create a VM.
    others = facts.other_vms() or facts.users()
    shows = [others] if others else []
    if not any(before.values()):
        if facts.vms_alive_at_create():
            message = f"SVME was 0 before KVM_CREATE_VM, and another VM was alive after it: {steps}; {others}"
            return Result(UNKNOWN, message, "interfered", because=shows)
        created = facts.vms_created_in_unknown_order()
        if created:
            message = f"KVM's uevents show {created} VMs created, and not which was the first to set SVME: {steps}"
            return Result(UNKNOWN, message, "interfered", because=[f"KVM's uevents: {created} VMs created"])
        result = Result(PASS, f"KVM_CREATE_VM set EFER.SVME on {cpus}: {steps}", "svme-set-by-create-vm")
        # On a CPU that came later nothing was read before.
        came = [cpu for cpu in there if cpu not in before]
        return _needs_guest(facts, result, came) if came else result
    if not all(before.values()):
        clear = [cpu for cpu, value in before.items() if not value]
        was = f"SVME was 1 on {cpu_names(facts.svme_set_before())} and 0 on {cpu_names(clear)}"
        message = f"before KVM_CREATE_VM {was}: {steps}"
        if others:
            return Result(UNKNOWN, f"{message}; {others}", "interfered", because=shows)
        owned = overrun_cpus(facts)
        return _overran(owned, steps) if owned else Result(UNKNOWN, message, "svme-owner-unknown")
    if facts.enabled_at_load():
        message = f"kvm_amd set EFER.SVME on {cpus} when it was loaded: {steps}"
        shows = ["kvm.enable_virt_at_load=Y"]
        return _needs_guest(facts, Result(PASS, message, "svme-set-at-module-load", because=shows), there)
    if others:
        message = f"EFER.SVME was set on {cpus} for other VMs before KVM_CREATE_VM: {steps}; {others}"
        return _needs_guest(facts, Result(PASS, message, "svme-set-by-another-vm", because=shows), there)
    if is_left_by_kvm(facts):
        message = f"SVME is 1 on {cpus} without any VM, with KVM's own pages in VM_HSAVE_PA: {steps}"
        return Result(FAIL, message, "svme-not-cleared", because=[_NOBODY])
    owned = overrun_cpus(facts)
    if owned:
        return _overran(owned, steps)
    message = f"SVME was 1 before KVM_CREATE_VM, and nothing shows who set it: {steps}"
    return Result(UNKNOWN, message, "svme-owner-unknown")


def _overran(cpus: list[int], steps: str) -> Result:
    """Another owner had SVM on `cpus`, and KVM took it and switched it off."""
    owned = f"SVME was another owner's on {cpu_names(cpus)}"
    message = f"KVM_CREATE_VM succeeded although {owned}, and cleared it there: {steps}"
    return Result(FAIL, message, "svm-held-by-another-owner", because=["KVM_CREATE_VM: ok", _NOBODY])


def _needs_guest(facts: Facts, result: Result, cpus: list[int]) -> Result:
    """Where SVME did not change, only a guest shows that SVM works: ours on each of `cpus`, or a watched command's."""
    elsewhere = observed_run(facts)
    if facts.watch and not facts.watch["own"] and elsewhere:
        result.message += "; the command's own guest ran"
        result.because.append(elsewhere)
        return result
    if facts.watch and not facts.watch["own"]:
        message = f"{result.message}; no KVM_RUN of the command shows that its guest ran"
        because = [*result.because, *(other_runs(facts) or ["KVM_RUN: none that succeeded"])]
        return Result(UNKNOWN, message, "guest-not-run", _WATCH_HINT, because)
    found = runs_by_cpu(facts)
    runs = {cpu: found[cpu]["result"] if cpu in found else "not run" for cpu in cpus}
    result.because += quote(runs, "guest", " ")
    missing = [cpu for cpu, value in runs.items() if value != "ok"]
    if missing:
        message = f"{result.message}; no guest ran to its end on {cpu_names(missing)}"
        hint = _AGAIN_HINT if set(missing) <= set(facts.came_or_went) else None
        return Result(UNKNOWN, message, "guest-not-run", hint, result.because, by_cpu(runs, _of_guest))
    return result


def _of_guest(_: int, run: str) -> CpuResult:
    return CpuResult(PASS if run == "ok" else UNKNOWN, f"SVME is 1; guest {run}")


def _of_cpu(before: bool | None, created: bool | None, steps: str, mixed_before: bool) -> CpuResult:
    if created is False:
        return CpuResult(FAIL, f"EFER {steps}: SVME is 0 after KVM_CREATE_VM")
    if created is None or before is None:
        return CpuResult(UNKNOWN, f"EFER {steps}: it could not be read")
    if before and mixed_before:
        return CpuResult(UNKNOWN, f"EFER {steps}: SVME was 1 before KVM_CREATE_VM")
    return CpuResult(PASS, f"EFER {steps}: SVME is 1 after KVM_CREATE_VM")
