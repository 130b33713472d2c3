"""Reads evidence from a file that may contain anything."""

from __future__ import annotations

import json
from typing import cast

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge import SCHEMA
from kvmprobe.model.compiled_schema import compile_schema
from kvmprobe.model.cpu_lists import parse_cpulist
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.json_schema import first_error, report_schema
from kvmprobe.report.reading import LIMIT, open_in_folder, open_named, read_all

if TYPE_CHECKING:
    from kvmprobe.judge.requirements.requirement import Requirement
    from kvmprobe.model.compiled_schema import Follows
    from kvmprobe.model.evidence import Evidence


_LIMIT = 256 << 20  # bytes of a file that the user named; a trace may be long
# Values in a file, which cost up to 100 bytes each. A report of 8,192 CPUs has half a million.
_MOST_VALUES, _MOST_IN_NAMED = 1 << 20, 4 << 20
_MOST_REQUIREMENTS, _LONGEST_NAME = 1000, 255  # characters of the name of one
_MAX_DEPTH = 32  # levels; a report has 8
_HINT = "Give a file made by 'kvmprobe --json'."


def load(path: str, in_folder: bool = False) -> tuple[Evidence, list[Requirement]]:
    """Return the evidence in a report or in a file of bare evidence, and what the report required; "-" is standard
    input.

    `in_folder`: the file was found in a folder, so others may have put it there. Raises DataProblem where the file
    cannot be read, is not JSON, or is not evidence of this schema.
    """
    name = "standard input" if path == "-" else path or "''"
    try:
        text = read_all(open_in_folder(path) if in_folder else open_named(path), LIMIT if in_folder else _LIMIT)
    except OSError as error:
        raise DataProblem(f"{name}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataProblem(f"{name}: {error}", _HINT) from error
    data = parse(text, name, _MOST_VALUES if in_folder else _MOST_IN_NAMED)
    return evidence_of(data, name), requirements_of(data, name)


def evidence_of(data: object, name: str) -> Evidence:
    """Return the evidence in parsed JSON. Raises DataProblem, which calls the file `name`."""
    if is_too_deep(data):
        raise DataProblem(f"{name}: not a report: more than {_MAX_DEPTH} levels of nesting", _HINT)
    if not isinstance(data, dict):
        raise DataProblem(f"{name}: neither a report nor evidence: it is not a JSON object", _HINT)
    if data.get("schema", SCHEMA) != SCHEMA:
        raise DataProblem(f"{name}: unknown schema {str(data['schema'])[:60]!r}", f"This version reads {SCHEMA}.")
    if "evidence" not in data and "snapshots" not in data:
        raise DataProblem(f"{name}: neither a report nor evidence", _HINT)
    evidence = data.get("evidence", data)
    error = None
    if not follows_schema(evidence):
        report = report_schema()
        error = first_error(evidence, report["$defs"]["evidence"], report)
    error = error or contradiction(evidence)
    if error:
        raise DataProblem(f"{name}: not evidence of {SCHEMA}: {error}", _HINT)
    return cast("Evidence", evidence)


def requirements_of(data: object, name: str) -> list[Requirement]:
    """Return what the report in parsed JSON required, to be asked again. Raises DataProblem, which calls the file
    `name`."""
    rows = data.get("requirements", []) if isinstance(data, dict) else []
    if not rows:
        return []
    from kvmprobe.judge.requirements.demands import stored

    names = [row.get("name") if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else [None]
    if len(names) > _MOST_REQUIREMENTS or not all(isinstance(one, str) and len(one) <= _LONGEST_NAME for one in names):
        raise DataProblem(f"{name}: not a report: requirements is not a list of what --require asks", _HINT)
    return [stored(str(one)) for one in names]


_compiled: Follows | None = None


def follows_schema(evidence: object) -> bool:
    """Whether this is evidence by the JSON Schema of reports."""
    global _compiled
    if _compiled is None:
        schema = report_schema()
        _compiled = compile_schema(schema["$defs"]["evidence"], schema)
    return _compiled(evidence)


def parse(text: bytes, name: str, most: int = _MOST_VALUES) -> object:
    """Return what the JSON `text` contains. Raises DataProblem, which calls the file `name`; also where there may be
    more than `most` values."""
    if len(text) > most and sum(map(text.count, (b",", b"{", b"["))) > most:
        raise DataProblem(f"{name}: more than {most:,} values: not a report", _HINT)
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise DataProblem(f"{name}: not JSON: {str(error)[:200]}", _HINT) from error


def is_too_deep(data: object) -> bool:
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


def contradiction(evidence: Evidence) -> str | None:
    """Return what is wrong with evidence that follows the schema, in one line; None where nothing is."""
    cpus = evidence["cpus"]
    try:
        lists = [set(parse_cpulist(text)) for text in (cpus["online"], cpus["online_at_end"]) if text]
    except ValueError as error:
        return f"cpus.online: {error}"
    lists += [{int(cpu) for cpu in snapshot["cpus"]} for snapshot in evidence["snapshots"]]
    if any(lists) and not set.intersection(*lists):
        return "cpus: no CPU was online from beginning to end"
    return None
