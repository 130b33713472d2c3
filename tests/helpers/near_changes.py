"""What evidence lacks in the near misses of causes, and how a row of them is written."""

from __future__ import annotations

from typing import Any, Optional

from tests.helpers.cause_changes import (
    Change,
    device,
    module,
    user,
)
from tests.helpers.evidence_changes import at_load
from tests.helpers.variants import (
    Evidence,
)

# (name, recorded evidence, change, reason, cause)
Near = tuple[tuple[str, str, Change, str, Optional[str]], ...]


def near(base: str, reason: str, *rows: tuple[str, Change, str | None]) -> Near:
    """Rows with one recorded evidence and one reason: name, change, cause."""
    return tuple((name, base, change, reason, cause) for name, change, cause in rows)


TMPFS = {"path": "/dev", "type": "tmpfs", "options": "rw"}

UNKNOWN = {"error": "EACCES"}

NO_NODE = device("ENOENT", type=None, number=None, mode=None)

USER = user(1000)

OTHER_VENDOR = "kvm: already loaded vendor module 'kvm_pvm'"

UNSIGNED = "Loading of unsigned module is rejected"


def node(**fields: Any) -> Change:
    return lambda evidence: evidence["device"].update(fields)


def no_guest(evidence: Evidence) -> None:
    """No guest was run, which would show SVM without registers."""
    evidence["guest"] = []


def loads(*attempts: tuple[str, int | None, str]) -> Change:
    """Attempts to load modules, in place of all others: module, status, output."""

    def change(evidence: Evidence) -> None:
        evidence["loads"] = [{"module": m, "status": s, "output": o, "unloaded": None} for m, s, o in attempts]

    return change


def cpu_family(value: str | None) -> Change:
    """The family in /proc/cpuinfo."""

    def change(evidence: Evidence) -> None:
        for info in evidence["cpus"]["cpuinfo"].values():
            info["cpu_family"] = value

    return change


def no_modules(evidence: Evidence) -> None:
    evidence["modules"] = None


def vbox(**fields: Any) -> Change:
    return module("vboxdrv", **fields)


def at_load_y(evidence: Evidence) -> None:
    evidence["modules"].setdefault("kvm", {"state": "live", "refcount": 0, "holders": [], "parameters": {}})
    at_load("Y")(evidence)
