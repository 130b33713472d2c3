"""Capabilities of the process that took the evidence (include/uapi/linux/capability.h)."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.values import as_int

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Rights

CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_PTRACE = 16, 17, 19


def has_capability(rights: Rights | None, number: int) -> bool | None:
    """Whether CapEff has the capability; None where it is unknown, also in evidence without `rights`."""
    mask = as_int(rights["capabilities"]) if rights else None
    return None if mask is None else bool(mask >> number & 1)
