"""Unloading kvm_amd for a while: it comes back, if the kernel lets it, whatever happens meanwhile."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import modprobe, modules, processes
from kvmprobe.host.run_program import run
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.host.undoing_child import UndoingChild
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from types import TracebackType

    from kvmprobe.model.evidence import LoadAttempt, Reading

KVM_AMD = "kvm_amd"


class Unloaded:
    """kvm_amd is unloaded on entry, and there again after exit. Raises Problem where it cannot be unloaded.

    By rmmod, which leaves the modules below it (kvm, ccp) and their parameters alone.
    """

    def __init__(self, root: Sysroot) -> None:
        self._root = root

    def __enter__(self) -> Unloaded:
        self._before = self._parameters()
        if not modules.is_loaded(self._root, KVM_AMD):
            raise Problem(f"{KVM_AMD} is not there as a module, so it cannot be unloaded and loaded again")
        self._guard = UndoingChild(lambda: run("rmmod", KVM_AMD), self._put_back)
        status, said = self._guard.done or (None, "the process that should do it failed")
        if status != 0:
            self._guard.release()
            users = ", ".join(f"{user['comm']}[{user['pid']}]" for user in processes.vm_users(self._root))
            raise Problem(
                f"{KVM_AMD} cannot be unloaded: {said or status}" + (f" (VMs of {users})" if users else ""),
                "Stop what uses it: VMs, and whatever has /dev/kvm open.",
            )
        return self

    def load(self) -> list[LoadAttempt]:
        """Loads it again: modprobe's answer."""
        return modprobe.load(self._root, KVM_AMD)

    def changes(self) -> list[str]:
        """The parameters that it has now and had not before: modprobe gives those of /etc/modprobe.d."""
        return [
            f"{KVM_AMD} was loaded with {name}={self._before.get(name)} before, now {value}"
            for name, value in self._parameters().items()
            if self._before.get(name) != value
        ]

    def _parameters(self) -> dict[str, Reading]:
        known = (modules.observe(self._root) or {}).get(KVM_AMD)
        return known["parameters"] if known else {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.release()

    def _put_back(self, unloaded: list[object]) -> None:
        """In the guard."""
        if unloaded[0] == 0 and not modules.is_present(self._root, KVM_AMD):
            modprobe.load(self._root, KVM_AMD)
