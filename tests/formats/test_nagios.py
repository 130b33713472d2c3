"""Output and exit status as a Nagios plugin, of every recorded report and variant, and of every kind of problem."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from kvmprobe.formats import FORMATS, nagios, render
from kvmprobe.judge import judge
from tests.helpers.judged_reports import all_reports
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
EVIL = "a|b=1\nKVMPROBE OK - \x1b[31m\ud800Ä→" + "x" * 5000
NOBODY = 65534

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_FIRST = re.compile(r"KVMPROBE (OK|WARNING|CRITICAL|UNKNOWN) - ([^|]+)(?:\|(.+))?")
_NUMBER = re.compile(r"([a-z_]+)=([0-9]+(?:\.[0-9]+)?)(s?);;;0(?:;[0-9]+)?")


def _parse(text: str, status: int) -> tuple[str, dict[str, float]]:
    """The text and the numbers of the first line. Strict: by the Monitoring Plugins Development Guidelines."""
    assert text.isascii()
    assert text.endswith("\n")
    lines = text.split("\n")[:-1]
    assert all(line.isprintable() and 0 < len(line) < 700 for line in lines), lines
    first = _FIRST.fullmatch(lines[0])
    assert first is not None, lines[0]
    assert _STATES[status] == first[1]
    assert not any("|" in line for line in lines[1:])
    numbers = [_NUMBER.fullmatch(number) for number in first[3].split(" ")] if first[3] else []
    assert None not in numbers, lines[0]
    return first[2], {number[1]: float(number[2]) for number in numbers if number}


@pytest.mark.parametrize("report", all_reports())
def test_every_report(report: Any) -> None:
    verdict = report["verdict"]
    warns = any(check["status"] == "warn" for check in report["checks"])
    expected = {"confirmed": int(warns), "usable": int(warns), "failed": 2, "inconclusive": 3, "not applicable": 0}[
        verdict["status"]
    ]
    assert FORMATS["nagios"].exit_status(report) == expected
    text, numbers = _parse(render(report, "nagios"), expected)
    assert text.startswith(f"{verdict['status']} {verdict['reason']}: ")
    assert numbers["duration"] == pytest.approx(report["evidence"]["duration_ms"] / 1000, abs=1e-3)
    known = {"cpus"} if report["evidence"]["cpus"]["online"] else set()
    assert set(numbers) - {"svme_cpus"} == {"duration", "age", *known}


def test_the_recorded_reports_have_every_state() -> None:
    """Otherwise the test above would prove little."""
    states = {FORMATS["nagios"].exit_status(json.loads(path.read_text())) for path in RECORDED}
    assert states == {0, 1, 2, 3}


def _fresh(tmp_path: Path, name: str = "matrix/bookworm/epyc", age: float = 0.0, **changes: Any) -> Path:
    evidence = recorded(name)
    evidence["taken_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
    evidence.update(changes)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(evidence))
    return path


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("matrix/bookworm/epyc", 0),
        ("matrix/bookworm/intel", 0),
        ("matrix/bookworm/low-highest-leaf", 1),
        ("matrix/bookworm/no-svm", 2),
        ("matrix/bookworm/no-msr-device", 0),
        ("matrix/bookworm/user-of-kvm", 0),
        ("matrix/bookworm/ordinary-user", 3),
    ],
)
def test_a_stored_report(name: str, status: int, tmp_path: Path) -> None:
    done = kvmprobe("judge", "--format", "nagios", _fresh(tmp_path, name, age=3600))
    assert (done.returncode, done.stderr) == (status, "")
    _, numbers = _parse(done.stdout, status)
    assert 3600 <= numbers["age"] < 3600 + DEADLINE_S


def test_the_details_have_the_checks_that_did_not_pass() -> None:
    report = judge(recorded("matrix/bookworm/held-second"))
    lines = render(report, "nagios").splitlines()
    assert lines[1] == "kvmprobe-lab: Linux 6.1.0-50-amd64, 2026-11-22T16:15:38Z"
    assert lines[2].startswith("fail create-vm: KVM_CREATE_VM failed: EBUSY")
    assert lines[-1] == f"what to do: {report['verdict']['hint']}"


def test_a_usable_host_is_ok_or_warns_like_a_confirmed_one() -> None:
    report = judge(recorded("matrix/bookworm/epyc"))
    report["verdict"].update({"status": "usable", "reason": "guest-ran"})
    text, _ = _parse(render(report, "nagios"), 0)
    assert text.startswith("usable guest-ran: ")
    report["checks"][1]["status"] = "warn"
    assert FORMATS["nagios"].exit_status(report) == 1


@pytest.mark.parametrize(
    ("name", "vendor", "backend"),
    [
        ("matrix/bookworm/intel", "GenuineIntel", "none loaded"),
        ("hosts/kvm-pvm-without-svm", "GenuineIntel", "kvm_pvm"),
    ],
)
def test_a_host_without_svm_has_only_vendor_and_backend(name: str, vendor: str, backend: str) -> None:
    report = judge(recorded(name))
    lines = render(report, "nagios").splitlines()
    assert lines[2:4] == [f"CPU vendor: {vendor}", f"KVM backend: {backend}"]
    assert lines[4].startswith("what to do: Nothing to do")
    assert len(lines) == 5


def test_uevents_that_are_unavailable_are_a_warning_in_the_details() -> None:
    evidence = recorded("matrix/bookworm/held-second")
    evidence["uevents"].update(source=None, error="pyudev is not installed")
    lines = render(judge(evidence), "nagios").splitlines()
    assert lines[-2] == "warning: KVM uevents unavailable: pyudev is not installed"


def test_a_message_of_several_lines_becomes_one_line() -> None:
    report = judge(recorded("matrix/bookworm/held-second"))
    check = next(check for check in report["checks"] if check["status"] == "fail")
    check["message"] = "modprobe: ERROR: a\nmodprobe: ERROR: b\n"
    report["verdict"]["hint"] = "Load it:\n  `modprobe kvm_amd`."
    lines = render(report, "nagios").splitlines()
    assert lines[2] == f"fail {check['id']}: modprobe: ERROR: a; modprobe: ERROR: b"
    assert lines[-1] == "what to do: Load it: `modprobe kvm_amd`."


def test_a_report_of_this_host() -> None:
    done = kvmprobe("--format", "nagios")
    assert done.stderr == ""
    _, numbers = _parse(done.stdout, done.returncode)
    assert numbers["age"] < DEADLINE_S


# Age


@pytest.mark.parametrize(
    ("age", "arguments", "status"),
    [
        (25 * 3600, ("--format", "nagios"), 0),
        (27 * 3600, ("--format", "nagios"), 3),
        (27 * 3600, ("--format", "nagios", "--max-age", "2d"), 0),
        (3700, ("--format", "nagios", "--max-age", "60m"), 3),
        (-100, ("--format", "nagios"), 0),
        (-3600, ("--format", "nagios"), 3),
        (-3600, ("--max-age", "1h"), 3),
        (400 * 86400, (), 0),
        (400 * 86400, ("--max-age", "1d"), 3),
        (400 * 86400, ("--max-age", "401d"), 0),
        (100, ("--max-age", "90s"), 3),
        (100, ("--json", "--max-age", "1000s"), 0),
    ],
)
def test_evidence_that_is_too_old_or_from_the_future_gives_no_verdict(
    age: float, arguments: tuple[str, ...], status: int, tmp_path: Path
) -> None:
    path = _fresh(tmp_path, age=age)
    done = kvmprobe("judge", *arguments, path)
    assert done.returncode == status
    if status:
        said = done.stdout if "nagios" in arguments else done.stderr
        assert f"{path}: the evidence is " in said
        assert ("in the future" if age < 0 else "old, the limit is") in said
        assert "its verdict was confirmed svme-set-by-create-vm" in said
    if "nagios" in arguments:
        _parse(done.stdout, status)


def test_evidence_without_a_valid_time(tmp_path: Path) -> None:
    path = _fresh(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "taken_at": "yesterday|"}))
    assert kvmprobe("judge", path).returncode == 0
    assert kvmprobe("judge", "--max-age", "1d", path).returncode == 65
    done = kvmprobe("judge", "--format", "nagios", path)
    assert done.returncode == 3
    assert _parse(done.stdout, 3)[0] == f"{path}: taken_at is not a time: 'yesterday/'"


@pytest.mark.parametrize("duration", ["", "h", "0", "-1h", "1w", "1.5h", "1h30m", "٣h", "90", "9" * 10 + "s"])
def test_an_invalid_duration(duration: str) -> None:
    assert kvmprobe("judge", f"--max-age={duration}", CONFIRMED).returncode == 64


# Every problem is a line on standard output, and UNKNOWN


@pytest.mark.parametrize(
    "arguments",
    [
        ("judge", "--format", "nagios"),
        ("judge", "--format", "nagios", "/nonexistent"),
        ("judge", "--format=nagios", "/dev/null"),
        ("judge", "--format", "nagios", "--bogus", "x"),
        ("judge", "--format", "nagios", "--max-age", "never", "x"),
        ("judge", "--format", "nagios", "-v", "-q", "x"),
        ("judge", "--json", "--format", "nagios", "x|y\n\x1b[31m"),
        ("--format", "nagios", "--sysroot", "/nonexistent"),
        ("check", "--format", "nagios", "extra"),
        ("--format", "nagios", "-o", "/nonexistent/x"),
        ("--format", "nagios", "--also", "json:/nonexistent/x"),
        ("--format", "nagios", "--also", "bogus"),
        ("watch", "--format", "nagios", "--", "/nonexistent"),
        ("watch", "--format", "nagios", "--exit-status", "command", "--", "/bin/sh", "-c", "exit 99"),
        ("bogus", "--format", "nagios"),
        ("compare", "--format", "nagios"),
    ],
)
def test_a_complaint_is_a_line_on_stdout_and_3(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (3, "")
    if "command" not in arguments:
        _parse(done.stdout, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        ("judge", "--format", "nagios", "--json", "/nonexistent"),
        ("judge", "--format", "json", "nagios"),
        ("watch", "--pid", "1", "--", "x", "--format", "nagios"),
        ("judge", "nagios"),
    ],
)
def test_other_formats_report_problems_on_standard_error(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments)
    assert done.returncode in (64, 65)
    assert done.stdout == ""
    assert done.stderr.startswith("kvmprobe: ")


@pytest.mark.parametrize("damage", ["cut", "not JSON", "other schema", "no CPU"])
def test_a_damaged_stored_report(damage: str, tmp_path: Path) -> None:
    path = _fresh(tmp_path)
    data = json.loads(path.read_text())
    if damage == "no CPU":
        data["cpus"]["online_at_end"] = "7"
    whole = json.dumps({"schema": "other/1", "evidence": data} if damage == "other schema" else data)
    path.write_text({"cut": whole[:-100], "not JSON": "KVMPROBE OK|x=1\n"}.get(damage, whole))
    done = kvmprobe("judge", "--format", "nagios", path)
    assert (done.returncode, done.stderr) == (3, "")
    assert _parse(done.stdout, 3)[0].startswith(f"{path}: ")


def test_a_defect() -> None:
    """A defect of kvmprobe is UNKNOWN, too. With KVMPROBE_DEBUG the traceback is on standard error."""
    code = "import kvmprobe.report.stored_report as stored, kvmprobe.cli.main as cli\n"
    code += "stored.load = lambda path: 1 / 0\ncli.entry()"
    command = [sys.executable, "-c", code, "judge", "--format", "nagios", "x"]
    shown = {"capture_output": True, "text": True, "cwd": PROJECT, "timeout": DEADLINE_S, "check": False}
    done = subprocess.run(command, **shown)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (3, "")
    assert _parse(done.stdout, 3)[0] == "internal error: ZeroDivisionError: division by zero"
    done = subprocess.run(command, env={**os.environ, "KVMPROBE_DEBUG": "1"}, **shown)  # type: ignore[call-overload]
    assert done.stderr.startswith("Traceback")


def test_a_file_of_also_that_cannot_be_written_is_the_result(tmp_path: Path) -> None:
    """The first line must not be OK if the exit status is not 0."""
    targets = ("--also", "json:/dev/full", "--also", f"ktap:{tmp_path / 'ktap'}")
    done = kvmprobe("judge", "--format", "nagios", _fresh(tmp_path), *targets)
    assert (done.returncode, done.stderr) == (3, "")
    text, _ = _parse(done.stdout, 3)
    assert text == "cannot write the result to /dev/full: No space left on device"
    assert (tmp_path / "ktap").read_text().startswith("KTAP version 1\n")


def test_also_nagios_does_not_change_the_exit_status(tmp_path: Path) -> None:
    path = _fresh(tmp_path, "matrix/bookworm/no-svm")
    done = kvmprobe("judge", "-q", path, "--also", f"nagios:{tmp_path / 'nagios'}")
    assert (done.returncode, done.stdout[:6]) == (1, "FAILED")
    _parse((tmp_path / "nagios").read_text(), 2)


@pytest.mark.parametrize(("redirection", "status"), [(">&-", 3), ("| true; exit ${PIPESTATUS[0]}", 0), ("2>&-", 0)])
def test_closed_streams(redirection: str, status: int, tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmprobe judge --format nagios {_fresh(tmp_path)} {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")


def _has_open(pid: int, path: Path) -> bool:
    return any(os.path.realpath(fd) == str(path) for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_terminated(tmp_path: Path) -> None:
    """An agent that ends kvmprobe after its own timeout may still read the output."""
    fifo = tmp_path / "report"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "kvmprobe", "judge", "--format", "nagios", str(fifo)]
    with (
        fifo.open("rb+", buffering=0),
        subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as run,
    ):
        ends = time.monotonic() + DEADLINE_S
        while not _has_open(run.pid, fifo) and run.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=DEADLINE_S)
    assert run.returncode == 3
    assert _parse(said, 3)[0] == "ended by SIGTERM, nothing is left behind"


def test_hostile_evidence_adds_no_line_and_no_number() -> None:
    evidence = recorded("matrix/bookworm/held-second")
    evidence["host"]["name"] = evidence["kernel"]["release"] = evidence["taken_at"] = EVIL
    evidence["uevents"]["error"] = evidence["device"]["mode"] = EVIL
    for table in evidence["cpus"]["cpuinfo"].values():
        table["vendor_id"] = EVIL
    evidence["cpus"]["cpuid"] = {}
    report = judge(evidence)
    text, numbers = _parse(render(report, "nagios"), FORMATS["nagios"].exit_status(report))
    assert set(numbers) == {"duration", "cpus", "svme_cpus"}
    assert len(text) < 500


def test_a_complaint_stays_on_its_lines() -> None:
    assert nagios.complaint("a|b\nc", EVIL).count("\n") == 2
    _parse(nagios.complaint(EVIL, None), 3)


# Permissions


@pytest.fixture
def installed() -> Iterator[Path]:
    """A copy of kvmprobe in a folder that every user may enter. The checkout may be accessible to root alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can be other users")
    with TemporaryDirectory(prefix="kvmprobe-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(PROJECT / "kvmprobe", folder / "kvmprobe", ignore=shutil.ignore_patterns("__pycache__"))
        yield folder


def _run_as(user: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    options: dict[str, Any] = {"user": user, "group": user, "extra_groups": [], "cwd": "/", "check": False}
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, **options)


def _python() -> str:
    """A Python that every user may run. The one of the tests may be in root's home."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            if _run_as(NOBODY, [python, "-I", "-c", "import json"]).returncode == 0:
                return python
        except OSError:
            pass
    pytest.skip("no Python that every user may run")


def test_an_agent_without_rights_reads_what_its_group_may(installed: Path) -> None:
    """The folder of the reports belongs to root and the agent's group, and new files get that group."""
    reports = installed / "reports"
    reports.mkdir()
    os.chown(reports, 0, NOBODY)
    reports.chmod(0o2750)
    stored = reports / "report.json"
    fresh = _fresh(installed)
    for _ in range(2):
        kvmprobe("judge", fresh, "--json", "-o", stored, umask=0o027)
        assert (stored.stat().st_mode & 0o777, stored.stat().st_gid) == (0o640, NOBODY)
    code = f"import sys; sys.path.insert(0, {str(installed)!r}); import kvmprobe.cli.main as cli; cli.entry()"
    command = [_python(), "-I", "-c", code, "judge", "--format", "nagios", str(stored)]
    for user, status in ((NOBODY, 0), (NOBODY - 1, 3)):
        done = _run_as(user, command)
        assert (done.returncode, done.stderr) == (status, "")
        text, _ = _parse(done.stdout, status)
        assert ("cannot be read: Permission denied" in text) == (status == 3)
