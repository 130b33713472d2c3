"""The report that a guest wrote to stdout: only a valid one is a report, because a guest may write anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvmprobe.lab.booted_probe import parse_report
from tests.helpers.recorded_evidence import EVIDENCE

_REPORT = (EVIDENCE / "matrix/bookworm/epyc.json").read_text()


def _changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(_REPORT), **changes}).encode()


def test_a_valid_report() -> None:
    assert parse_report(_REPORT.encode()) == json.loads(_REPORT)


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"text",
        b"[]",
        b'{"verdict": {}}',
        b"\xff\xfe" + _REPORT.encode(),
        _REPORT.encode("utf-16"),
        b"[" * 100_000,
        b'{"verdict": ' * 100_000,
        _REPORT.encode()[:-10],
        _changed(verdict={"status": "confirmed"}),
        _changed(verdict=None),
        _changed(checks={}),
        _changed(evidence={}),
        _changed(schema="kvmprobe-99"),
    ],
    ids=[
        *("nothing", "text", "list", "only a verdict", "not UTF-8", "UTF-16", "deep list", "deep object", "truncated"),
        *("short verdict", "null verdict", "object for checks", "no evidence", "unknown schema"),
    ],
)
def test_what_is_not_a_report(stdout: bytes) -> None:
    assert parse_report(stdout) is None
