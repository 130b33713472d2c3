"""Reads evidence from a file that may contain anything."""

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


_LIMIT = 256 << 20  # bytes; a report of 1,024 CPUs has about 1 MiB
_MAX_DEPTH = 32  # levels; a report has 8
_HINT = "Give a file made by 'kvmprobe --json'."


def load(path: str) -> Evidence:
    """Return the evidence in a report or in a file of bare evidence; "-" is standard input.

    Raises DataProblem where the file cannot be read, is not JSON, or is not evidence of this schema.
    """
    name = "standard input" if path == "-" else path or "''"
    return evidence_of(parse(_read(path, name), name), name, report_schema())


def evidence_of(data: object, name: str, report: Schema) -> Evidence:
    """Return the evidence in parsed JSON. Raises DataProblem.

    `name`: what messages call the file; `report`: the JSON Schema of reports.
    """
    if _is_too_deep(data):
        raise DataProblem(f"{name}: not a report: more than {_MAX_DEPTH} levels of nesting", _HINT)
    if not isinstance(data, dict):
        raise DataProblem(f"{name}: neither a report nor evidence: it is not a JSON object", _HINT)
    if data.get("schema", SCHEMA) != SCHEMA:
        raise DataProblem(f"{name}: unknown schema {str(data['schema'])[:60]!r}", f"This version reads {SCHEMA}.")
    if "evidence" not in data and "snapshots" not in data:
        raise DataProblem(f"{name}: neither a report nor evidence", _HINT)
    evidence = data.get("evidence", data)
    error = first_error(evidence, report["$defs"]["evidence"], report) or _contradiction(evidence)
    if error:
        raise DataProblem(f"{name}: not evidence of {SCHEMA}: {error}", _HINT)
    return cast("Evidence", evidence)


def parse(text: bytes, name: str) -> object:
    """Return what the JSON `text` contains. Raises DataProblem, which calls the file `name`."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataProblem(f"{name}: not JSON: {str(error)[:200]}", _HINT) from error


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
        raise DataProblem(f"{name}: larger than {_LIMIT >> 20} MiB: not a report", _HINT)
    return bytes(data)


def _is_too_deep(data: object) -> bool:
    """Whether the nesting is deeper than in any report. What reads the data afterwards is recursive."""
    level = [data]
    for _ in range(_MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            inner += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        level = inner
    return bool(level)


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _contradiction(evidence: Evidence) -> str | None:
    """Return what is wrong with evidence that follows the schema, None where nothing is."""
    cpus = evidence["cpus"]
    try:
        lists = [set(parse_cpulist(text)) for text in (cpus["online"], cpus["online_at_end"]) if text]
    except ValueError as error:
        return f"cpus.online: {error}"
    lists += [{int(cpu) for cpu in snapshot["cpus"]} for snapshot in evidence["snapshots"]]
    if any(lists) and not set.intersection(*lists):
        return "cpus: no CPU was online from beginning to end"
    return None
