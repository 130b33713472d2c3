"""A feature file for node-feature-discovery's "local" source: NAME=VALUE lines under a time of expiry (NFD 0.14).

A line is a node label, and a feature for rules; after "# +no-label" (NFD 0.15) a feature alone. NFD drops a label whose
value is not Kubernetes' (63 of [A-Za-z0-9._-], alphanumeric at both ends). So values are reasons, numbers, "true" and
"false", never text of the evidence: nothing has to be bent, no two can become one. What is unknown is left out. And
what changes from run to run (times) is in comments: each change of a feature is a write to the API server, from every
node.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.facts import Facts
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.printable import clean
from kvmprobe.model.registers import CPUID_SEV, LEAF_MEMORY_ENCRYPTION, LEAF_SVM, VM_CR, CpuidBit

if TYPE_CHECKING:
    from typing import Union

    from kvmprobe.model.judgement import Report

    Value = Union[str, int, None]

PREFIX = "feature.node.kubernetes.io/kvmprobe."

# From the probe on, so that a report judged later is no fresher: a daily run may be two hours late, and one that
# does not come takes the labels with it.
VALID_H = 26

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_LONGEST = 200  # of a comment; NFD ignores a file of more than 64 KiB


def render(report: Report) -> str:
    """The file, ASCII only. Raises DataProblem where the report does not say when it was made."""
    facts = Facts(report["evidence"])
    lines = [f"# +expiry-time={_expiry(report['evidence']['taken_at'])}", *_comments(report)]
    lines += _lines(_labels(report, facts), "")
    lines += _lines(_features(report, facts), "# +no-label\n")
    return "".join(f"{line}\n" for line in lines)


def _expiry(taken_at: str) -> str:
    """To NFD a file without a valid expiry is valid for ever, so there is none without."""
    try:
        if not _TIME.fullmatch(taken_at):
            raise ValueError
        # RFC 3339's "Z" is no ISO format to Python before 3.11.
        end = datetime.datetime.fromisoformat(taken_at[:-1]) + datetime.timedelta(hours=VALID_H)
    except (ValueError, OverflowError):
        message = f"evidence.taken_at is not a time: {taken_at[:40]!r}: features need one to expire"
        raise DataProblem(message, "Give a report as kvmprobe writes it: 2026-11-22T16:07:51Z.") from None
    return f"{end.isoformat()}Z"


def _comments(report: Report) -> Iterator[str]:
    """For people. Each begins with a word of ours: "# +" would make it an instruction to NFD."""
    evidence, verdict = report["evidence"], report["verdict"]
    yield f"# written by kvmprobe {report['tool']['version']} at each run, read by node-feature-discovery"
    for line in (
        f"# host: {evidence['host']['name']}, Linux {evidence['kernel']['release']}, {evidence['taken_at']}",
        f"# verdict: {verdict['status']} {verdict['reason']}",
    ):
        yield clean(line).encode("ascii", "backslashreplace").decode()[:_LONGEST].rstrip()


def _lines(values: Iterable[tuple[str, Value]], before: str) -> Iterator[str]:
    for name, value in values:
        if value is not None:
            # A bool is an int to Python.
            yield f"{before}{PREFIX}{name}={str(value).lower() if isinstance(value, bool) else value}"


def _labels(report: Report, facts: Facts) -> Iterator[tuple[str, Value]]:
    """To schedule by. `ready` is left to others where SVM is not what VMs need, or nothing is known."""
    verdict = report["verdict"]
    yield "verdict", verdict["status"].replace(" ", "-")
    yield "reason", verdict["reason"]
    yield "ready", {"confirmed": True, "failed": False}.get(verdict["status"])
    yield "svm", _all(facts.svm())
    for name, (parameter, bit) in _KVM_AMD.items():
        yield name, _works(facts, parameter, bit)


def _features(report: Report, facts: Facts) -> Iterator[tuple[str, Value]]:
    """For rules."""
    for name in ("avic", "vgif", "vnmi"):
        yield name, _works(facts, name, None)
    yield "enable-virt-at-load", facts.enables_at_load()
    most = report["evidence"]["ioctls"]["KVM_CHECK_EXTENSION"].get("KVM_CAP_MAX_VCPUS")
    yield "max-vcpus", most if isinstance(most, int) else None
    yield "cpus.online", len(facts.cpus)
    yield "cpus.svme", _count(facts.svme("created"))
    vm_cr = facts.register("before", "VM_CR").items()
    yield "cpus.svmdis", _count({cpu: None if value is None else VM_CR.bit(value, "SVMDIS") for cpu, value in vm_cr})
    statuses = [check["status"] for check in report["checks"]]
    for status in (PASS, WARN, FAIL, SKIP, UNKNOWN):
        yield f"checks.{status}", statuses.count(status)


# kvm_amd's parameter, which says after loading what KVM made of it, and the CPU's bit: in 5.10 a parameter was no more
# than a wish. The names are those of NFD's own labels (cpu-security.sev.es.enabled …), shortened.
_KVM_AMD: dict[str, tuple[str, CpuidBit | None]] = {
    "nested": ("nested", None),
    "npt": ("npt", CpuidBit(LEAF_SVM, 3, 0)),
    "sev": ("sev", CPUID_SEV),
    "sev-es": ("sev_es", CpuidBit(LEAF_MEMORY_ENCRYPTION, 0, 3)),
    "sev-snp": ("sev_snp", CpuidBit(LEAF_MEMORY_ENCRYPTION, 0, 4)),
}
_SWITCH = {"Y": True, "1": True, "N": False, "0": False}


def _works(facts: Facts, parameter: str, bit: CpuidBit | None) -> bool | None:
    module = facts.modules.get("kvm_amd")
    value = module["parameters"].get(parameter) if module else None
    on = _SWITCH.get(value) if isinstance(value, str) else None
    return False if on and bit and False in facts.cpuid_bit(bit).values() else on


def _all(values: Mapping[int, bool | None]) -> bool | None:
    """What all CPUs have in common; None where they differ or it is unknown of some."""
    states = set(values.values())
    return states.pop() if len(states) == 1 else None


def _count(values: Mapping[int, bool | None]) -> int | None:
    return None if None in values.values() else sum(map(bool, values.values()))
