"""Isolated CPUs in a guest with SVM, with and without a real-time task that never sleeps on one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.real_kernels import Guest

pytestmark = pytest.mark.kernel

_ISOLATED = "isolcpus=1 nohz_full=1"
_HOG = "import os; os.sched_setaffinity(0, {1}); os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))"


def _reports(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_isolated_cpus_are_left_alone_and_a_busy_one_stops_nothing(guest: Guest) -> None:
    """Without RT throttling a task that pins itself to the busy CPU waits for ever, deaf even to SIGKILL."""
    output = guest(
        f"""
        $kvmprobe check --json | tr -d '\\n'; echo
        $kvmprobe check --json --cpus 0-1 | tr -d '\\n'; echo
        echo -1 >/proc/sys/kernel/sched_rt_runtime_us
        python3 -S -c "{_HOG}
while True: pass" & hog=$!
        sleep 1
        $kvmprobe check --json --cpus 0-1 | tr -d '\\n'; echo
        $kvmprobe check --json | tr -d '\\n'; echo
        $kvmprobe check -q --cpus 0-1 >/dev/null & probe=$!
        sleep 1.5
        kill -KILL $probe; wait $probe; echo killed $?
        kill -KILL $hog; wait $hog
        $kvmprobe check --json --cpus 1 | tr -d '\\n'; echo
        """,
        prepare=("modprobe kvm_amd", "modprobe msr", "modprobe cpuid"),  # a module cannot be loaded beside such a task
        parameters=_ISOLATED,
        deadline=300.0,
    )
    left_alone, asked, busy, busy_left_alone, after = _reports(output)
    reports = (left_alone, asked, busy, busy_left_alone, after)
    assert {report["verdict"]["reason"] for report in reports} == {"svme-set-by-create-vm"}
    assert left_alone["evidence"]["guest_left_out"] == {"1": "isolated"}
    assert [run["cpu"] for run in left_alone["evidence"]["guest"]] == [0]
    assert [(run["cpu"], run["result"]) for run in asked["evidence"]["guest"]] == [(0, "ok"), (1, "ok")]
    assert [(run["cpu"], run["result"]) for run in busy["evidence"]["guest"]] == [(0, "ok"), (1, "skipped")]
    assert "busy with real-time work" in busy["evidence"]["guest"][1]["detail"]
    assert "busy with real-time work" in next(c for c in busy["checks"] if c["id"] == "guest")["message"]
    assert [run["result"] for run in busy_left_alone["evidence"]["guest"]] == ["ok"]
    assert "killed 137" in output
    assert [(event["event"], event["count"]) for event in after["evidence"]["uevents"]["events"]] == [
        ("create", 1),
        ("destroy", 0),
    ]
    assert after["evidence"]["guest_left_out"] == {"0": "not in --cpus"}
