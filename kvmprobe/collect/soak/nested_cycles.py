"""The guest in the guest in each cycle, and in how many cycles one ran."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.collect.soak.cycle import CycleFailed
from kvmprobe.collect.vm_probe import run_nested
from kvmprobe.model.nested_rules import NOT_RUN, PAGING, WORKS, kind_of, offers_svm, text_of, why_none_ran
from kvmprobe.model.printable import counted

if TYPE_CHECKING:
    from kvmprobe.host import guest, kvm
    from kvmprobe.model.evidence import GuestRun
    from kvmprobe.model.nested_evidence import Nested

_FAILED = "nested-guest-failed"


class NestedCycles:
    """Runs a guest in the guest of each VM. For a host where one ran before the cycles.

    `evidence`: what the last VM of the cycle gave, None before it. `done`: the number of cycles in which a guest ran in
    a guest.
    """

    def __init__(self, alarm: guest.GuestAlarm) -> None:
        self.evidence: Nested | None = None
        self.done = 0
        self._alarm = alarm
        self._cycles = 0
        self._ran = False
        self._without = 0  # cycles
        self._first_without = ""

    def begin_cycle(self) -> None:
        """A cycle begins: nothing ran in it."""
        self.evidence = None
        self._ran = False
        self._cycles += 1

    def run(self, device: kvm.Kvm, vm: kvm.Vm, runs: list[GuestRun]) -> None:
        """Run the guest in the guest in `vm`, after `runs`, the guest's own. Raises CycleFailed."""
        self.evidence = run_nested(device, vm, runs, self._alarm)
        if offers_svm(self.evidence) is False:
            call = "KVM_GET_SUPPORTED_CPUID 0x80000001 ECX.SVM = 0"
            raise CycleFailed(f"KVM no longer offers SVM to guests ({call})", _FAILED)
        for paging, of_paging in self.evidence["runs"].items():
            for run in of_paging:
                kind = kind_of(run)
                if kind not in (WORKS, NOT_RUN):
                    what = f"the guest in the guest failed with {PAGING[paging]} on cpu{run['cpu']}: {text_of(run)}"
                    raise CycleFailed(what, _FAILED)
                self._ran = self._ran or kind == WORKS

    def end_cycle(self) -> None:
        """All VMs of the cycle ran their guests: count it where a guest ran in one of them."""
        if self._ran:
            self.done += 1
            return
        self._without += 1
        if not self._first_without:
            why = why_none_ran(self.evidence) if self.evidence else ""
            self._first_without = f"first in cycle {self._cycles:,}: {why or 'the guest itself was not run'}"

    def limits(self) -> list[str]:
        """Return a sentence about the cycles in which no guest ran in a guest, where there are any."""
        if not self._without:
            return []
        return [f"no guest ran in a guest in {counted(self._without, 'cycle')}, {self._first_without}"]
