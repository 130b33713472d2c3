"""Reads evidence from a file that may hold anything."""

from __future__ import annotations

import json
import os
import sys
from typing import cast

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge import SCHEMA
from kvmprobe.model.cpu_lists import parse_cpulist
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.report.reading import parts_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.json_schema import Schema


_LIMIT = 256 << 20  # a report of 1,024 CPUs has about 1 MiB
_DEPTH = 32  # a report has 8
_HINT = "Give a file made by 'kvmprobe --json'."


def load(path: str) -> Evidence:
    """The evidence in a report or an evidence file; "-" is standard input.

    Raises DataProblem for a file that cannot be read, is not JSON, not evidence, or of another schema.
    """
    name = "standard input" if path == "-" else path or "''"
    return evidence_of(parse(_read(path, name), name), name, report_schema())


def evidence_of(data: object, name: str, report: Schema) -> Evidence:
    """The evidence in what was parsed; `name`: what to call it, `report`: the schema of reports. Raises DataProblem."""
    if _is_deep(data):
        raise DataProblem(f"{name}: not a report: nested deeper than {_DEPTH} levels")
    if not isinstance(data, dict):
        raise DataProblem(f"{name}: neither a report nor evidence: it is not a JSON object")
    if data.get("schema", SCHEMA) != SCHEMA:
        raise DataProblem(f"{name}: unknown schema {str(data['schema'])[:60]!r}", f"This version reads {SCHEMA}.")
    if "evidence" not in data and "snapshots" not in data:
        raise DataProblem(f"{name}: neither a report nor evidence", _HINT)
    evidence = data.get("evidence", data)
    error = first_error(evidence, report["$defs"]["evidence"], report) or _contradiction(evidence)
    if error:
        raise DataProblem(f"{name}: not evidence of {SCHEMA}: {error}")
    return cast("Evidence", evidence)


def _read(path: str, name: str) -> bytes:
    try:
        if path == "-" and sys.stdin is None:
            raise ValueError("it is closed")
        fd = os.dup(sys.stdin.fileno()) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        data = bytearray()
        with os.fdopen(fd, "rb", buffering=0) as file:
            for part in parts_of(file, 1 << 20):
                data += part
                if len(data) > _LIMIT:
                    break
    except (OSError, ValueError) as error:
        raise DataProblem(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _LIMIT:
        raise DataProblem(f"{name}: larger than {_LIMIT >> 20} MiB: not a report")
    return bytes(data)


def parse(text: bytes, name: str) -> object:
    """What stands in JSON; raises DataProblem."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataProblem(f"{name}: not JSON: {str(error)[:200]}", _HINT) from error


def _is_deep(data: object) -> bool:
    """Whether something stands deeper than in any report; what comes later is recursive."""
    level = [data]
    for _ in range(_DEPTH):
        inner: list[object] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        level = inner
    return bool(level)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _contradiction(evidence: Evidence) -> str | None:
    """What no schema can say."""
    cpus = evidence["cpus"]
    try:
        online = set(parse_cpulist(cpus["online"]))
        at_end = set(parse_cpulist(cpus["online_at_end"] or cpus["online"]))
    except ValueError as error:
        return f"cpus.online: {error}"
    for snapshot in evidence["snapshots"]:
        at_end &= {int(cpu) for cpu in snapshot["cpus"]}
    if not online & at_end:
        return "cpus: no CPU was there from beginning to end"
    return None
