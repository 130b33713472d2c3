"""The process: closed streams, locales, what it needs and what it starts."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kvmprobe.model.verdict_status import EXIT_STATUS
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"


@pytest.mark.parametrize(
    ("redirection", "status"),
    [("bogus 2>/dev/full", 64), ("bogus 2>&-", 64), ("judge - <&-", 65), ("judge /x 2>&-", 65)],
)
def test_a_problem_that_nobody_reads_has_its_exit_status(redirection: str, status: int) -> None:
    command = f"{sys.executable} -m kvmprobe {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=PROJECT, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (status, b"")


@pytest.mark.parametrize("redirection", [">&-", "| true", "2>&-"])
def test_closed_streams_give_no_traceback(redirection: str) -> None:
    command = f"{sys.executable} -m kvmprobe judge {CONFIRMED} {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT, timeout=DEADLINE_S, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert done.returncode == (3 if redirection == ">&-" else 0)


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("arguments", ["--help", "--version", "lab run --help", "explain"])
def test_what_cannot_be_written_is_one_line_and_status_3(arguments: str, redirection: str) -> None:
    command = f"{sys.executable} -m kvmprobe {arguments} {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=PROJECT, timeout=DEADLINE_S, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert done.stderr.startswith("kvmprobe: cannot write the result to standard output: ")


@pytest.mark.parametrize("arguments", ["--help", "--version", "lab run --help"])
def test_help_that_is_not_read_to_its_end_is_no_error(arguments: str) -> None:
    command = f"{sys.executable} -m kvmprobe {arguments} | head -c0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=PROJECT, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


TO_LIMIT = {
    "check": ("check", "-q"),
    "watch": ("watch", "-q", "--", "true"),
    "own guest": ("watch", "-q"),
    "soak": ("soak", "-q", "--cycles", "2", "--kill"),
    "summary": ("summary", "-q", "--jobs", "2", "--judge", str(CONFIRMED.parent)),
    "lab": ("lab", "run", "-q"),
}


def is_answered(done: subprocess.CompletedProcess[str], command: str) -> bool:
    """Whether there is a result, or one line (and what to do) that names the limit; never a defect."""
    if done.stdout or command == "summary":
        return done.returncode in (0, 1, 3, 4)
    return done.returncode == 3 and len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("command", "files"), [("check", 5), ("watch", 8), ("own guest", 12), ("soak", 6), ("summary", 11), ("lab", 6)]
)
def test_a_limit_of_open_files_is_a_limit_and_no_defect(command: str, files: int) -> None:
    done = kvmprobe(*TO_LIMIT[command], before=["prlimit", f"--nofile={files}"])
    assert is_answered(done, command), done


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("check", "clone,fork:error=EAGAIN"),
        ("check", "pipe,pipe2:error=ENFILE"),
        ("watch", "clone,fork:error=EAGAIN"),
        ("watch", "pipe,pipe2:error=EMFILE"),
        ("own guest", "memfd_create:error=ENOMEM"),
        ("soak", "clone,fork:error=ENOMEM:when=3"),
        ("lab", "socket,socketpair,pipe,pipe2:error=ENFILE"),
        ("summary", "clone,fork:error=EAGAIN"),
        ("summary", "clone3:error=EAGAIN"),  # of the first thread
        ("summary", "clone3:error=EAGAIN:when=2"),  # of the second, which the first one starts
    ],
)
def test_a_limit_of_processes_pipes_or_memory_is_a_limit_and_no_defect(command: str, fault: str) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace here")
    done = kvmprobe(*TO_LIMIT[command], before=["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"inject={fault}"])
    assert is_answered(done, command), done


def test_without_dev_null_the_lab_reports_what_is_missing() -> None:
    without = ["unshare", "-m", "sh", "-c", 'mount --make-rprivate / && mount -t tmpfs none /dev && exec "$@"', "sh"]
    done = kvmprobe("lab", "run", "-q", before=without)
    if "ermi" in done.stderr:
        pytest.skip("this process may not mount")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("kvmprobe: /dev/null cannot be opened: No such file or directory\n")


_NODEV = """
mount --make-rprivate / && mount -t tmpfs -o nodev tmpfs /mnt && mknod -m 666 /mnt/null c 1 3 &&
mknod /mnt/kvm c 10 232 && mount --move /mnt /dev && exec "$@"
"""


def test_where_no_device_can_be_opened_the_mount_is_reported() -> None:
    """Not even /dev/null can be opened there."""
    done = kvmprobe("check", "--json", before=["unshare", "-m", "sh", "-c", _NODEV, "sh"])
    if "Operation not permitted" in done.stderr:
        pytest.skip("this process may not mount")
    verdict = json.loads(done.stdout)["verdict"]
    assert (verdict["reason"], verdict["cause"]) == ("kvm-not-permitted", "nodev-mount")


def _on_a_terminal(environment: dict[str, str]) -> bytes:
    """The output of a judgement on a terminal."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "kvmprobe", "judge", str(CONFIRMED)]
    with subprocess.Popen(command, stdout=terminal, cwd=PROJECT, env=environment) as run:
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
    return shown


