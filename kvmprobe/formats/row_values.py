"""Takes the values of a host's row from a report that may have been written by hand.

Each value has the type that it should have, and a bounded size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.context_settings import context_settings
from kvmprobe.formats.host_row import CHECK_IDS, MARKS, PAGE, UNKNOWN
from kvmprobe.model.cpu_lists import format_cpulist, parse_cpulist
from kvmprobe.model.printable import cut
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, VM_HSAVE_PA
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.formats.host_row import RowValues


_INDEX = {id: index for index, id in enumerate(CHECK_IDS)}
_MODULES = ("kvm", "kvm_amd")  # whose parameters are kept
_LONGEST_NAME, _LONGEST_TEXT, _LONGEST_MESSAGE = 255, 200, 2000  # characters
_MOST_CPUS = 8192  # CONFIG_NR_CPUS of x86 allows no more
_MOST_PARAMETERS = 200
_MOST_LEVELS = 3
_MOST_REQUIREMENTS = 1000
REQUIREMENT_STATUSES = {"met", "not-met", "unknown"}
_HEX = re.compile("0x[0-9a-f]{1,16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


class Malformed(ValueError):
    """The report is not what it should be. The message names the field and what is wrong with it."""


def row_values(report: object, with_details: bool) -> RowValues:
    """The values of the report's row; messages of checks and registers only `with_details`. Raises Malformed."""
    status, reason = _at(report, "verdict", "status"), _at(report, "verdict", "reason")
    if not isinstance(reason, str) or reason not in REASONS or REASONS[reason].status != status:
        raise Malformed("verdict: this version has no such reason with this status")
    evidence = _at(report, "evidence")
    marks, messages = _checks(_at(report, "checks"))
    requirements, answers = _requirements(report)
    profile = (
        status,
        reason,
        _name(evidence, "kernel", "release"),
        *_cpuinfo(_at(evidence, "cpus", "cpuinfo")),
        _name(report, "tool", "version"),
        _online(_at(evidence, "cpus")),
        _setting(_at(evidence, "kernel", "lockdown")) or UNKNOWN,
        (*_parameters(_at(evidence, "modules")), *context_settings(evidence.get("context"))),
        marks,
        requirements,
        _sev(report),
    )
    name, taken_at = _name(evidence, "host", "name"), _name(evidence, "taken_at")
    if not _TIME.fullmatch(taken_at):
        raise Malformed("taken_at is not a time like 2026-01-31T23:59:59Z")
    verdict = _message(report, "verdict", "summary"), _message(report, "verdict", "hint")
    if not with_details:
        return name, taken_at, profile, (*verdict, (), ())
    return name, taken_at, profile, (*verdict, (*messages, *answers), _registers(_at(evidence, "snapshots")))


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
    """Text that identifies something, so it is never shortened."""
    value = _string(data, *path)
    if len(value) > _LONGEST_NAME:
        raise Malformed(f"{'.'.join(path)} is longer than {_LONGEST_NAME} characters")
    return value


def _message(data: object, *path: str) -> str:
    return cut(_string(data, *path), _LONGEST_MESSAGE)


def _online(cpus: object) -> int | None:
    """How many CPUs were online at the beginning or at the end; None where that is unknown."""
    if _at(cpus, "online") is None:
        return None
    lists = [_name(cpus, field) for field in ("online", "online_at_end") if _at(cpus, field) is not None]
    try:
        return len(set().union(*map(parse_cpulist, lists)))
    except ValueError as error:
        raise Malformed(f"cpus.online: {error}") from error


def _setting(value: object) -> str | None:
    """None where it is unknown or could not be read."""
    return cut(value, _LONGEST_TEXT) if isinstance(value, str) else None


def _cpuinfo(infos: object) -> tuple[str, str]:
    """Model and microcode of the CPUs: the values of all, joined where they differ."""
    if not isinstance(infos, dict) or len(infos) > _MOST_CPUS:
        raise Malformed("cpus.cpuinfo is not an object with the CPUs of one host")
    if error_of(infos) is not None:
        return UNKNOWN, UNKNOWN
    found = []
    for field in ("model_name", "microcode"):
        values = {_setting(info.get(field)) for info in infos.values() if isinstance(info, dict)}
        found.append(cut(", ".join(sorted(filter(None, values))), _LONGEST_TEXT) or UNKNOWN)
    return found[0], found[1]


