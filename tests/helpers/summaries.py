"""`kvmprobe summary` as tests run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

from kvmprobe.summary.fleet import Fleet
from kvmprobe.summary.fleet_summary import Summary
from kvmprobe.summary.report_records import Reader
from tests.helpers.fleet_reports import lines
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe

SUMMARY_SCHEMA = json.loads((PROJECT / "kvmprobe/model/summary.schema.json").read_text())


def summary(*arguments: str | Path, **options: Any) -> tuple[Any, int]:
    """The summary in JSON, which follows its schema, and the exit status."""
    done = kvmprobe("summary", "--json", *arguments, **options)
    data = json.loads(done.stdout)
    jsonschema.validate(data, SUMMARY_SCHEMA)
    return data, done.returncode


def counts(data: Any, field: str) -> dict[str, int]:
    """How many hosts have which value, from the summary in JSON."""
    return {value["value"]: value["hosts"] for value in data["counts"][field]}


def summary_of(reports: list[Any]) -> Summary:
    """The summary of reports in this process, with all details."""
    found, _, _ = Reader(judge_all=False, with_details=True)((("file", 1, True), lines(reports).encode()))
    fleet = Fleet()
    for file, line, values in found:
        fleet.add(file, line, values)
    return Summary(fleet)
