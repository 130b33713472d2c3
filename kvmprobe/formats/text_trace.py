"""The kernel's trace as a tree: its own functions on each CPU, and what they wrote to the registers."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.model import kernel_steps
from kvmprobe.model.cpu_lists import cpu_names, group
from kvmprobe.model.printable import columns
from kvmprobe.model.registers import VM_HSAVE_PA
from kvmprobe.model.values import as_int, error_of

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Trace, TraceEntry

_TITLES = {
    kernel_steps.LOAD: "Loading kvm_amd",
    "before": "Before KVM_CREATE_VM",
    kernel_steps.CREATE: "KVM_CREATE_VM",
    "alive": "While the VM was alive",
    kernel_steps.CLOSE: "Closing the VM",
    "after": "After the VM was closed",
}
_DEEPEST = 30  # levels: no call chain of KVM is longer, and the evidence may come from elsewhere
_BEGINNINGS = ("svm_init", "kvm_dev_ioctl", "kvm_vm_release")
_INDENT = 22  # columns before a function's name


def sections(trace: Trace, every_cpu: bool) -> Iterator[Iterator[Line]]:
    """A section for each phase with entries, and one for what the trace could not show.

    CPUs on which the same happened share one story, unless `every_cpu` is true.
    """
    for phase in kernel_steps.PHASES:
        entries = [entry for entry in trace["entries"] if entry["phase"] == phase]
        if entries:
            yield _phase(phase, entries, trace, every_cpu)
    yield _limits(trace)


def brief(trace: Trace) -> Iterator[Line]:
    """A line for each phase with entries: how long it took, and what was written to which register on which CPUs."""
    yield heading("What the kernel wrote, by its trace (-v shows its functions):")
    rows = []
    for phase in kernel_steps.PHASES:
        entries = [entry for entry in trace["entries"] if entry["phase"] == phase]
        if entries:
            took = max(entry["seconds"] for entry in entries) - entries[0]["seconds"]
            rows.append([f"  {_TITLES[phase]}", f"{took * 1000:7.1f} ms", _writes(entries)])
    yield from (Line(row, hang=4) for row in columns(rows))
    yield from _limits(trace)


def _writes(entries: list[TraceEntry]) -> str:
    """ "EFER 0x1d01, VM_HSAVE_PA a page each on cpu0-1"."""
    by_cpu: dict[int, str] = {}
    for entry in entries:
        if entry["function"] is None:
            before = f"{by_cpu[entry['cpu']]}, " if entry["cpu"] in by_cpu else ""
            by_cpu[entry["cpu"]] = f"{before}{entry['register']} {_written(entry, 'a page each')}"
    groups = group(by_cpu)
    return "; ".join(f"{text} on {cpu_names(cpus)}" for text, cpus in groups.items()) or "no register"


def _limits(trace: Trace) -> Iterator[Line]:
    for limit in trace["limits"]:
        yield Line(f"not visible: {limit}")
    for cpu, count in trace["lost"].items():
        yield Line(f"lost: {count} entries of cpu{cpu}")


def _phase(phase: str, entries: list[TraceEntry], trace: Trace, every_cpu: bool) -> Iterator[Line]:
    first = entries[0]["seconds"]
    took = max(entry["seconds"] for entry in entries) - first
    yield heading(f"{_TITLES[phase]} in the kernel's trace ({took * 1000:.3f} ms):")
    stories: dict[int, list[TraceEntry]] = {}
    for entry in entries:
        stories.setdefault(entry["cpu"], []).append(entry)
    starts = {cpu: story[0]["seconds"] for cpu, story in stories.items()}
    texts = {cpu: tuple(_story(story, entries[0], every_cpu)) for cpu, story in stories.items()}
    groups = [[cpu] for cpu in texts] if every_cpu else list(group(texts).values())
    for cpus in groups:
        times = [entry["seconds"] - first for entry in stories[cpus[0]]]
        names = cpu_names(cpus)
        for seconds, text in zip(times, texts[cpus[0]]):
            yield Line(f"  {seconds * 1000:9.3f}  {names:8} {text}", _INDENT)
        if len(cpus) > 1:
            last = max(starts[cpu] for cpu in cpus) - first
            times_of = f"(times of cpu{cpus[0]}; the last CPU began at {last * 1000:.3f})"
            yield Line(f"  {'':9}  {names:8}   {times_of}", _INDENT + 2)
    yield from _expected(phase, entries, trace)


def _expected(phase: str, entries: list[TraceEntry], trace: Trace) -> Iterator[Line]:
    """The steps of the chain that the trace does not show, and why."""
    visible = trace["visible"]  # without a step: an earlier version did not look for it
    expected = [(step, visible[step.id]) for step in kernel_steps.STEPS if phase in step.phases and step.id in visible]
    called = {entry["function"] for entry in entries}
    unused = [names[-1] for _, names in expected if names and not called.intersection(names)]
    if unused:
        yield Line(f"  not called: {', '.join(unused)}", hang=4)
    hidden = [step.id for step, names in expected if not names]
    if hidden:
        yield Line(f"  not traceable in this kernel (inlined, renamed or absent): {', '.join(hidden)}", hang=4)


def _story(entries: list[TraceEntry], first: TraceEntry, every_cpu: bool) -> Iterator[str]:
    """One CPU's functions and writes, each below its caller. A function without a visible caller is below the first
    function of the phase, on whichever CPU that ran."""
    depths: dict[str, int] = {}
    writer = -1  # the depth of the function that writes
    for entry in entries:
        function = entry["function"]
        if function is None:
            value = _written(entry, None if every_cpu else "a page of its own")
            yield f"{'  ' * (writer + 1)}wrmsr {entry['register']} {value}"
            continue
        caller = depths.get(entry["caller"] or "")
        depth = depths[function] = (0 if entry is first else 1) if caller is None else min(caller + 1, _DEEPEST)
        step = kernel_steps.step_of(function)
        if step is None or step.phases != (kernel_steps.LOAD,):  # functions of loading only check for SVM
            writer = depth
        yield f"{'  ' * depth}{function}" + (_context(entry, first) if caller is None else "")


def _written(entry: TraceEntry, page: str | None) -> str:
    """The value; `page` in place of a page's address, which differs on each CPU."""
    value = entry["value"]
    if page and entry["register"] == VM_HSAVE_PA.name and as_int(value):
        return page
    return error_of(value) or ("unknown" if value is None else str(value))


def _context(entry: TraceEntry, first: TraceEntry) -> str:
    """The task, where it is not obvious. The name of a thread of one CPU would keep the stories of CPUs apart."""
    if entry["task"] == f"cpuhp/{entry['cpu']}":
        return "  (cpuhp thread)"
    begins = entry is first or (entry["function"] in _BEGINNINGS and entry["pid"] != first["pid"])
    return f"  ({entry['task']}[{entry['pid']}])" if begins else ""  # any other task was interrupted to run it
