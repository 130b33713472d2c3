"""Changes of the node /dev/kvm: its number and its mode."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe.compare.difference import BETTER, CHANGED, SAME, WORSE, Difference, Side
from kvmprobe.model.values import KVM_NUMBER, as_mode

_AREA = "parameters"
_OTHERS = 0o007  # the bits of a mode for every user
_OWN = 0o660  # those with which the owner and the group use it


def device(old: Side, new: Side) -> Iterator[Difference]:
    """Number and mode of a node that both reports have; the check kvm-device shows where it is missing."""
    nodes = [side.evidence["device"] for side in (old, new)]
    for field, rate in (("number", _rate_number), ("mode", _rate_mode)):
        was, now = (node[field] for node in nodes)
        if was is not None and now is not None:
            rating, note = (SAME, "") if was == now else rate(was, now)
            yield Difference(_AREA, f"/dev/kvm {field}", rating, was, now, note)


def _rate_number(was: str, now: str) -> tuple[str, str]:
    if now == KVM_NUMBER:
        return BETTER, ""
    return (WORSE if was == KVM_NUMBER else CHANGED), f"the kernel's number for KVM is {KVM_NUMBER}"


def _rate_mode(was: str, now: str) -> tuple[str, str]:
    """It is worse where every user may now do what only the owner and the group could, or where these two no longer
    may; else better where the opposite changed."""
    before, after = as_mode(was), as_mode(now)
    if before is None or after is None:  # of a damaged report
        return CHANGED, ""
    gained, lost = after & ~before, before & ~after
    if gained & _OTHERS:
        return WORSE, "more users may open it"
    if lost & _OWN:
        return WORSE, "its owner or group may no longer use it"
    if lost & _OTHERS:
        return BETTER, "fewer users may open it"
    return (BETTER, "its owner or group may use it") if gained & _OWN else (CHANGED, "")
