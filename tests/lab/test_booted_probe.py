"""The evidence that a guest wrote to stdout is checked and judged here, because a guest may write anything."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kvmprobe.lab.booted_probe import judged_report
from tests.helpers.recorded_evidence import EVIDENCE

_REPORT = (EVIDENCE / "matrix/bookworm/epyc.json").read_text()
_EVIDENCE = json.loads(_REPORT)["evidence"]
_FORGED = [
    {"verdict": {"status": "confirmed", "reason": "svme-set-by-create-vm"}},
    {"verdict": None, "checks": {}},
    {"verdict": {"status": ["confirmed"]}, "checks": [{"id": 1}], "tool": 7},
]


def _changed(**changes: Any) -> bytes:
    return json.dumps({**json.loads(_REPORT), **changes}).encode()


def test_a_valid_report() -> None:
    assert judged_report(_REPORT.encode()) == json.loads(_REPORT)


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
        _changed(evidence={}),
        _changed(evidence=[]),
        _changed(evidence={**_EVIDENCE, "cpus": 1}),
        _changed(evidence={**_EVIDENCE, "snapshots": [[]]}),
        _changed(schema="kvmprobe-99"),
    ],
    ids=[
        *("nothing", "text", "list", "only a verdict", "not UTF-8", "UTF-16", "deep list", "deep object", "truncated"),
        *("no evidence", "list for evidence", "number for CPUs", "list for a snapshot", "unknown schema"),
    ],
)
def test_what_is_not_evidence(stdout: bytes) -> None:
    assert judged_report(stdout) is None


@pytest.mark.parametrize("forged", _FORGED)
def test_the_verdict_of_a_guest_does_not_count(forged: Any) -> None:
    own = (EVIDENCE / "matrix/bookworm/no-svm.json").read_text()
    report = judged_report(json.dumps({**json.loads(own), **forged}).encode())
    assert report is not None
    assert (report["verdict"]["status"], report["verdict"]["reason"]) == ("failed", "cpu-lacks-svm")
    assert report == judged_report(own.encode())
