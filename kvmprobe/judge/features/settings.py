"""kvm_amd's parameters, as they are after it was loaded."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.printable import cut

if TYPE_CHECKING:
    from kvmprobe.judge.facts import Facts
    from kvmprobe.model.evidence import Reading

_LONGEST = 24  # characters

# Evidence of the first versions has only these parameters of kvm_amd. Where it has no other, the list is not complete.
_FIRST_RECORDED = frozenset(("nested", "npt", "avic", "vnmi", "vgif", "sev", "sev_es", "sev_snp"))


def parameter_of(facts: Facts, name: str) -> Reading:
    """The value of a parameter of kvm_amd; None where kvm_amd is missing, or has no such parameter in the evidence."""
    module = facts.modules.get("kvm_amd")
    return module["parameters"].get(name) if module else None


def all_are_recorded(facts: Facts) -> bool:
    """Whether the evidence has all parameters of kvm_amd, so that one that is missing is none of this kernel's."""
    module = facts.modules.get("kvm_amd")
    return module is not None and not _FIRST_RECORDED.issuperset(module["parameters"])


def is_on(value: Reading) -> bool | None:
    """Whether a parameter is on: "Y", or a number other than 0. None where it is unknown, or neither on nor off."""
    if value in ("Y", "N"):
        return value == "Y"
    return value.strip("0") != "" if isinstance(value, str) and value.isascii() and value.isdigit() else None


def shown(value: Reading) -> str:
    """A value for people, of bounded length: evidence may come from anywhere."""
    return cut(str(value), _LONGEST)
