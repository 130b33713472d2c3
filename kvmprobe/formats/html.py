"""One self-contained page of a report, or of many: it loads nothing, and its policy does not let it.

Its Content-Security-Policy allows the page's own style and script alone, by their hashes (CSP Level 3, 2.3.1). Evidence
is data in a block that is never executed, and the script turns it into text, never into markup. The page is ASCII, so
that no locale changes a byte of what the hashes cover.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.feature_cells import TITLES, feature_cells
from kvmprobe.formats.host_row import CHECK_IDS, HostRow, Profile, counts
from kvmprobe.formats.row_values import Malformed, row_values
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.facts import Facts
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.judgement import Report

# The parts of the script in the order in which they run. They share one scope.
_SCRIPTS = (
    "elements.js",
    "hosts.js",
    "query.js",
    "table.js",
    "host_detail.js",
    "register_pictures.js",
    "overview.js",
    "theme.js",
    "start.js",
)


def render(report: Report) -> str:
    """The page of one report. Raises DataProblem where a value cannot be shown, such as a name of 10,000 characters."""
    try:
        name, taken_at, fields, details = row_values(report, with_details=True)
    except Malformed as error:
        raise DataProblem(f"the report cannot be shown as html: {error}") from error
    profile = Profile(*fields)
    host = HostRow(name, taken_at, "", 0, profile, details)
    features = feature_cells(Facts(report["evidence"]))
    data = {"counts": counts([(profile, 1)]), "total": 1, "taken": [taken_at, taken_at], **table([host])}
    return page({**data, "features": [TITLES, *features] if features else []})


def table(hosts: Iterable[HostRow], outliers: Iterable[HostRow] = ()) -> dict[str, Any]:
    """The rows of the page's table. A value that several hosts share is in it once, and rows have its number."""
    strings, profiles, details, registers = _Numbers(), _Numbers(), _Numbers(), _Numbers()
    marked = set(outliers)
    rows = []
    for host in hosts:
        p = host.profile
        shared = (p.status, p.reason, p.kernel, p.model, p.microcode, p.version, p.cpus, p.lockdown, p.parameters)
        messages = tuple(strings.number(message) for message in host.messages)
        texts = (strings.number(host.summary), strings.number(host.hint))
        rows.append(
            (
                host.name,
                host.taken_at,
                host.file + (f", line {host.line}" if host.line else ""),
                profiles.number((*shared, p.marks, p.requirements, p.sev)),
                details.number((*texts, messages, registers.number(host.registers))),
                int(host in marked),
            )
        )
    return {
        "hosts": rows,
        "profiles": profiles.values(),
        "details": details.values(),
        "registers": registers.values(),
        "strings": strings.values(),
    }


class _Numbers:
    """Numbers for values, the same for equal ones."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, value: object) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def values(self) -> list[Any]:
        return list(self._numbers)


def page(data: dict[str, Any]) -> str:
    """The page that shows `data`: "total", "taken" and "counts" of all hosts, the keys of `table`, and, where there are
    any, "outliers", "notes", "bad" (files that could not be read), and of one host "features" (titles, then rows)."""
    data = {
        "version": __version__,
        "checks": [[check.id, check.title, check.function] for check in CHECKS],
        "reasons": {name: [reason.status, reason.when] for name, reason in REASONS.items()},
        "outliers": [],
        "features": [],
        "notes": [],
        "bad": [],
        **data,
    }
    assert len(data["checks"]) == len(CHECK_IDS)  # noqa: S101
    style, template = _part("page.css"), _part("page.html")
    script = '"use strict";\n(() => {\n' + "\n".join(map(_part, _SCRIPTS)) + "})();\n"
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; "
    parts = {
        "POLICY": policy + "form-action 'none'",
        "STYLE": style,
        "SCRIPT": script,
        "DATA": _data(data),
    }
    before, *rest = template.split("@@")
    return before + "".join(parts.get(piece, piece) for piece in rest)


def _part(name: str) -> str:
    """A file of the folder page, which may be inside a zip file."""
    data = pkgutil.get_data("kvmprobe.formats", f"page/{name}")
    assert data is not None  # noqa: S101
    return data.decode("ascii")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(data: object) -> str:
    """JSON in ASCII without the characters that could end its element, or begin a comment or another element."""
    text = json.dumps(data, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
