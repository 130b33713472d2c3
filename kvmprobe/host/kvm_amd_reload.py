"""Unload kvm_amd for a while. It is loaded again, if the kernel allows it, however kvmprobe ends."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.host import modprobe, modules, processes, run_program
from kvmprobe.host.background_child import wait_for_programs
from kvmprobe.host.revert_child import RevertChild
from kvmprobe.host.sysroot import Sysroot
from kvmprobe.model.errors import Problem

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LoadAttempt, Reading

KVM_AMD = "kvm_amd"


class UnloadedKvmAmd:
    """Unloads kvm_amd on entry and has it loaded again on exit. Raises Problem where it cannot be unloaded.

    rmmod unloads kvm_amd alone: the modules below it (kvm, ccp) stay loaded and keep their parameters.
    """

    def __init__(self, root: Sysroot) -> None:
        self._root = root

    def __enter__(self) -> UnloadedKvmAmd:
        self._parameters_before = self._parameters()
        if not modules.is_loaded(self._root, KVM_AMD):
            raise Problem(f"{KVM_AMD} is not a loaded module, so it cannot be unloaded and loaded again")
        run_program.prepare()
        self._child = RevertChild(_unload, self._load_if_missing)
        status, output = self._child.changed or (None, "the child process that runs rmmod failed")
        if status != 0:
            self._child.revert()
            users = ", ".join(f"{user['comm']}[{user['pid']}]" for user in processes.vm_users(self._root))
            raise Problem(
                f"{KVM_AMD} cannot be unloaded: {output or status}" + (f" (VMs of {users})" if users else ""),
                "Stop what uses it: VMs, and processes that have /dev/kvm open.",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.revert()

    def load(self) -> list[LoadAttempt]:
        """Load kvm_amd again and return modprobe's answer."""
        return modprobe.load_modules(self._root, KVM_AMD)

    def parameter_changes(self) -> list[str]:
        """Return a sentence for each parameter of kvm_amd that differs now from before the unload.

        modprobe applies the options of /etc/modprobe.d, not those that the module had before.
        """
        return [
            f"{KVM_AMD} was loaded with {name}={self._parameters_before.get(name)} before, now with {name}={value}"
            for name, value in self._parameters().items()
            if self._parameters_before.get(name) != value
        ]

    def _parameters(self) -> dict[str, Reading]:
        module = (modules.read_modules(self._root) or {}).get(KVM_AMD)
        return module["parameters"] if module else {}

    def _load_if_missing(self, unloaded: list[object] | None) -> None:
        """In the child. `unloaded`: what rmmod answered, None where that is unknown."""
        if (unloaded is None or unloaded[0] == 0) and not modules.is_present(self._root, KVM_AMD):
            modprobe.load_modules(self._root, KVM_AMD)
            wait_for_programs()


def _unload() -> tuple[int | None, str]:
    """In the child."""
    answer = run_program.run_program("rmmod", KVM_AMD)
    wait_for_programs()
    return answer
