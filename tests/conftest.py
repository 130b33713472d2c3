"""What the tests share: evidence taken from real kernels, and kvmprobe run as people run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.counted import NUMBERS
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

# No property depends on how busy the machine is.
settings.register_profile("kvmprobe", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("kvmprobe")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what scripts/build makes of this checkout."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, str(PROJECT / "scripts/distribution"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode != 0:
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail(done.stderr)
        pytest.skip(f"it cannot be built here: {done.stderr}")
    return folder


@pytest.fixture(scope="session")
def kvm_device() -> str:
    """The real /dev/kvm, where it can be opened."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("no /dev/kvm that may be opened here")
    return "/dev/kvm"


@pytest.fixture(scope="session")
def host_report(kvm_device: str) -> Any:
    """One probe of this host."""
    return json.loads(kvmprobe("check", "--json").stdout)


@pytest.fixture
def vms() -> Iterator[Any]:
    """VMs alive on this machine, as the kernel counts them in the uevents of a VM of our own."""

    def alive() -> int:
        events = json.loads(kvmprobe("--json").stdout)["evidence"]["uevents"]["events"]
        return int(next(event["count"] for event in events if event["ours"])) - 1

    if not json.loads(kvmprobe("--json").stdout)["evidence"]["uevents"]["events"]:
        pytest.skip("no uevents here to count VMs by")
    before = alive()
    yield alive
    ends = time.monotonic() + DEADLINE_S
    while alive() > before and time.monotonic() < ends:
        time.sleep(0.5)  # somebody else may have one for a moment; one of ours would stay
    assert alive() <= before


_kernels_passed = 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Counts the real kernels that were really booted."""
    global _kernels_passed
    report = (yield).get_result()
    if report.when == "call" and report.passed and item.get_closest_marker("kernel"):
        _kernels_passed += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where kernels are required, a run of all tests without one is a failure, however it came about."""
    option = session.config.option
    named = session.config.args != session.config.getini("testpaths")
    chosen = named or option.keyword or option.markexpr or option.collectonly or getattr(option, "lf", False)
    if os.environ.get("KVMPROBE_REQUIRE_KERNELS") and not chosen and not _kernels_passed:
        print("\nno real kernel was booted, and KVMPROBE_REQUIRE_KERNELS is set", file=sys.stderr)
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if NUMBERS:
        terminalreporter.section("numbers")
        for line in NUMBERS:
            terminalreporter.line(line)
