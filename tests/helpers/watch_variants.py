"""Evidence of a watch, changed: a guest of our own that contradicts ptrace, and commands that took another way."""

from __future__ import annotations

from collections.abc import Callable

from tests.helpers.evidence_changes import cpu1_went, foreign_event, users
from tests.helpers.variants import Evidence, Variant, each, through_kvm_pvm

OWN = "watch/bookworm-own"
OWN_AT_LOAD = "watch/trixie-own"
QEMU = "watch/bookworm-qemu"
QEMU_AT_LOAD = "watch/trixie-qemu"


def other_efer(evidence: Evidence) -> None:
    for snapshot in evidence["watch"]["said"]["snapshots"]:
        if snapshot["phase"] == "created":
            snapshot["cpus"]["1"]["EFER"] = "0xd01"


def other_vm_cr(evidence: Evidence) -> None:
    evidence["watch"]["said"]["snapshots"][0]["cpus"]["0"]["VM_CR"] = "0x8"


def efer_unread_by_the_guest(evidence: Evidence) -> None:
    for snapshot in evidence["watch"]["said"]["snapshots"]:
        snapshot["cpus"]["1"]["EFER"] = {"error": "EIO"}


def snapshots_without_cpu1(evidence: Evidence) -> None:
    for snapshot in evidence["watch"]["said"]["snapshots"]:
        del snapshot["cpus"]["1"]


def other_efer_without_uevents(evidence: Evidence) -> None:
    other_efer(evidence)
    evidence["uevents"].update(source=None, error="no pyudev", events=[])


def other_version(evidence: Evidence) -> None:
    evidence["watch"]["said"]["ioctls"]["KVM_GET_API_VERSION"] = 13


def other_vm(evidence: Evidence) -> None:
    evidence["watch"]["said"]["ioctls"]["KVM_CREATE_VM"] = {"error": "EPERM"}


def run_not_observed(evidence: Evidence) -> None:
    evidence["watch"]["calls"] = [call for call in evidence["watch"]["calls"] if call["name"] != "KVM_RUN"]


def own_died(evidence: Evidence) -> None:
    evidence["watch"].update(ended="killed", status=9, said=None)
    evidence["guest"] = []


def create_did_not_return(evidence: Evidence) -> None:
    evidence["watch"].update(ended="killed", status=9)
    evidence["watch"]["calls"] = evidence["watch"]["calls"][:2]
    evidence["watch"]["calls"][1].update(answer=None, exit=None)
    evidence["ioctls"]["KVM_CREATE_VM"] = None
    evidence["snapshots"] = evidence["snapshots"][:1]


def never_opened(evidence: Evidence) -> None:
    create_did_not_return(evidence)
    evidence["watch"]["calls"] = []
    evidence["device"]["opened"] = None
    evidence["ioctls"]["KVM_GET_API_VERSION"] = None


def did_not_ask(evidence: Evidence) -> None:
    evidence["watch"]["calls"] = evidence["watch"]["calls"][1:]
    evidence["ioctls"]["KVM_GET_API_VERSION"] = None


def lives_on(evidence: Evidence) -> None:
    evidence["watch"].update(ended="detached", status=None)
    evidence["snapshots"] = evidence["snapshots"][:2]


def attached_to(evidence: Evidence) -> None:
    evidence["watch"].update(command=None, ended="detached", status=None)


def attached_too_late(evidence: Evidence) -> None:
    never_opened(evidence)
    attached_to(evidence)


def own_guest_did_not_run(evidence: Evidence) -> None:
    for run in evidence["watch"]["said"]["guest"]:
        run.update(result="skipped", detail="sched_setaffinity", error="EINVAL")
    evidence["guest"] = []
    run_not_observed(evidence)


def run_failed(evidence: Evidence) -> None:
    for call in evidence["watch"]["calls"]:
        if call["name"] == "KVM_RUN":
            call["answer"] = {"error": "EINTR"}


def run_answered(answer: int) -> Callable[[Evidence], None]:
    """KVM_RUN succeeds with 0 alone."""

    def change(evidence: Evidence) -> None:
        for call in evidence["watch"]["calls"]:
            if call["name"] == "KVM_RUN":
                call["answer"] = answer

    return change


def no_vm_of_kvm_pvm(evidence: Evidence) -> None:
    never_opened(evidence)
    through_kvm_pvm(evidence)


def never_opened_or_registered(evidence: Evidence) -> None:
    never_opened(evidence)
    evidence["device"].update(registered=False, type=None)


def may_not_open(evidence: Evidence) -> None:
    never_opened(evidence)
    evidence["device"]["opened"] = {"error": "EACCES"}


def other_version_of_kvm(evidence: Evidence) -> None:
    never_opened(evidence)
    evidence["device"]["opened"] = True
    evidence["ioctls"]["KVM_GET_API_VERSION"] = 13


