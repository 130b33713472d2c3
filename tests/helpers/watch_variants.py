"""Evidence of a watch, changed by hand: witnesses that contradict each other, commands that went another way."""

from __future__ import annotations

from tests.helpers.variants import Evidence

OWN = "watch/bookworm-own"
OWN_AT_LOAD = "watch/trixie-own"
QEMU = "watch/bookworm-qemu"
QEMU_AT_LOAD = "watch/trixie-qemu"


def other_efer(evidence: Evidence) -> None:
    for snapshot in evidence["watch"]["said"]["snapshots"]:
        if snapshot["phase"] == "created":
            snapshot["cpus"]["1"]["EFER"] = "0xd01"


def other_efer_beside_others(evidence: Evidence) -> None:
    other_efer(evidence)
    event = {"event": "create", "pid": 1, "comm": "init", "ours": False, "count": 2, "created": 9, "phase": "closed"}
    evidence["uevents"]["events"].append(event)


def other_efer_without_uevents(evidence: Evidence) -> None:
    other_efer(evidence)
    evidence["uevents"].update(source=None, error="no pyudev", events=[])


def other_version(evidence: Evidence) -> None:
    evidence["watch"]["said"]["ioctls"]["KVM_GET_API_VERSION"] = 13


def other_vm(evidence: Evidence) -> None:
    evidence["watch"]["said"]["ioctls"]["KVM_CREATE_VM"] = {"error": "EPERM"}


def run_unseen(evidence: Evidence) -> None:
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


def attached_too_late(evidence: Evidence) -> None:
    never_opened(evidence)
    evidence["watch"].update(command=None, ended="detached", status=None)


WATCHED = (
    ("own: EFER differs", OWN, other_efer, "observers-disagree"),
    ("own: EFER differs beside other VMs", OWN, other_efer_beside_others, "svme-set-by-create-vm"),
    ("own: EFER differs, no uevents", OWN, other_efer_without_uevents, "svme-owner-unknown"),
    ("own: the version differs", OWN, other_version, "observers-disagree"),
    ("own: the VM differs", OWN_AT_LOAD, other_vm, "observers-disagree"),
    ("own: a guest nobody saw", OWN, run_unseen, "observers-disagree"),
    ("own: died", OWN, own_died, "guest-not-run"),
    ("qemu: KVM_CREATE_VM did not return", QEMU, create_did_not_return, "vm-not-created"),
    ("qemu: never opened /dev/kvm", QEMU, never_opened, "vm-not-created"),
    ("qemu: attached too late", QEMU, attached_too_late, "vm-not-created"),
    ("qemu: did not ask for the version", QEMU, did_not_ask, "svme-set-by-create-vm"),
    ("qemu: lives on", QEMU, lives_on, "svme-set-by-create-vm"),
    ("qemu at load: lives on", QEMU_AT_LOAD, lives_on, "svme-set-at-module-load"),
    ("qemu: its guest never ran", QEMU, run_unseen, "svme-set-by-create-vm"),
    ("qemu at load: its guest never ran", QEMU_AT_LOAD, run_unseen, "guest-not-run"),
)
