"""The rest of the evidence for people: answers, guests, modules, uevents, kernel log lines."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.model.printable import counted, one_line
from kvmprobe.model.values import error_of, is_failure

if TYPE_CHECKING:
    from kvmprobe.model.context_evidence import Context
    from kvmprobe.model.evidence import Evidence, Module
    from kvmprobe.model.nested_evidence import Nested


def everything(evidence: Evidence) -> Iterator[Line]:
    """All that the other sections of a report leave out."""
    sections = {
        "Answers of KVM, and its guest:": _answers(evidence),
        "Modules:": _modules(evidence),
        "VMs, in KVM's uevents and of other processes:": _vms(evidence),
        "Kernel log:": _log(evidence),
    }
    if "context" in evidence:  # of older versions it is not
        sections["Host around KVM:"] = _context(evidence["context"])
    for title, entries in sections.items():
        yield heading(title)
        for entry in entries:
            yield Line(f"  {entry}", hang=4)


def _answers(evidence: Evidence) -> Iterator[str]:
    for name, answer in evidence["ioctls"]["KVM_CHECK_EXTENSION"].items():
        yield f"{name} = {_text(answer)}"
    for run in evidence["guest"]:
        detail = f", {run['detail']}" if run["detail"] else ""
        error = f" {run['error']}" if run["error"] else ""
        yield f"guest on cpu{run['cpu']}: {run['result']}{detail}{error}"
    if "nested" in evidence:
        yield from _nested(evidence["nested"])


def _nested(nested: Nested) -> Iterator[str]:
    from kvmprobe.model.nested_rules import PAGING, text_of

    supported = nested["supported_cpuid"]
    if supported is None or is_failure(supported):
        yield f"KVM_GET_SUPPORTED_CPUID: {_text(supported)}"
    else:
        for leaf, words in supported.items():
            shown = error_of(words) or " ".join(words)
            yield f"KVM_GET_SUPPORTED_CPUID {leaf}: {shown}"
    for paging, runs in nested["runs"].items():
        for run in runs:
            yield f"guest in a guest on cpu{run['cpu']} with {PAGING[paging]}: {text_of(run)}"


def _modules(evidence: Evidence) -> Iterator[str]:
    for name, module in (evidence["modules"] or {}).items():
        yield f"{name}: {_module(module)}"
    for load in evidence["loads"]:
        status = "could not be run" if load["status"] is None else f"exit status {load['status']}"
        output = one_line(load["output"])
        yield f"modprobe {load['module']}: {status}" + (f": {output}" if output else "")


def _vms(evidence: Evidence) -> Iterator[str]:
    uevents = evidence["uevents"]
    yield f"uevents: {uevents['error'] or uevents['source'] or 'unavailable'}"
    for event in uevents["events"]:
        process = f"{event['comm'] or 'process'}[{_text(event['pid'])}]"
        alive = "" if event["count"] is None else f", {counted(event['count'], 'VM')} alive"
        yield f"{event['event']} by {process}{alive}"
    for user in evidence["vm_users"] or ():
        yield f"{user['comm'] or 'process'}[{user['pid']}] has {counted(user['vms'], 'VM')}"


def _log(evidence: Evidence) -> Iterator[str]:
    log = evidence["log"]
    if log["error"]:
        yield f"unavailable: {log['error']}"
    for line in log["lines"]:
        yield f"[{line['seconds']:12.6f}] {line['text']}"


def _context(context: Context) -> Iterator[str]:
    for name, value in (context["vulnerabilities"] or {}).items():
        yield f"vulnerability {name}: {_text(value)}"
    yield f"SMT: active {_text(context['smt']['active'])}, control {_text(context['smt']['control'])}"
    yield f"clock source: {_text(context['clock']['current'])} of {_text(context['clock']['available'])}"
    yield f"memory: {_text(context['memory_kb'])} KiB"
    for size, pages in (context["huge_pages"] or {}).items():
        yield f"huge pages of {size}: {_text(pages['total'])}, {_text(pages['free'])} of them free"
    yield f"transparent huge pages: {_text(context['transparent_huge_pages'])}"
    iommu = context["iommu"]
    types = ", ".join(f"{number} {name}" for name, number in iommu["types"].items())
    yield f"IOMMU: {_list(iommu['devices'])}; groups: {_text(iommu['groups'])}{f' ({types})' if types else ''}"
    yield f"IOMMU tables of the firmware: {_list(iommu['tables'])}"
    for device in context["devices"].values():
        driver = {True: "with a driver", False: "without a driver", None: "driver unknown"}[device["registered"]]
        yield f"{device['path']}: {device['type'] or 'missing'}, {driver}"
    unified, mounted = context["cgroups"]["unified"], context["cgroups"]["mounted"]
    yield f"cgroup controllers: v2 {_text(unified)}; v1 {_list(mounted)}"


def _list(names: list[str] | None) -> str:
    return "unknown" if names is None else ", ".join(names) or "none"


def _module(module: Module) -> str:
    users = "" if module["refcount"] is None else f", {counted(module['refcount'], 'user')}"
    parameters = " ".join(f"{name}={_text(value)}" for name, value in module["parameters"].items())
    return f"{module['state']}{users}" + (f"; {parameters}" if parameters else "")


def _text(value: object) -> str:
    return error_of(value) or ("unknown" if value is None else str(value))
