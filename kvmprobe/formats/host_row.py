"""A report in short: what a summary of many keeps of each, as plain values that processes can pass on.

What hosts have in common (`Profile`) stands apart from what a host says for itself, so that equal ones are kept once.
Reports may be hand-made: each value that is taken is of the type it should be, and of bounded size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.cpu_lists import format_cpulist, parse_cpulist
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, VM_HSAVE_PA
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

if TYPE_CHECKING:
    from typing import Any


CHECK_IDS = tuple(check.id for check in CHECKS)
# A check's status as one letter; "-" where the report has no such check.
MARKS = {"pass": "P", "fail": "F", "warn": "W", "skip": "S", "unknown": "U"}
UNKNOWN = "unknown"
PAGE = "page"  # in place of VM_HSAVE_PA: a page that no other CPU has

_INDEX = {id: index for index, id in enumerate(CHECK_IDS)}
_MODULES = ("kvm", "kvm_amd")  # whose parameters are kept
_NAME, _TEXT, _MESSAGE = 255, 200, 2000  # characters, at most
_MOST_CPUS = 8192  # the kernel's own limit, CONFIG_NR_CPUS on x86
_MOST_PARAMETERS = 200
_HEX = re.compile("0x[0-9a-f]{1,16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class Malformed(ValueError):
    """The report is not what it should be; says where."""


class Profile:
    """What many hosts have in common. `marks`: a letter of MARKS for each of CHECK_IDS; `version`: of the kvmprobe
    that made the report; `parameters`: ("kvm_amd.npt=Y", …)."""

    def __init__(
        self,
        status: str,
        reason: str,
        kernel: str,
        model: str,
        microcode: str,
        version: str,
        cpus: int,
        lockdown: str,
        parameters: tuple[str, ...],
        marks: str,
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


class Host:
    """A host by one report of it, found in `file` (at `line`, where it has several). `messages`: by check, like the
    profile's marks; `registers`: ("0-3", EFER before, created and closed, VM_CR …, VM_HSAVE_PA …), for equal CPUs."""

    __slots__ = ("file", "hint", "line", "messages", "name", "profile", "registers", "summary", "taken_at")

    def __init__(self, name: str, taken_at: str, file: str, line: int, profile: Profile, told: Told) -> None:
        self.name = name
        self.taken_at = taken_at
        self.file = file
        self.line = line
        self.profile = profile
        self.summary, self.hint, self.messages, self.registers = told


if TYPE_CHECKING:
    Told = tuple[str, str, tuple[str, ...], tuple[tuple[str | None, ...], ...]]
    Digest = tuple[str, str, tuple[Any, ...], Told]


def digest(report: object, details: bool) -> Digest:
    """(host name, time, the profile's fields, what it told: summary, hint and with `details` messages and registers).

    Raises Malformed.
    """
    status, reason = _at(report, "verdict", "status"), _at(report, "verdict", "reason")
    if not isinstance(reason, str) or reason not in REASONS or REASONS[reason].status != status:
        raise Malformed("verdict: no reason of this version with its status")
    evidence = _at(report, "evidence")
    marks, messages = _checks(_at(report, "checks"))
    profile = (
        status,
        reason,
        _name(evidence, "kernel", "release"),
        *_cpuinfo(_at(evidence, "cpus", "cpuinfo")),
        _name(report, "tool", "version"),
        _online(_name(evidence, "cpus", "online")),
        _setting(_at(evidence, "kernel", "lockdown")) or UNKNOWN,
        _parameters(_at(evidence, "modules")),
        marks,
    )
    name, taken_at = _name(evidence, "host", "name"), _name(evidence, "taken_at")
    if not _TIME.fullmatch(taken_at):
        raise Malformed("taken_at is not a time like 2026-01-31T23:59:59Z")
    told = _message(report, "verdict", "summary"), _message(report, "verdict", "hint")
    if not details:
        return name, taken_at, profile, (*told, (), ())
    return name, taken_at, profile, (*told, messages, _registers(_at(evidence, "snapshots")))


def counts(profiles: Iterable[tuple[Profile, int]]) -> dict[str, dict[str, int]]:
    """By field ("status", "reason", …): how many hosts have which value, from the profiles and their numbers of hosts.

    The most frequent first.
    """
    found: dict[str, dict[str, int]] = {field: {} for field in ("status", "reason", "kernel", "model", "microcode")}
    found["version"] = {}
    for profile, number in profiles:
        for field, values in found.items():
            value = getattr(profile, field)
            values[value] = values.get(value, 0) + number
    return {
        field: dict(sorted(values.items(), key=lambda item: (-item[1], item[0]))) for field, values in found.items()
    }


def _at(data: object, *path: str) -> Any:
    for depth, step in enumerate(path):
        if not isinstance(data, dict) or step not in data:
            raise Malformed(f"{'.'.join(path[: depth + 1])} is missing")
        data = data[step]
    return data


