"""One host in a table of hosts: what a summary of many reports, and the page of one report, keep of a report.

The values that many hosts share (`Profile`) are separate from a host's own, so that equal ones are kept once.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_table import CHECKS

if TYPE_CHECKING:
    from typing import Any

    # Summary and hint of the verdict; with all details the messages of the checks, one for each of CHECK_IDS, those of
    # the requirements, and the registers (see HostRow).
    Details = tuple[str, str, tuple[str, ...], tuple[tuple[str | None, ...], ...]]
    # Host name, time, the arguments of Profile, details: a row as plain values, which processes pass on to each other.
    RowValues = tuple[str, str, tuple[Any, ...], Details]


CHECK_IDS = tuple(check.id for check in CHECKS)
# The status of a check as one letter; "-" where the report has no such check.
MARKS = {"pass": "P", "fail": "F", "warn": "W", "skip": "S", "unknown": "U"}
UNKNOWN = "unknown"
PAGE = "page"  # in place of VM_HSAVE_PA, where no other CPU has the same page


class Profile:
    """The values of a report that many hosts share.

    `marks`: a letter of MARKS for each of CHECK_IDS. `version`: of the kvmprobe that made the report. `cpus`: how many
    were online; None where that is unknown. `parameters`: ("kvm_amd.npt=Y", …), then
    the settings of the host around KVM ("smt.active=1", …). `requirements`: the name and the status
    of each ("cpus>=64", "met"), in the order of the question. `sev`: "sev available, sev-es available, sev-snp off
    (sev-snp-iommu-off)"; "" for a report without --sev.
    """

    def __init__(
        self,
        status: str,
        reason: str,
        kernel: str,
        model: str,
        microcode: str,
        version: str,
        cpus: int | None,
        lockdown: str,
        parameters: tuple[str, ...],
        marks: str,
        requirements: tuple[tuple[str, str], ...],
        sev: str,
    ) -> None:
        self.status = status
        self.reason = reason
        self.kernel = kernel
        self.model = model
        self.microcode = microcode
        self.version = version
        self.cpus = cpus
        self.lockdown = lockdown
        self.parameters = parameters
        self.marks = marks
        self.requirements = requirements
        self.sev = sev


class HostRow:
    """A host as one report describes it, which is in `file` (at `line`, where the file has several reports; else 0).

    `messages`: of the checks, in the order of CHECK_IDS, then of the requirements. `registers`: one row for each group
    of equal CPUs, with the list of the CPUs ("0-3") and then each of SNAPSHOT_REGISTERS in each of SNAPSHOT_PHASES:
    "0xd01", "!EPERM" where it could not be read, None where it is unknown.
    """

    __slots__ = ("file", "hint", "line", "messages", "name", "profile", "registers", "summary", "taken_at")

    def __init__(self, name: str, taken_at: str, file: str, line: int, profile: Profile, details: Details) -> None:
        self.name = name
        self.taken_at = taken_at
        self.file = file
        self.line = line
        self.profile = profile
        self.summary, self.hint, self.messages, self.registers = details


_COUNTED = ("status", "reason", "kernel", "model", "microcode", "version", "sev")


def counts(profiles: Iterable[tuple[Profile, int]]) -> dict[str, dict[str, int]]:
    """How many hosts have which value, by field ("status", "reason", …), the most frequent value first.

    `profiles`: each profile with the number of its hosts. "sev" is missing where no report was taken with --sev.
    """
    found: dict[str, dict[str, int]] = {field: {} for field in _COUNTED}
    for profile, number in profiles:
        for field, values in found.items():
            value = getattr(profile, field)
            values[value] = values.get(value, 0) + number
    found["sev"].pop("", None)
    if not found["sev"]:
        del found["sev"]
    return {
        field: dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))) for field, values in found.items()
    }
