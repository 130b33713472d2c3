"""Changes of KVM's configuration: modules, their parameters, lockdown, the kernel's command line."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.compare.command_line_changes import command_line
from kvmprobe.compare.device_changes import device
from kvmprobe.compare.difference import CHANGED, NOT_COMPARABLE, SAME, Difference, Side
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Module, Reading

_AREA = "parameters"
_ABSENT = "absent"

_TEMPORARY = ("msr", "cpuid")  # kvmprobe loads these modules itself

_BOOLEANS = {"1": "Y", "0": "N"}  # the type of a parameter may change between kernels: nested=1, nested=Y


def parameters(old: Side, new: Side) -> Iterator[Difference]:
    """Lockdown, /dev/kvm, the command line, the state of each module, each parameter of a module that both have."""
    yield _difference("lockdown", old.evidence["kernel"]["lockdown"], new.evidence["kernel"]["lockdown"])
    yield from device(old, new)
    yield from command_line(old, new)
    known = [side.evidence["modules"] for side in (old, new)]
    if None in known:
        if known[0] is not known[1]:
            was, now = ("not readable" if modules is None else "read" for modules in known)
            yield Difference(_AREA, "/sys/module", NOT_COMPARABLE, was, now)
        return
    for name in sorted({*known[0], *known[1]} - set(_TEMPORARY)):
        yield from _module(name, known[0].get(name), known[1].get(name))


def _module(name: str, was: Module | None, now: Module | None) -> Iterator[Difference]:
    before, after = (module["state"] if module else _ABSENT for module in (was, now))
    yield Difference(_AREA, f"module {name}", SAME if before == after else CHANGED, before, after)
    if was and now:
        for parameter in sorted({*was["parameters"], *now["parameters"]}):
            values = [module["parameters"].get(parameter) for module in (was, now)]
            yield _difference(f"{name}.{parameter}", *values)


def _difference(subject: str, was: Reading, now: Reading) -> Difference:
    before, after = (value if isinstance(value, str) else error_of(value) or _ABSENT for value in (was, now))
    if _BOOLEANS.get(before, before) == _BOOLEANS.get(after, after):
        rating = SAME
    else:
        rating = NOT_COMPARABLE if error_of(was) or error_of(now) else CHANGED
    return Difference(_AREA, subject, rating, before, after)
