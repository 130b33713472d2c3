"""A probe that the kernel traces, from the first reading of the registers to the last."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.trace import trace_lines
from kvmprobe.collect.vm_probe import VmProbe
from kvmprobe.host import cpus, modprobe, modules, msr
from kvmprobe.host.kvm_amd_reload import KVM_AMD, UnloadedKvmAmd
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model import kernel_steps
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvmprobe.collect.trace.trace_instance import TraceInstance
    from kvmprobe.model.command_evidence import TraceEntry
    from kvmprobe.model.evidence import MoreEvidence, Reading


class TracedProbe(VmProbe):
    """Records in `instance`. `reload`: also trace kvm_amd being loaded; where it is loaded, it is unloaded first.

    Raises Problem where tracing fails, or kvm_amd cannot be unloaded.
    """

    def __init__(self, root: Sysroot, instance: TraceInstance, reload: bool) -> None:
        super().__init__(root)
        self._instance = instance
        self._reload = reload
        self._unloaded: dict[str, dict[str, Reading]] | None = None
        self._entries: list[TraceEntry] = []
        self._traceable: set[str] = set()  # The functions of the chain that this kernel can trace.

    def prepare(self) -> None:
        """Start the trace and, with `reload`, load kvm_amd."""
        was_present = self._reload and modules.is_present(self.root, KVM_AMD)
        if was_present and not modules.is_loaded(self.root, KVM_AMD):
            raise Problem(f"{KVM_AMD} is built into this kernel, it cannot be loaded again", "Omit --reload.")
        if not self._reload:
            self._start("before")
        elif was_present:
            self._unload_and_load()
        else:
            self._load_kvm_amd()

    def begin_phase(self, phase: str) -> None:
        """Write a marker into the trace."""
        self._instance.write_marker(trace_lines.marker(phase))

    def run(self, virt_at_load: bool) -> None:
        """Run the probe, stop the trace and read it."""
        super().run(virt_at_load)
        self._instance.record(False)
        self._entries = list(trace_lines.parse_trace(self._instance.read("trace")))

    def extra_evidence(self) -> MoreEvidence:
        """Return the evidence `trace`."""
        instance = self._instance
        recorded = (("functions", instance.functions), ("msr:write_msr", instance.writes))
        sources = [name for name, is_traced in recorded if is_traced]
        return {
            "trace": {
                "source": f"tracefs: {', '.join(sources) or 'nothing'}",
                "clock": instance.clock,
                "visible": self._visible_functions(),
                "writes_visible": instance.writes,
                "lost": instance.lost_entries(),
                "limits": instance.limits,
                "unloaded": self._unloaded,
                "entries": self._entries,
            }
        }

    def _visible_functions(self) -> dict[str, list[str]]:
        """By step: the names that this kernel can trace, [] where it has inlined or renamed the function."""
        if not self._instance.functions:
            return {step.id: [] for step in kernel_steps.STEPS}
        if self._reload:
            self._traceable.update(name for name, _ in self._instance.available_functions())
        # An __init function is no longer available once its module is loaded, but its entry shows that it was.
        names = {*self._traceable, *(entry["function"] for entry in self._entries if entry["function"])}
        return {
            step.id: sorted(name for name in names if kernel_steps.step_of(name) is step) for step in kernel_steps.STEPS
        }

    def _start(self, phase: str) -> None:
        self._instance.trace_writes(trace_lines.REGISTERS)
        self._instance.trace_functions(self._function_filters())
        self._instance.record(True)
        self.begin_phase(phase)

    def _function_filters(self) -> Iterator[str]:
        for name, module in self._instance.available_functions():
            step = kernel_steps.step_of(name)
            if step and module in ("", step.module):
                self._traceable.add(name)
                yield f"{name}:mod:{module}" if module else name
        for step in kernel_steps.STEPS:
            # The kernel keeps filters for modules that are not loaded yet.
            if self._reload and step.module and not modules.is_present(self.root, step.module):
                yield from (f"{name}:mod:{step.module}" for name in step.names)

    def _load_kvm_amd(self) -> None:
        snapshot = msr.take_snapshot(self.root, cpus.online_cpus(self.root), "unloaded")
        self._unloaded = snapshot["cpus"]
        self._start(kernel_steps.LOAD)
        self.loads += modprobe.load_modules(self.root, KVM_AMD)
        self.begin_phase("before")

    def _unload_and_load(self) -> None:
        with UnloadedKvmAmd(self.root) as unloaded:
            self._load_kvm_amd()
            self._instance.limits += unloaded.parameter_changes()
