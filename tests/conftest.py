"""Fixtures of all tests: what is built from this checkout, /dev/kvm, and the processes that a test starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.counted import NUMBERS
from tests.helpers.own_processes import VARIABLE, OwnProcesses
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.waiting import wait_until

# The programs under test start with these signals as a terminal's shell gives them. A shell's background job ignores
# SIGINT, nohup ignores SIGHUP, and what a process ignores its children ignore, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No property depends on how busy the machine is.
settings.register_profile("kvmprobe", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("kvmprobe")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what scripts/build makes from this checkout."""
    return _build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with modules compiled by this Python: an emulated machine is slow at compiling them at each start."""
    return _build(tmp_path_factory.mktemp("compiled"), "--compile", sys.executable)


def _build(folder: Path, *options: str) -> Path:
    command = [sys.executable, str(PROJECT / "scripts/distribution"), *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    if done.returncode != 0:
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail(done.stderr)
        pytest.skip(f"the build fails here: {done.stderr}")
    return folder


@pytest.fixture(scope="session")
def kvm_device() -> str:
    """/dev/kvm of this machine. The test is skipped where it cannot be opened."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened here")
    return "/dev/kvm"


@pytest.fixture(scope="session")
def host_report(kvm_device: str) -> Any:
    """The report of one check of this host."""
    return json.loads(kvmprobe("check", "--json").stdout)


@pytest.fixture
def own_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[OwnProcesses]:
    """The processes of this test. None is left to disturb the next test, even where this one fails."""
    mark = f"{os.getpid()}-{tmp_path.name}"
    monkeypatch.setenv(VARIABLE, mark)
    processes = OwnProcesses(mark)
    yield processes
    processes.end()


@pytest.fixture
def no_vm_left(own_processes: OwnProcesses) -> Iterator[None]:
    """After the test, none of its processes has a VM open."""
    yield
    assert wait_until(lambda: own_processes.vms() == 0), f"processes {own_processes.pids()} have VMs open"


# The folders whose tests create no VM on this host. To the others a VM that another test creates meanwhile is evidence.
_NO_VM_HERE = ("tests/compare", "tests/judge", "tests/lab", "tests/report")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Let one process of pytest-xdist run all tests that create VMs on this host, and another one each other file.

    The mark xdist_group would do the same, but it has no effect with pytest 9.2 and pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class ByVms(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if os.path.dirname(file) in _NO_VM_HERE else "tests that create VMs here"

    return ByVms(config, log)


_kernels_passed = 0
_numbers: list[str] = []


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Any:
    """Give a test's numbers to the report: pytest-xdist runs tests in other processes than the one that prints."""
    report = (yield).get_result()
    report.user_properties.extend(("number", line) for line in NUMBERS)
    NUMBERS.clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the numbers, and count the tests that booted a real kernel and passed."""
    global _kernels_passed
    if report.when == "call" and report.passed and "kernel" in report.keywords:
        _kernels_passed += 1
    _numbers.extend(str(line) for name, line in report.user_properties if name == "number")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where kernels are required, a run of all tests that booted no kernel fails, for whatever reason it did not."""
    option = session.config.option
    named = session.config.args != session.config.getini("testpaths")
    chosen = named or option.keyword or option.markexpr or option.collectonly or getattr(option, "lf", False)
    worker = hasattr(session.config, "workerinput")
    if os.environ.get("KVMPROBE_REQUIRE_KERNELS") and not chosen and not worker and not _kernels_passed:
        print("\nno real kernel was booted, and KVMPROBE_REQUIRE_KERNELS is set", file=sys.stderr)
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _numbers:
        terminalreporter.section("numbers")
        for line in _numbers:
            terminalreporter.line(line)
