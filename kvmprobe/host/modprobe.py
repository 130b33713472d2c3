"""Load and unload kernel modules with modprobe."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kvmprobe import TYPE_CHECKING
from kvmprobe.host.modules import is_certainly_unloaded
from kvmprobe.host.run_program import run_program
from kvmprobe.host.sysroot import Sysroot

if TYPE_CHECKING:
    from kvmprobe.model.evidence import LoadAttempt


_NO_MODULES = "this kernel has no loadable modules: there is no /proc/modules"
_UNLOAD_TRIES = 20
_UNLOAD_DEADLINE_S = 30.0
_PAUSE_S = 0.1


def load_modules(root: Sysroot, *names: str) -> list[LoadAttempt]:
    """Load modules and return the answer for each. One modprobe loads all; where it fails, each module has its own.

    A modprobe that could not be run, or did not end, is not run again for each name.
    """
    if (refused := refused_by_kernel(root, names)) is not None:
        return refused
    status, output = run_program("modprobe", "-a", *names)
    if status not in (0, None) and len(names) > 1:
        return [attempt for name in names for attempt in load_modules(root, name)]
    return attempts_of(names, status, output)


def refused_by_kernel(root: Sysroot, names: Sequence[str]) -> list[LoadAttempt] | None:
    """Return the answer for each of `names` where the kernel has no loadable modules; None where it has."""
    return None if root.exists("/proc/modules") else attempts_of(names, None, _NO_MODULES)


def attempts_of(names: Sequence[str], status: int | None, output: str) -> list[LoadAttempt]:
    """Return the same answer for each of `names`. `status`: None where modprobe was not run."""
    return [{"module": name, "status": status, "output": output, "unloaded": None} for name in names]


def unload_modules(root: Sysroot, names: Sequence[str]) -> None:
    """Unload modules as soon as nothing uses them, or give up after _UNLOAD_DEADLINE_S.

    Another process may use them for days.
    """
    ends = time.monotonic() + _UNLOAD_DEADLINE_S
    tries = 0
    while (loaded := [name for name in names if not is_certainly_unloaded(root, name)]) and time.monotonic() < ends:
        unused = [name for name in loaded if root.read_text_or_none(f"/sys/module/{name}/refcnt") in ("0", None)]
        if unused:
            tries += 1
            status, _ = run_program("modprobe", "-r", *unused)
            if (status == 0 and unused == loaded) or tries == _UNLOAD_TRIES:
                return
        time.sleep(_PAUSE_S)
