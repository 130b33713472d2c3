"""One self-contained page: nothing is loaded from anywhere, and its policy forbids it to.

The page's own style and script are the only ones its Content-Security-Policy lets run, by their hashes. What evidence
says is data in a block that is never executed, and the script shows it as text alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pkgutil
from collections.abc import Iterable

from kvmprobe import TYPE_CHECKING, __version__
from kvmprobe.formats.host_row import CHECK_IDS, Host, Malformed, Profile, counts, digest
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.reasons import REASONS

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.judgement import Report


def render(report: Report) -> str:
    """The page of one report. Raises DataProblem where something in it cannot be shown, such as an endless name."""
    try:
        name, taken_at, fields, told = digest(report, details=True)
    except Malformed as error:
        raise DataProblem(f"the report cannot be shown as html: {error}") from error
    profile = Profile(*fields)
    host = Host(name, taken_at, "", 0, profile, told)
    return page({"counts": counts([(profile, 1)]), "total": 1, "taken": [taken_at, taken_at], **table([host])})


def table(hosts: Iterable[Host], odd: Iterable[Host] = ()) -> dict[str, Any]:
    """The rows of the page's table; what several hosts have alike is in it once, and a row has its number."""
    strings, profiles, told, registers = _Numbers(), _Numbers(), _Numbers(), _Numbers()
    are_odd = set(odd)
    rows = []
    for host in hosts:
        p = host.profile
        fields = (p.status, p.reason, p.kernel, p.model, p.microcode, p.version, p.cpus, p.lockdown, p.parameters)
        messages = tuple(strings.number(message) for message in host.messages)
        said = (strings.number(host.summary), strings.number(host.hint), messages, registers.number(host.registers))
        rows.append(
            (
                host.name,
                host.taken_at,
                host.file + (f", line {host.line}" if host.line else ""),
                profiles.number((*fields, p.marks)),
                told.number(said),
                int(host in are_odd),
            )
        )
    return {
        "hosts": rows,
        "profiles": profiles.values(),
        "told": told.values(),
        "registers": registers.values(),
        "strings": strings.values(),
    }


class _Numbers:
    """Equal values get the same number."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}

    def number(self, value: object) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def values(self) -> list[Any]:
        return list(self._numbers)


def page(data: dict[str, Any]) -> str:
    """The page that shows `data`: "total", "taken" and "counts" of all hosts, what `table` gives, and if there are any
    "odd", "notes" and "bad"."""
    data = {
        "version": __version__,
        "checks": [[check.id, check.title, check.function] for check in CHECKS],
        "reasons": {name: [reason.status, reason.when] for name, reason in REASONS.items()},
        "odd": [],
        "notes": [],
        "bad": [],
        **data,
    }
    assert len(data["checks"]) == len(CHECK_IDS)  # noqa: S101
    style, script, template = (_part(f"page.{kind}") for kind in ("css", "js", "html"))
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
    data = pkgutil.get_data("kvmprobe.formats", name)  # also from inside a zipapp
    assert data is not None  # noqa: S101
    return data.decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(data: object) -> str:
    """JSON in ASCII without what could end its element or begin a comment or another one."""
    text = json.dumps(data, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
