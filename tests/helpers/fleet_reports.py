"""Recorded reports under the names of hosts: the fleets that tests summarize."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.helpers.recorded_evidence import EVIDENCE

GOOD = "matrix/bookworm/epyc"


@functools.lru_cache
def _report(name: str) -> Any:
    return json.loads((EVIDENCE / f"{name}.json").read_text())


def host(name: str, like: str = GOOD, **changes: Any) -> Any:
    """The recorded report `like`, as a report of the host `name`. `changes`: "microcode" or "model_name" of all CPUs,
    "taken_at", "version" of kvmprobe, "parameters" of kvm_amd."""
    report = copy.deepcopy(_report(like))
    evidence = report["evidence"]
    evidence["host"]["name"] = name
    for what, value in changes.items():
        if what == "taken_at":
            evidence["taken_at"] = value
        elif what == "version":
            report["tool"]["version"] = value
        elif what == "parameters":
            evidence["modules"]["kvm_amd"]["parameters"].update(value)
        else:
            for info in evidence["cpus"]["cpuinfo"].values():
                info[what] = value
    return report


def equal_hosts(number: int, **changes: Any) -> list[Any]:
    """The reports of `number` hosts, node-0 and up, that differ in their names only."""
    return [host(f"node-{index}", **changes) for index in range(number)]


def readme_fleet() -> list[Any]:
    """The fleet in the picture of the README: 48 hosts, each with a report that the lab recorded."""
    common = ("matrix/bookworm/four-cpus", "matrix/trixie/four-cpus", "matrix/trixie-backports/four-cpus")
    others = {
        7: "matrix/bookworm/svme-not-set",
        12: "matrix/trixie/held-second-no-virt-at-load",
        21: "matrix/bookworm/svmdis-locked",
        22: "matrix/trixie/svmdis",
        29: "matrix/trixie-backports/held-first",
        33: "matrix/trixie/low-highest-leaf",
        38: "matrix/bookworm/ordinary-user",
        40: "hosts/kvm-pvm-without-svm",
        44: "matrix/bookworm/svme-not-cleared",
    }
    return [host(f"node-{index:02}", others.get(index, common[index * 7 % 3])) for index in range(1, 49)]


def lines(reports: Iterable[Any]) -> str:
    """The reports as JSON lines."""
    return "".join(json.dumps(report) + "\n" for report in reports)


def write_reports(folder: Path, reports: Iterable[Any]) -> Path:
    """Writes each report to a file of its own, as `kvmprobe --json -o` does; returns the folder."""
    for index, report in enumerate(reports):
        (folder / f"{index}.json").write_text(json.dumps(report, indent=1) + "\n")
    return folder
