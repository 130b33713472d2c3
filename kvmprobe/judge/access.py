"""From the module to the VM: kvm_amd, /dev/kvm, KVM_GET_API_VERSION, KVM_CREATE_VM."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check import FAIL, PASS, SKIP, UNKNOWN, Result, why_unread
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.watched import without_vm
from kvmprobe.model.cpu_lists import cpu_names, fold
from kvmprobe.model.values import HELD_ERRORS, KVM_API_VERSION, OTHER_OWNERS, error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LoadAttempt


def module(facts: Facts) -> Result:
    if facts.has_kvm_amd is None:
        return Result(UNKNOWN, "whether kvm_amd is there could not be read from /sys/module")
    if facts.has_kvm_amd:
        kvm_amd = facts.modules["kvm_amd"]
        shown = [f"{name}={value}" for name, value in kvm_amd["parameters"].items() if isinstance(value, str)]
        return Result(PASS, f"kvm_amd is {kvm_amd['state']}" + (f" ({', '.join(shown)})" if shown else ""))
    attempt = next((load for load in facts.evidence["loads"] if load["module"] == "kvm_amd"), None)
    message = _answer(attempt) if attempt else "kvm_amd is not there"
    if facts.vm_created:
        message += f"; {facts.backend_text()} answers instead"
    held = facts.held_before()
    if held:
        return _held(facts, f"{message}; EFER.SVME is 1 on {cpu_names(held)} already")
    if None in facts.register("before", "VM_CR").values() or not all(facts.svm().values()):
        unread = why_unread(facts.register_errors("before", "VM_CR"))
        return Result(FAIL, f"{message}, and whether CPU and firmware allow SVM is unknown{unread}", "msr-unreadable")
    # Only a refusal is the kernel's; modprobe may also be told to do nothing, or be missing.
    refused = attempt is not None and attempt["status"] not in (0, None)
    return Result(FAIL, message, "kvm-amd-load-failed" if refused else "kvm-amd-not-loaded")


def _answer(attempt: LoadAttempt) -> str:
    if attempt["status"] == 0:
        return "modprobe kvm_amd said success, and kvm_amd is not there (see 'install' lines in /etc/modprobe.d)"
    return f"modprobe kvm_amd: {attempt['output'] or attempt['status']}"


def _held(facts: Facts, message: str) -> Result:
    owners = [name for name in (*OTHER_OWNERS, *facts.backends()) if name in facts.modules]
    hint = f"Unload {' or '.join(owners)} if nothing uses it: it is loaded and may hold SVM." if owners else None
    return Result(FAIL, message, "svm-held-by-another-owner", hint)


_NOT_PERMITTED = ("EACCES", "EPERM")
_NO_RESOURCES = ("EMFILE", "ENFILE", "ENOMEM", "EINTR", "EAGAIN")


def tried(facts: Facts) -> bool:
    """Whether /dev/kvm was opened, or refused to be."""
    return facts.evidence["device"]["opened"] is not None


def device(facts: Facts) -> Result:
    device = facts.evidence["device"]
    path = device["path"]
    if device["opened"] is True:
        mode = f", mode {device['mode']} {device['owner']}:{device['group']}" if device["mode"] else ""
        return Result(PASS, f"{path} ({device['number']}{mode}) opens")
    held = facts.held_before()
    if device["registered"] is False and held:  # kvm_amd is built in and refused
        return _held(facts, f"the kernel has not registered KVM; EFER.SVME is 1 on {cpu_names(held)} already")
    if device["registered"] is False:
        node = f"{path} is a node without a driver" if device["type"] else f"there is no {path}"
        return Result(FAIL, f"{node}: the kernel has not registered KVM", "kvm-device-missing")
    if facts.watch and device["opened"] is None:
        return without_vm(facts.watch)
    if facts.passive and device["opened"] is None:
        return Result(SKIP, f"{path} was not to be opened")
    error = error_of(device["opened"])
    message = f"{path} cannot be opened: {error}"
    if error in _NOT_PERMITTED:
        mode = f" (mode {device['mode']}, {device['owner']}:{device['group']})" if device["mode"] else ""
        return Result(UNKNOWN, message + mode, "kvm-not-permitted")
    if error in _NO_RESOURCES:
        return Result(UNKNOWN, message, "kvm-not-permitted", "The process is short of a resource: try again.")
    return Result(FAIL, message, "kvm-device-missing")


def api_version(facts: Facts) -> Result:
    answer = facts.evidence["ioctls"]["KVM_GET_API_VERSION"]
    if answer == KVM_API_VERSION:
        return Result(PASS, f"KVM_GET_API_VERSION = {answer}")
    if facts.watch and answer is None:
        return Result(SKIP, "the command did not ask")
    if facts.passive and answer is None:
        return Result(SKIP, "was not to be asked")
    shown = error_of(answer) or answer
    return Result(FAIL, f"KVM_GET_API_VERSION = {shown}, not {KVM_API_VERSION}", "api-version")


def create_vm(facts: Facts) -> Result:
    if facts.vm_created:
        return Result(PASS, "KVM_CREATE_VM gave a VM")
    error = error_of(facts.create_vm)
    if facts.watch and error is None:
        return without_vm(facts.watch)
    if facts.passive and error is None:
        return _not_to_be_made(facts)
    if error is None:
        return Result(UNKNOWN, "KVM_CREATE_VM was not tried")
    message = f"KVM_CREATE_VM failed: {error}"
    held = facts.held_before()
    if held and error in HELD_ERRORS and not facts.kvm_holds_svm():
        return _held(facts, f"{message}; EFER.SVME was 1 on {cpu_names(held)} before it, and not by KVM")
    return Result(FAIL, message, "create-vm-failed")


_ACTIVE_HINT = "Run kvmprobe without --passive: only a VM shows whether the kernel can use SVM."


def _not_to_be_made(facts: Facts) -> Result:
    """Of a passive probe: a failure where KVM_CREATE_VM cannot but fail, else what nobody can know without a VM."""
    held = facts.held_before()
    seen = facts.evidence["uevents"]["source"] and not facts.foreign_events()  # no VM that came and went unnoticed
    # Whoever holds a VM may be out of our sight; kvm_amd's reference count, where there is one, knows of all.
    unused = "kvm_amd" in facts.modules and facts.modules["kvm_amd"]["refcount"] == 0
    if held and seen and unused and not facts.enables_at_load() and facts.other_vms() is None:
        return _held(facts, f"no VM is alive, and EFER.SVME is 1 on {cpu_names(held)}: KVM_CREATE_VM would fail")
    for name in ("EFER", "VM_CR"):
        if None in facts.register("before", name).values():
            unread = why_unread(facts.register_errors("before", name))
            return Result(UNKNOWN, f"no VM was to be made, and {name} could not be read{unread}", "msr-unreadable")
    efer = fold(facts.register("before", "EFER"))
    clear = [cpu for cpu, value in facts.svme("before").items() if value is False]
    if facts.has_kvm_amd and facts.enables_at_load() and clear:
        stands = f"kvm.enable_virt_at_load=Y, but EFER.SVME is 0 on {cpu_names(clear)}"
    else:
        stands = "nothing that was read stands in the way"
    message = f"no VM was to be made; {stands} (EFER {efer})"
    return Result(UNKNOWN, message, "interfered", _ACTIVE_HINT)