@pytest.mark.parametrize(
    ("environment", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)]
)
def test_only_a_terminal_gets_colours(environment: dict[str, str], coloured: bool) -> None:
    variables = {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, "TERM": "xterm"}
    assert (b"\x1b[" in _on_a_terminal({**variables, **environment})) == coloured
    assert "\x1b" not in kvmprobe("judge", CONFIRMED, env=variables).stdout


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with a value beyond ASCII."""
    report = json.loads(CONFIRMED.read_text())
    report["evidence"]["host"]["name"] = "hôte→1"
    report["evidence"]["kernel"]["release"] = "6.1.0-ô"
    for info in report["evidence"]["cpus"]["cpuinfo"].values():
        info["model_name"] = "Prozessor ô"
    path = tmp_path_factory.mktemp("foreign") / "report.json"
    path.write_text(json.dumps(report))
    return path


@pytest.mark.parametrize("locale", ["C", "POSIX"])
@pytest.mark.parametrize("utf8", [{}, {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}, {"PYTHONUTF8": "1"}])
def test_a_locale_of_ascii_gets_ascii(locale: str, utf8: dict[str, str], foreign: Path) -> None:
    done = kvmprobe("judge", foreign, env={**os.environ, "LC_ALL": locale, **utf8})
    assert done.returncode == 0
    assert "h\\xf4te->1: Linux" in done.stdout
    assert done.stdout.isascii()


def test_another_encoding_gets_ascii_too(foreign: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}
    assert "h\\xf4te->1: Linux" in kvmprobe("judge", foreign, env=environment).stdout


@pytest.mark.parametrize("name", ["text", "ktap"])
def test_all_text_is_ascii_there(name: str, foreign: Path) -> None:
    utf8 = kvmprobe("judge", foreign, "--format", name, env={**os.environ, "LC_ALL": "C.UTF-8"}).stdout
    assert "hôte→1" in utf8
    ascii_text = kvmprobe("judge", foreign, "--format", name, env={**os.environ, "LC_ALL": "C"}).stdout
    assert ascii_text == utf8.replace("ô", "\\xf4").replace("→", "->")


@pytest.mark.parametrize("name", ["json", "html", "prometheus", "nagios", "nfd", "junit"])
def test_what_programs_read_is_ascii_in_every_locale(name: str, foreign: Path) -> None:
    """Else an escape would stand in it where the locale is C."""
    options = ("--format", name, "--max-age", "99999d")
    outputs = [kvmprobe("judge", foreign, *options, env={**os.environ, "LC_ALL": x}).stdout for x in ("C", "C.UTF-8")]
    assert outputs[0].isascii()
    # The age of the evidence is of the moment.
    assert len({re.sub(r"\bage=\d+", "", output) for output in outputs}) == 1


def test_a_file_is_utf_8_in_every_locale(foreign: Path, tmp_path: Path) -> None:
    kvmprobe("judge", foreign, "-o", tmp_path / "a.txt", env={**os.environ, "LC_ALL": "C"})
    assert "hôte→1" in (tmp_path / "a.txt").read_text(encoding="utf-8")


def test_messages_are_ascii_there(tmp_path: Path) -> None:
    path = tmp_path / "Bericht-für-→"
    done = kvmprobe("judge", path, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 65
    assert done.stderr.startswith(f"kvmprobe: {tmp_path}/Bericht-f\\xfcr-->: ")


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


def test_a_check_imports_nothing_that_it_does_not_use() -> None:
    """pyudev, ctypes.util and argparse would import all of these."""
    unused = "bz2 ctypes.util datetime gettext locale lzma random selectors shutil subprocess tempfile threading typing"
    libraries = str(Path(pytest.importorskip("pyudev").__file__).parents[1])
    code = (
        f"import os, sys; sys.path[:0] = {[str(PROJECT), libraries]}; from kvmprobe.cli import parser; "
        "parser.run(['check', '--no-load', '-q', '--json', '-o', os.devnull]); print(*sys.modules)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert "pyudev" in done.stdout.split()
    assert set(unused.split()).intersection(done.stdout.split()) == set()


def test_a_plain_checkout_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    """-I -S: no site-packages, so no pyudev. One line warns that the uevents are missing."""
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
    assert done.stderr.startswith("kvmprobe: warning: KVM uevents unavailable: ")


@pytest.mark.parametrize("arguments", [(), ("judge", str(CONFIRMED)), ("watch", "--", "true"), ("--format", "nagios")])
def test_python3_minimal_is_named_with_what_to_install(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Debian's python3-minimal has no ctypes, json or mmap."""
    files = _standard_library_of_python3_minimal()
    for path in files:
        copy = tmp_path / path.relative_to("/usr/lib").relative_to(path.relative_to("/usr/lib").parts[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path)
    code = f"import sys; sys.path[:] = [{str(tmp_path)!r}, {str(PROJECT)!r}]; import kvmprobe.cli.main as m; m.entry()"
    command = ["/usr/bin/python3", "-I", "-S", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=DEADLINE_S, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 3
    assert len(lines) == 2
    assert "/usr/bin/python3 lacks the module " in lines[0]
    assert "apt-get install python3 " in lines[1]


def _standard_library_of_python3_minimal() -> list[Path]:
    """The files of Debian's package for /usr/bin/python3."""
    if not os.path.exists("/usr/bin/python3") or shutil.which("dpkg") is None:
        pytest.skip("not Debian's Python")
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    listed = subprocess.run(["dpkg", "-L", f"libpython{version}-minimal"], capture_output=True, text=True, check=False)
    files = [Path(line) for line in listed.stdout.splitlines() if line.startswith(f"/usr/lib/python{version}/")]
    if not files:
        pytest.skip(f"libpython{version}-minimal is not installed")
    return [path for path in files if path.is_file()]