def _string(data: object, *path: str) -> str:
    value = _at(data, *path)
    if not isinstance(value, str):
        raise Malformed(f"{'.'.join(path)} is not text")
    return value


def _name(data: object, *path: str) -> str:
    """What things are told apart by is not cut off."""
    value = _string(data, *path)
    if len(value) > _NAME:
        raise Malformed(f"{'.'.join(path)} is longer than {_NAME} characters")
    return value


def _message(data: object, *path: str) -> str:
    return _cut(_string(data, *path), _MESSAGE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _online(text: str) -> int:
    try:
        return len(parse_cpulist(text))
    except ValueError as error:
        raise Malformed(f"cpus.online: {error}") from error


def _setting(value: object) -> str | None:
    """None where it is unknown or could not be read."""
    return _cut(value, _TEXT) if isinstance(value, str) else None


def _cpuinfo(infos: object) -> tuple[str, str]:
    """Model and microcode of a host's CPUs: one of each, where all is well."""
    if not isinstance(infos, dict) or len(infos) > _MOST_CPUS:
        raise Malformed("cpus.cpuinfo is not what it should be")
    if error_of(infos) is not None:
        return UNKNOWN, UNKNOWN
    found = []
    for field in ("model_name", "microcode"):
        values = {_setting(info.get(field)) for info in infos.values() if isinstance(info, dict)}
        found.append(_cut(", ".join(sorted(filter(None, values))), _TEXT) or UNKNOWN)
    return found[0], found[1]


def _parameters(modules: object) -> tuple[str, ...]:
    if modules is None:
        return ()
    found = []
    for module in _MODULES:
        if isinstance(modules, dict) and module in modules:
            parameters = _at(modules, module, "parameters")
            if not isinstance(parameters, dict) or len(parameters) > _MOST_PARAMETERS:
                raise Malformed(f"modules.{module}.parameters is not what it should be")
            for name, value in parameters.items():
                if (setting := _setting(value)) is not None:
                    found.append(f"{_cut(module + '.' + name, _TEXT)}={setting}")
    return tuple(sorted(found))


def _checks(checks: object) -> tuple[str, tuple[str, ...]]:
    """Marks and messages in the order of CHECK_IDS."""
    if not isinstance(checks, list) or len(checks) > len(CHECK_IDS):
        raise Malformed("checks is not what it should be")
    marks, messages = ["-"] * len(CHECK_IDS), [""] * len(CHECK_IDS)
    for check in checks:
        id, status = _string(check, "id"), _string(check, "status")
        if id not in _INDEX or status not in MARKS:
            raise Malformed("checks: one that this version does not know")
        marks[_INDEX[id]] = MARKS[status]
        messages[_INDEX[id]] = _message(check, "message")
    return "".join(marks), tuple(messages)


def _registers(snapshots: object) -> tuple[tuple[str | None, ...], ...]:
    if not isinstance(snapshots, list) or len(snapshots) > len(SNAPSHOT_PHASES):
        raise Malformed("snapshots is not what it should be")
    by_phase = {_string(snapshot, "phase"): _at(snapshot, "cpus") for snapshot in snapshots}
    names = {cpu for cpus in by_phase.values() if isinstance(cpus, dict) for cpu in cpus}
    if len(names) > _MOST_CPUS or not all(name.isascii() and name.isdigit() and len(name) < 6 for name in names):
        raise Malformed("snapshots: not the CPUs of one host")
    columns = [
        _column(by_phase.get(phase), register.name, names, register is VM_HSAVE_PA)
        for register in SNAPSHOT_REGISTERS
        for phase in SNAPSHOT_PHASES
    ]
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for cpu in sorted(names, key=int):
        groups.setdefault(tuple(column[cpu] for column in columns), []).append(int(cpu))
    return tuple((format_cpulist(cpus), *row) for row, cpus in groups.items())


def _column(cpus: object, register: str, names: Iterable[str], pages: bool) -> dict[str, str | None]:
    """One register in one snapshot, by CPU: "0xd01", "!EPERM" where it could not be read, None where it is unknown.

    `pages`: of a page that one CPU alone has only that matters.
    """
    column = {}
    seen: dict[str, int] = {}
    for cpu in names:
        values = cpus.get(cpu) if isinstance(cpus, dict) else None
        value = _reading(values.get(register) if isinstance(values, dict) else None)
        column[cpu] = value
        if value is not None:
            seen[value] = seen.get(value, 0) + 1
    if not pages:
        return column
    return {
        cpu: PAGE if value and value[0] == "0" and value != "0x0" and seen[value] == 1 else value
        for cpu, value in column.items()
    }


def _reading(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and _HEX.fullmatch(value):
        return value
    error = error_of(value)
    if not isinstance(error, str):
        raise Malformed("snapshots: a register that is neither a hexadecimal number nor an error")
    return _cut(f"!{error}", _TEXT)
