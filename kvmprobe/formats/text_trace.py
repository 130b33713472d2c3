"""The kernel's trace as a tree: its own functions on each CPU, and what they wrote to the registers."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.model import kernel_steps
from kvmprobe.model.cpu_lists import cpu_names, group
from kvmprobe.model.registers import VM_HSAVE_PA
from kvmprobe.model.values import as_int, error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Trace, TraceEntry

_TITLES = {
    kernel_steps.LOAD: "Loading kvm_amd",
    "before": "Before KVM_CREATE_VM",
    kernel_steps.CREATE: "KVM_CREATE_VM",
    "alive": "While the VM was there",
    kernel_steps.CLOSE: "Closing the VM",
    "after": "Afterwards",
}
_DEEPEST = 30  # a chain that is longer is none of the kernel's
_BEGINNINGS = ("svm_init", "kvm_dev_ioctl", "kvm_vm_release")


def lines(trace: Trace, verbose: int) -> Iterator[str]:
    """The tree of each phase in which something was seen. CPUs with the same story fold into one unless `verbose`."""
    for phase in kernel_steps.PHASES:
        entries = [entry for entry in trace["entries"] if entry["phase"] == phase]
        if entries:
            yield from _phase(phase, entries, trace, verbose)
            yield ""
    for limit in trace["limits"]:
        yield f"not visible: {limit}"
    for cpu, count in trace["lost"].items():
        yield f"lost: {count} entries of cpu{cpu}"
    if trace["limits"] or trace["lost"]:
        yield ""


def _phase(phase: str, entries: list[TraceEntry], trace: Trace, verbose: int) -> Iterator[str]:
    first = entries[0]["seconds"]
    took = max(entry["seconds"] for entry in entries) - first
    yield f"{_TITLES[phase]}, by the kernel's trace (ms, of {took * 1000:.3f}):"
    stories: dict[int, list[TraceEntry]] = {}
    for entry in entries:
        stories.setdefault(entry["cpu"], []).append(entry)
    starts = {cpu: story[0]["seconds"] for cpu, story in stories.items()}
    shown = {cpu: tuple(_story(story, entries[0], verbose)) for cpu, story in stories.items()}
    folded = group(shown) if verbose <= 0 else {(story, cpu): [cpu] for cpu, story in shown.items()}
    for cpus in folded.values():
        times = [entry["seconds"] - first for entry in stories[cpus[0]]]
        names = cpu_names(cpus)
        for seconds, text in zip(times, shown[cpus[0]]):
            yield f"  {seconds * 1000:9.3f}  {names:8} {text}"
        if len(cpus) > 1:
            last = max(starts[cpu] for cpu in cpus) - first
            yield f"  {'':9}  {names:8}   (times of cpu{cpus[0]}; the last of them began at {last * 1000:.3f})"
    expected = [(step, trace["visible"].get(step.id) or []) for step in kernel_steps.STEPS if phase in step.phases]
    called = {entry["function"] for entry in entries}
    unused = [names[-1] for _, names in expected if names and not called.intersection(names)]
    if unused:
        yield f"  not called: {', '.join(unused)}"
    hidden = [step.id for step, names in expected if not names]
    if hidden:
        yield f"  not visible in this kernel (inlined, renamed or not there): {', '.join(hidden)}"


def _story(entries: list[TraceEntry], first: TraceEntry, verbose: int) -> Iterator[str]:
    """One CPU's functions and writes, each below its caller. What was called by nothing that is visible is below the
    first function of all, on whatever CPU that was."""
    depths: dict[str, int] = {}
    writer = -1  # the depth of the function that writes
    for entry in entries:
        function = entry["function"]
        if function is None:
            yield f"{'  ' * (writer + 1)}wrmsr {entry['register']} {_written(entry, verbose)}"
            continue
        caller = depths.get(entry["caller"] or "")
        depth = depths[function] = (0 if entry is first else 1) if caller is None else min(caller + 1, _DEEPEST)
        step = kernel_steps.step_of(function)
        if step is None or step.phases != (kernel_steps.LOAD,):  # the others only look whether SVM may be used
            writer = depth
        yield f"{'  ' * depth}{function}" + (_context(entry, first) if caller is None else "")


def _written(entry: TraceEntry, verbose: int) -> str:
    value = entry["value"]
    if entry["register"] == VM_HSAVE_PA.name and as_int(value) and verbose <= 0:
        return "a page of its own"
    return str(error_of(value) or value)


def _context(entry: TraceEntry, first: TraceEntry) -> str:
    """Whose doing it is, where that is not clear. Names that have the CPU in them would keep CPUs apart."""
    if entry["task"] == f"cpuhp/{entry['cpu']}":
        return "  (cpuhp thread)"
    begins = entry is first or (entry["function"] in _BEGINNINGS and entry["pid"] != first["pid"])
    return f"  ({entry['task']}[{entry['pid']}])" if begins else ""  # others were interrupted, by whatever they did