def other_calls(evidence: Evidence) -> None:
    """Calls of KVM, and no KVM_CREATE_VM."""
    create_did_not_return(evidence)
    del evidence["watch"]["calls"][1]


def vm_unknown_to_the_guest(evidence: Evidence) -> None:
    evidence["watch"]["said"]["ioctls"]["KVM_CREATE_VM"] = None


def runs_in_main_thread(evidence: Evidence) -> None:
    """The main thread, and the process has no name."""
    for call in evidence["watch"]["calls"]:
        call.update(tid=call["pid"], comm=None)


def create_failed(evidence: Evidence) -> None:
    create_did_not_return(evidence)
    evidence["ioctls"]["KVM_CREATE_VM"] = {"error": "EINVAL"}


WATCHED: tuple[Variant, ...] = (
    ("own: EFER differs", OWN, other_efer, "observers-disagree"),
    ("own: VM_CR differs", OWN, other_vm_cr, "observers-disagree"),
    ("own: EFER differs beside other VMs", OWN, each(other_efer, foreign_event), "svme-set-by-create-vm"),
    ("own: EFER differs beside another VM", OWN, each(other_efer, users("qemu")), "svme-set-by-create-vm"),
    ("own: EFER differs, cpu1 went", OWN, each(other_vm_cr, cpu1_went), "svme-set-by-create-vm"),
    ("own: EFER differs, no uevents", OWN, other_efer_without_uevents, "svme-owner-unknown"),
    ("own: EFER unread by the guest", OWN, efer_unread_by_the_guest, "svme-set-by-create-vm"),
    ("own: cpu1 unknown to the guest", OWN, snapshots_without_cpu1, "svme-set-by-create-vm"),
    ("own: the version differs", OWN, other_version, "observers-disagree"),
    ("own: the version differs beside other VMs", OWN, each(other_version, foreign_event), "observers-disagree"),
    ("own: the VM differs", OWN_AT_LOAD, other_vm, "observers-disagree"),
    ("own: a guest that ptrace did not observe", OWN, run_not_observed, "observers-disagree"),
    ("own: no guest ran", OWN, own_guest_did_not_run, "svme-set-by-create-vm"),
    ("own at load: no guest ran", OWN_AT_LOAD, own_guest_did_not_run, "guest-not-run"),
    ("own: KVM_CREATE_VM unknown to the guest", OWN, vm_unknown_to_the_guest, "observers-disagree"),
    ("own: died before it opened /dev/kvm", OWN, each(never_opened, own_died), "vm-not-created"),
    ("own: died", OWN, own_died, "guest-not-run"),
    ("qemu: KVM_CREATE_VM did not return", QEMU, create_did_not_return, "vm-not-created"),
    ("qemu: never opened /dev/kvm", QEMU, never_opened, "vm-not-created"),
    ("qemu: never opened a missing /dev/kvm", QEMU, never_opened_or_registered, "kvm-device-missing"),
    ("qemu: attached, other calls", QEMU, each(attached_to, other_calls), "vm-not-created"),
    ("qemu: other calls", QEMU, other_calls, "vm-not-created"),
    ("qemu: called twice", QEMU, lambda e: e["watch"]["calls"].append(e["watch"]["calls"][0]), "svme-set-by-create-vm"),
    ("qemu: may not open /dev/kvm", QEMU, may_not_open, "kvm-not-permitted"),
    ("qemu: another API version", QEMU, other_version_of_kvm, "api-version"),
    ("qemu: KVM_CREATE_VM failed", QEMU, create_failed, "create-vm-failed"),
    ("qemu: no VM of kvm_pvm", QEMU, no_vm_of_kvm_pvm, "kvm-without-svm"),
    ("qemu: attached too late", QEMU, attached_too_late, "vm-not-created"),
    ("qemu: attached, KVM_CREATE_VM did not return", QEMU, each(attached_to, create_did_not_return), "vm-not-created"),
    ("qemu: did not ask for the version", QEMU, did_not_ask, "svme-set-by-create-vm"),
    ("qemu: still running", QEMU, lives_on, "svme-set-by-create-vm"),
    ("qemu at load: still running", QEMU_AT_LOAD, lives_on, "svme-set-at-module-load"),
    ("qemu: its guest never ran", QEMU, run_not_observed, "svme-set-by-create-vm"),
    ("qemu at load: its guest never ran", QEMU_AT_LOAD, run_not_observed, "guest-not-run"),
    ("qemu at load: its KVM_RUN in the main thread", QEMU_AT_LOAD, runs_in_main_thread, "svme-set-at-module-load"),
    ("qemu at load: its KVM_RUN failed", QEMU_AT_LOAD, run_failed, "guest-not-run"),
    ("qemu at load: its KVM_RUN gave -1", QEMU_AT_LOAD, run_answered(-1), "guest-not-run"),
    ("qemu at load: its KVM_RUN gave 1", QEMU_AT_LOAD, run_answered(1), "guest-not-run"),
)
