"""Arguments, output, exit status: as a shell script sees them."""

from __future__ import annotations

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvmprobe as package
from kvmprobe.model.reasons import EXIT_STATUS, REASONS
from tests.helpers.recorded_evidence import EVIDENCE, RECORDED, recorded_name
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("--bogus",),
        ("check", "extra"),
        ("judge",),
        ("judge", "a", "b"),
        ("--format", "xml"),
        ("-v", "-q"),
        ("explain", "bogus"),
        ("--sysroot", "/nonexistent"),
        ("--output", "/nonexistent/report"),
        ("--output", "/"),
        ("--output", ""),
        ("--sysroot", "/tmp", "--load-kvm"),
        ("lab",),
        ("lab", "bogus"),
    ],
)
def test_wrong_arguments_are_64(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    assert "kvmprobe" in done.stderr


@pytest.mark.parametrize("command", ["check", "judge", "explain", "trace", "watch", "soak", "lab run"])
def test_what_a_command_does_not_know(command: str) -> None:
    needed = ["x"] if command == "judge" else []
    done = kvmprobe(*command.split(), *needed, "--bogus")
    assert done.returncode == 64
    assert done.stderr.startswith(f"usage: kvmprobe {command} ")
    assert f"{command}: unrecognized arguments: --bogus\n" in done.stderr
    assert done.stderr.endswith(f"'kvmprobe {command} --help' shows what there is.\n")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("check", "--help"), ("judge", "-h"), ("explain", "-h"), ("lab", "-h")]
)
def test_help_goes_to_stdout(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: kvmprobe" in done.stdout


@pytest.mark.parametrize("path", ["", "judge", "lab run"])
def test_help_is_a_command_too(path: str) -> None:
    assert kvmprobe("help", *path.split()).stdout == kvmprobe(*path.split(), "--help").stdout


def test_version() -> None:
    assert kvmprobe("--version").stdout == f"kvmprobe {package.__version__}\n"


def test_without_a_command_it_is_check(host_report: Any) -> None:
    reports = [json.loads(kvmprobe(*arguments, "--json").stdout) for arguments in ((), ("check",))]
    assert reports[0]["verdict"] == reports[1]["verdict"] == host_report["verdict"]


@pytest.mark.parametrize("path", RECORDED, ids=recorded_name)
def test_exit_status_is_the_verdicts(path: Path) -> None:
    verdict = json.loads(path.read_text())["verdict"]
    done = kvmprobe("judge", "-q", path)
    assert done.returncode == EXIT_STATUS[verdict["status"]]
    assert done.stdout == f"{verdict['status'].upper()} {verdict['reason']}: {verdict['summary']}\n"


def test_text_report_has_the_steps_the_table_and_the_verdict_last() -> None:
    done = kvmprobe("judge", CONFIRMED)
    lines = done.stdout.splitlines()
    functions = ["has_svm", "is_disabled", "svm_init", "kvm_dev_ioctl ", "svm_hardware_enable", "svm_vcpu_run"]
    places = [done.stdout.index(function) for function in functions]
    assert places == sorted(places)
    assert ["EFER", "cpu0-1", "0xd01", "0x1d01", "0xd01"] in [line.split() for line in lines]
    assert lines[-2].startswith("CONFIRMED svme-set-by-create-vm")


def test_verbose_shows_every_cpu() -> None:
    rows = [line.split() for line in kvmprobe("judge", "-v", CONFIRMED).stdout.splitlines()]
    for cpu in ("cpu0", "cpu1"):
        assert ["EFER", cpu, "0xd01", "0x1d01", "0xd01"] in rows


@pytest.mark.parametrize("name", REASONS)
def test_explain_says_all_there_is(name: str) -> None:
    done = kvmprobe("explain", name)
    words = " ".join(done.stdout.split())
    for part in (REASONS[name].when, REASONS[name].kernel, REASONS[name].log, REASONS[name].hint):
        assert " ".join(part.split()) in words


def test_explain_lists_all() -> None:
    assert [line.split()[0] for line in kvmprobe("explain").stdout.splitlines()] == list(REASONS)


def test_output_replaces_a_file_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    done = kvmprobe("judge", CONFIRMED, "--json", "--output", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(target.read_text())["verdict"]["status"] == "confirmed"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_output_follows_a_link_and_writes_to_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert kvmprobe("judge", CONFIRMED, "-o", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert "CONFIRMED" in (tmp_path / "real").read_text()
    assert "CONFIRMED" in kvmprobe("judge", CONFIRMED, "-o", "/dev/stdout").stdout
    kvmprobe("judge", CONFIRMED, "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_full_disk_is_a_clear_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kvmprobe", "judge", CONFIRMED],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr == "kvmprobe: the result cannot be written to standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("redirection", "status"),
    [("bogus 2>/dev/full", 64), ("bogus 2>&-", 64), ("judge - <&-", 65), ("judge /x 2>&-", 65)],
)
def test_nobody_listens_to_complaints(redirection: str, status: int) -> None:
    command = f"{sys.executable} -m kvmprobe {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=PROJECT, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (status, b"")


def test_dev_stdout_is_added_to(tmp_path: Path) -> None:
    program = f"{sys.executable} -m kvmprobe judge -q -o /dev/stdout {CONFIRMED}"
    command = f"{{ echo a; {program}; echo b; }} >{tmp_path}/log"
    subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert (lines[0], lines[1][:9], lines[2]) == ("a", "CONFIRMED", "b")


@pytest.mark.parametrize("redirection", [">&-", "| true", "2>&-"])
def test_closed_streams_make_no_noise(redirection: str) -> None:
    command = f"{sys.executable} -m kvmprobe judge {CONFIRMED} {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT, timeout=DEADLINE_S, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.returncode == (3 if redirection == ">&-" else 0)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
def test_colour_only_on_a_terminal(environment: dict[str, str], coloured: bool) -> None:
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "kvmprobe", "judge", str(CONFIRMED)]
    variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        command, stdout=terminal, cwd=PROJECT, env={**variables, "TERM": "xterm", **environment}
    ) as run:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(main, 4096)
            except OSError:  # EIO: the other side is closed
                break
            shown += part
        assert run.wait(DEADLINE_S) == 0
    os.close(main)
    assert (b"\x1b[" in shown) == coloured
    assert "\x1b" not in kvmprobe("judge", CONFIRMED, env={**variables, "TERM": "xterm"}).stdout


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_any_locale(locale: str) -> None:
    environment = {**os.environ, "LC_ALL": locale, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = kvmprobe("judge", CONFIRMED, env=environment)
    assert done.returncode == 0
    assert "0xd01 \\u2192 0x1d01" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("-m", "kvmprobe", "--no-load", "-q"), ("-c", "import kvmprobe.collect.watch.ptrace_calls")],
    ids=["check", "watch"],
)
def test_no_program_is_run(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """ctypes.util.find_library(), which pyudev and python-ptrace use, would run ldconfig, and gcc and ld from PATH."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    log = tmp_path / "log"
    command = ["strace", "-f", "-qq", "-e", "trace=execve", "-o", str(log), sys.executable, *arguments]
    subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=DEADLINE_S, check=False)
    assert [line for line in log.read_text().splitlines() if "execve(" in line][1:] == []


def test_runs_from_a_plain_checkout_with_the_standard_library_alone(tmp_path: Path) -> None:
    """-I -S: no site-packages, so no pyudev; one line says that a witness is missing."""
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import kvmprobe.cli.main as cli; cli.entry()"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE_S,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == EXIT_STATUS[report["verdict"]["status"]]
    assert report["evidence"]["uevents"]["source"] is None
    assert "No module named 'pyudev'" in report["evidence"]["uevents"]["error"]
    assert len(done.stderr.splitlines()) == 1
    assert "one witness less" in done.stderr
