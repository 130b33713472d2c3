"""Evidence of a trace, changed: observers that contradict each other, and observers that could not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.helpers.variants import Evidence, Variant, set_everywhere, set_register, through_kvm_pvm, without_uevents

CREATE = "trace/bookworm-create"
LOAD = "trace/bookworm-load"
LOAD_AT_LOAD = "trace/trixie-load"


def is_write(entry: Any, cpu: int = 1, register: str = "EFER", phase: str = "create") -> bool:
    return (entry["cpu"], entry["register"], entry["phase"]) == (cpu, register, phase)


def trace_shows_no_write(evidence: Evidence) -> None:
    entries = evidence["trace"]["entries"]
    entries[:] = [entry for entry in entries if not is_write(entry)]


def trace_shows_another_value(evidence: Evidence) -> None:
    for entry in evidence["trace"]["entries"]:
        if is_write(entry):
            entry["value"] = "0xd01"


def trace_shows_a_refused_write(evidence: Evidence) -> None:
    for entry in evidence["trace"]["entries"]:
        if is_write(entry):
            entry["value"] = {"error": "#GP"}


def trace_counts_another_vm(evidence: Evidence) -> None:
    for event in evidence["uevents"]["events"]:
        if event["event"] == "destroy":
            event["count"] = 1


def trace_counts_a_first_vm(evidence: Evidence) -> None:
    """COUNT says that ours was not the first VM, and the trace shows the write of the first."""
    for event in evidence["uevents"]["events"]:
        if event["event"] == "create":
            event["count"] = 2


def no_write_at_closing(evidence: Evidence) -> None:
    entries = evidence["trace"]["entries"]
    entries[:] = [entry for entry in entries if not is_write(entry, phase="close")]


def other_page(evidence: Evidence) -> None:
    set_register(evidence, "created", "VM_HSAVE_PA", "0x7000", ("1",))


def no_write_at_loading(evidence: Evidence) -> None:
    entries = evidence["trace"]["entries"]
    entries[:] = [entry for entry in entries if not is_write(entry, phase="load")]


def beside_another_vm(evidence: Evidence) -> None:
    trace_shows_no_write(evidence)
    ours = evidence["uevents"]["events"][0]
    evidence["uevents"]["events"].append({**ours, "pid": 4, "ours": False, "count": 2, "created": ours["created"] + 1})


def cpu1_went_offline(evidence: Evidence) -> None:
    trace_shows_no_write(evidence)
    for entry in evidence["trace"]["entries"]:
        if is_write(entry, cpu=0):
            entry["value"] = "0xd01"
    evidence["cpus"]["online_at_end"] = "0"


def lost_on_cpu1(evidence: Evidence) -> None:
    trace_shows_no_write(evidence)
    evidence["trace"]["lost"] = {"1": 5}


def writes_invisible(evidence: Evidence) -> None:
    evidence["trace"]["writes_visible"] = False
    entries = evidence["trace"]["entries"]
    entries[:] = [entry for entry in entries if entry["register"] is None]


def efer_unread(evidence: Evidence) -> None:
    for phase in ("before", "created", "closed"):
        set_register(evidence, phase, "EFER", {"error": "EIO"}, ("1",))


def with_unread_count(evidence: Evidence) -> None:
    for event in evidence["uevents"]["events"]:
        event["count"] = None


def two_writes(first: str, second: str) -> Callable[[Evidence], None]:
    """KVM_CREATE_VM writes EFER twice on cpu1."""

    def change(evidence: Evidence) -> None:
        entries = evidence["trace"]["entries"]
        index = next(index for index, entry in enumerate(entries) if is_write(entry))
        entries[index : index + 1] = [{**entries[index], "value": first}, {**entries[index], "value": second}]

    return change


def in_phase(phase: str, other: str) -> Callable[[Evidence], None]:
    """The writes of one phase of the trace are in another one."""

    def change(evidence: Evidence) -> None:
        for entry in evidence["trace"]["entries"]:
            if entry["phase"] == phase:
                entry["phase"] = other

    return change


def unknown_value(evidence: Evidence) -> None:
    for entry in evidence["trace"]["entries"]:
        if is_write(entry):
            entry["value"] = None


def of_kvm_pvm(evidence: Evidence) -> None:
    """EFER.SVME does not follow the VM."""
    evidence["trace"]["entries"] = []
    through_kvm_pvm(evidence)
    set_everywhere(evidence, "EFER", "0xd01")
    set_everywhere(evidence, "VM_HSAVE_PA", "0x0")


TRACED: tuple[Variant, ...] = (
    ("trace without the write", CREATE, trace_shows_no_write, "observers-disagree"),
    ("trace of another value", CREATE, trace_shows_another_value, "observers-disagree"),
    ("trace of a refused write", CREATE, trace_shows_a_refused_write, "svme-set-by-create-vm"),
    ("uevent counts another VM", CREATE, trace_counts_another_vm, "observers-disagree"),
    ("uevent counts two, trace shows a write", CREATE, trace_counts_a_first_vm, "observers-disagree"),
    ("uevents without a count", CREATE, with_unread_count, "svme-set-by-create-vm"),
    ("trace without the write at closing", CREATE, no_write_at_closing, "observers-disagree"),
    ("trace of another VM_HSAVE_PA", CREATE, other_page, "observers-disagree"),
    ("trace without the write at loading", LOAD_AT_LOAD, no_write_at_loading, "observers-disagree"),
    ("trace without the write, another VM", CREATE, beside_another_vm, "svme-set-by-create-vm"),
    ("trace disagrees, cpu1 went offline", CREATE, cpu1_went_offline, "svme-set-by-create-vm"),
    ("trace lost on cpu1", CREATE, lost_on_cpu1, "svme-set-by-create-vm"),
    ("trace without register writes", CREATE, writes_invisible, "svme-set-by-create-vm"),
    ("trace, EFER unread on cpu1", CREATE, efer_unread, "msr-unreadable"),
    ("trace of two writes", CREATE, two_writes("0xd01", "0x1d01"), "svme-set-by-create-vm"),
    ("trace of two writes, the last another", CREATE, two_writes("0x1d01", "0xd01"), "observers-disagree"),
    ("trace of a write before KVM_CREATE_VM", CREATE, in_phase("create", "before"), "svme-set-by-create-vm"),
    ("trace of a write before closing", CREATE, in_phase("close", "alive"), "svme-set-by-create-vm"),
    ("trace of a write after closing", CREATE, in_phase("close", "after"), "svme-set-by-create-vm"),
    ("trace of an unknown value", CREATE, unknown_value, "svme-set-by-create-vm"),
    ("trace of kvm_pvm", CREATE, of_kvm_pvm, "kvm-without-svm"),
    ("trace, only the VM's end in uevents", CREATE, lambda e: e["uevents"]["events"].pop(0), "observers-disagree"),
    ("trace without uevents", CREATE, without_uevents, "svme-set-by-create-vm"),
)