def _parameters(modules: object) -> tuple[str, ...]:
    if modules is None:
        return ()
    found = []
    for module in _MODULES:
        if isinstance(modules, dict) and module in modules:
            parameters = _at(modules, module, "parameters")
            if not isinstance(parameters, dict) or len(parameters) > _MOST_PARAMETERS:
                raise Malformed(f"modules.{module}.parameters is not an object with at most {_MOST_PARAMETERS} values")
            for name, value in parameters.items():
                if (setting := _setting(value)) is not None:
                    found.append(f"{cut(module + '.' + name, _LONGEST_TEXT)}={setting}")
    return tuple(sorted(found))


def _checks(checks: object) -> tuple[str, tuple[str, ...]]:
    """Marks and messages in the order of CHECK_IDS."""
    if not isinstance(checks, list) or len(checks) > len(CHECK_IDS):
        raise Malformed("checks is not a list of the checks of this version")
    marks, messages = ["-"] * len(CHECK_IDS), [""] * len(CHECK_IDS)
    for check in checks:
        id, status = _string(check, "id"), _string(check, "status")
        if id not in _INDEX or status not in MARKS:
            raise Malformed("checks: this version has no such check or status")
        marks[_INDEX[id]] = MARKS[status]
        messages[_INDEX[id]] = _message(check, "message")
    return "".join(marks), tuple(messages)


def _requirements(report: Any) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Name and status of each requirement; their messages."""
    rows = report.get("requirements", ())
    if not isinstance(rows, (list, tuple)) or len(rows) > _MOST_REQUIREMENTS:
        raise Malformed(f"requirements is not a list of at most {_MOST_REQUIREMENTS}")
    found = tuple((_name(row, "name"), _string(row, "status")) for row in rows)
    if not {status for _, status in found} <= REQUIREMENT_STATUSES:
        raise Malformed("requirements: this version has no such status")
    return found, tuple(_message(row, "message") for row in rows)


def _sev(report: Any) -> str:
    """See Profile.sev. Statuses and causes are from closed lists."""
    if "sev" not in report:
        return ""
    from kvmprobe.judge.sev import AVAILABLE, NOT_KNOWN, OFF, SEV_CAUSES

    levels = _at(report, "sev", "levels")
    found = []
    for level in levels if isinstance(levels, list) else ():
        name, status, cause = _string(level, "level"), _string(level, "status"), _at(level, "cause")
        if status not in (AVAILABLE, OFF, NOT_KNOWN) or not (cause is None or cause in SEV_CAUSES):
            raise Malformed("sev: this version has no such status or cause")
        found.append(f"{name} {status}" + (f" ({cause})" if cause else ""))
    if len(found) > _MOST_LEVELS or not all(text.startswith("sev") for text in found):
        raise Malformed("sev.levels is not a list of sev, sev-es and sev-snp")
    return ", ".join(found)


def _registers(snapshots: object) -> tuple[tuple[str | None, ...], ...]:
    """See HostRow."""
    if not isinstance(snapshots, list) or len(snapshots) > len(SNAPSHOT_PHASES):
        raise Malformed(f"snapshots is not a list of at most {len(SNAPSHOT_PHASES)}")
    by_phase = {_string(snapshot, "phase"): _at(snapshot, "cpus") for snapshot in snapshots}
    names = {cpu for cpus in by_phase.values() if isinstance(cpus, dict) for cpu in cpus}
    if len(names) > _MOST_CPUS or not all(name.isascii() and name.isdigit() and len(name) < 6 for name in names):
        raise Malformed("snapshots: these are not the CPUs of one host")
    columns = [
        _column(by_phase.get(phase), register.name, names, register is VM_HSAVE_PA)
        for register in SNAPSHOT_REGISTERS
        for phase in SNAPSHOT_PHASES
    ]
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for cpu in sorted(names, key=int):
        groups.setdefault(tuple(column[cpu] for column in columns), []).append(int(cpu))
    return tuple((format_cpulist(cpus), *row) for row, cpus in groups.items())


def _column(cpus: object, register: str, names: Iterable[str], has_pages: bool) -> dict[str, str | None]:
    """One register in one snapshot, by CPU.

    `has_pages`: the register has the address of a page, and PAGE replaces the address of a page that no other CPU has.
    """
    column = {}
    seen: dict[str, int] = {}
    for cpu in names:
        values = cpus.get(cpu) if isinstance(cpus, dict) else None
        value = _reading(values.get(register) if isinstance(values, dict) else None)
        column[cpu] = value
        if value is not None:
            seen[value] = seen.get(value, 0) + 1
    if not has_pages:
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
        raise Malformed("snapshots: a register is neither a hexadecimal number nor an error")
    return cut(f"!{error}", _LONGEST_TEXT)
