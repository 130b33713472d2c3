"""A probe with the kernel's trace around it: from the first look at the registers to the last one."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.trace import trace_lines
from kvmprobe.collect.vm_probe import Probe
from kvmprobe.host import cpus, modprobe, modules, msr
from kvmprobe.host.kvm_amd_reload import KVM_AMD, Unloaded
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model import kernel_steps
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.collect.trace.tracefs import Instance
    from kvmprobe.model.evidence import MoreEvidence, Reading, TraceEntry


class TracedProbe(Probe):
    """`instance`: the trace; `load`: have kvm_amd loaded in the trace, unloaded before if it is there.

    Raises Problem where tracing fails, or kvm_amd cannot be unloaded.
    """

    def __init__(self, root: Sysroot, instance: Instance, load: bool) -> None:
        super().__init__(root)
        self._instance = instance
        self._load = load
        self._unloaded: dict[str, dict[str, Reading]] | None = None
        self._entries: list[TraceEntry] = []
        self._traceable: set[str] = set()  # the functions that the kernel lets be traced

    def prepare(self) -> None:
        kvm_amd_was_there = self._load and modules.is_present(self.root, KVM_AMD)
        if kvm_amd_was_there and not modules.is_loaded(self.root, KVM_AMD):
            raise Problem(f"{KVM_AMD} is built into this kernel, it cannot be loaded again", "Omit --reload.")
        if not self._load:
            self._start("before")
        elif kvm_amd_was_there:
            self._load_again()
        else:
            self._load_now()

    def phase(self, name: str) -> None:
        self._instance.mark(trace_lines.mark(name))

    def run(self, at_load: bool) -> None:
        super().run(at_load)
        self._instance.record(False)
        self._entries = list(trace_lines.parse(self._instance.read("trace")))

    def more(self) -> MoreEvidence:
        instance = self._instance
        witnesses = [
            name for name, seen in (("functions", instance.functions), ("msr:write_msr", instance.writes)) if seen
        ]
        return {
            "trace": {
                "source": f"tracefs: {', '.join(witnesses) or 'nothing'}",
                "clock": instance.clock,
                "visible": self._visible(),
                "writes_visible": instance.writes,
                "lost": instance.lost(),
                "limits": instance.limits,
                "unloaded": self._unloaded,
                "entries": self._entries,
            }
        }

    def _visible(self) -> dict[str, list[str]]:
        """By step of the chain: what it is called here, none where the kernel inlined or renamed it."""
        if not self._instance.functions:
            return {step.id: [] for step in kernel_steps.STEPS}
        if self._load:
            self._traceable.update(name for name, _ in self._instance.available_functions())
        names = {*self._traceable, *(entry["function"] for entry in self._entries)}  # init functions are gone by now
        return {
            step.id: sorted(n for n in names if n and kernel_steps.step_of(n) is step) for step in kernel_steps.STEPS
        }

    def _start(self, phase: str) -> None:
        self._instance.trace_writes(trace_lines.REGISTERS)
        self._instance.trace_functions(self._filters())
        self._instance.record(True)
        self.phase(phase)

    def _filters(self) -> Iterator[str]:
        for name, module in self._instance.available_functions():
            step = kernel_steps.step_of(name)
            if step and module in ("", step.module):
                self._traceable.add(name)
                yield f"{name}:mod:{module}" if module else name
        for step in kernel_steps.STEPS:
            # The kernel remembers filters of modules that are still to come.
            if self._load and step.module and not modules.is_present(self.root, step.module):
                yield from (f"{name}:mod:{step.module}" for name in step.names)

    def _load_now(self) -> None:
        snapshot = msr.snapshot(self.root, cpus.online(self.root), "unloaded")
        self._unloaded = snapshot["cpus"]
        self._start(kernel_steps.LOAD)
        self.loads += modprobe.load(self.root, KVM_AMD)
        self.phase("before")

    def _load_again(self) -> None:
        with Unloaded(self.root) as unloaded:
            self._load_now()
            self._instance.limits += unloaded.changes()
