"""--also: one report in many formats, each file the old one or the whole new one, in whoever's folder."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kvmprobe.formats import REPORT_FORMATS, SUITE_FORMATS, render
from kvmprobe.report.safe_write import open_special, replace
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

_HERE = {**os.environ, "PYTHONPATH": str(PROJECT)}
CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


def _also(folder: Path, *names: str) -> list[str]:
    return [part for name in names for part in ("--also", f"{name}:{folder / name}")]


def test_each_file_is_what_its_format_alone_would_have_been(tmp_path: Path) -> None:
    done = kvmprobe("judge", CONFIRMED, "--json", *_also(tmp_path, "text", *SUITE_FORMATS))
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    for name in ("text", *SUITE_FORMATS):
        assert (tmp_path / name).read_text() == render(report, name)
    assert {path.name for path in tmp_path.iterdir()} == {"text", *SUITE_FORMATS}


@pytest.mark.parametrize("command", ["check", "judge", "trace", "watch", "soak"])
def test_every_command_with_a_report_has_it(command: str) -> None:
    assert "--also FORMAT:FILE" in kvmprobe(command, "--help").stdout


@pytest.mark.parametrize("arguments", [("compare", CONFIRMED, FAILED), ("lab", "run")])
def test_what_is_about_many_reports_is_no_metric(arguments: tuple[str, ...]) -> None:
    done = kvmprobe(*arguments, "--format", "prometheus")
    assert (done.returncode, done.stdout) == (64, "")
    assert "invalid choice: 'prometheus'" in done.stderr


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("xml:FOLDER/a", "there is no such format"),
        ("json", "no FILE"),
        ("json:", "an empty name"),
        ("json:FOLDER", "is a folder"),
        ("json:FOLDER/a/", "is a folder"),
        ("json:FOLDER/none/a", "there is no folder"),
        ("json:FOLDER/taken", "something else is written there already"),
        ("json:FOLDER/link", "something else is written there already"),
        ("json:FOLDER/loop", "there is no folder"),
    ],
)
def test_a_target_is_refused_before_any_work(argument: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("taken")
    (tmp_path / "loop").symlink_to("loop/loop")
    target = argument.replace("FOLDER", str(tmp_path))
    done = kvmprobe("judge", "/nonexistent", "-o", tmp_path / "taken", "--also", target)
    assert done.returncode == 64
    assert done.stderr.splitlines()[0].startswith(f"kvmprobe: --also {target.rstrip(':')}: {complaint}")
    if complaint == "there is no such format":
        assert all(name in done.stderr for name in REPORT_FORMATS)
    assert not (tmp_path / "taken").exists()


def test_standard_output_is_one_target() -> None:
    done = kvmprobe("judge", CONFIRMED, "--also", "json:/dev/stdout")
    assert (done.returncode, done.stdout) == (64, "")


def test_a_descriptor_of_the_caller_can_be_a_target(tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmprobe judge -q {CONFIRMED} --also json:/dev/fd/3 3>{tmp_path}/json"
    subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=True, stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"


@pytest.mark.parametrize("main", [(), ("-o", "/dev/full")])
def test_what_cannot_be_written_does_not_keep_the_others(main: tuple[str, ...], tmp_path: Path) -> None:
    """Each of the others is written; every failure is said, and the exit status says that it is not all well."""
    targets = ("--also", "json:/dev/full", *_also(tmp_path, "json", "ktap"))
    done = kvmprobe("judge", "-q", CONFIRMED, *main, *targets)
    assert done.returncode == 3
    assert done.stdout[:9] == ("" if main else "CONFIRMED")
    complaint = "the result cannot be written to /dev/full: No space left on device"
    assert done.stderr == f"kvmprobe: {'; '.join([complaint] * (2 if main else 1))}\n"
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"
    assert (tmp_path / "ktap").read_text().startswith("KTAP version 1\n")


@pytest.mark.parametrize(("name", "status", "first"), [("text", 1, "FAILED"), ("nagios", 2, "KVMPROBE CRITICAL")])
def test_a_failed_host_stays_one_whatever_cannot_be_written(name: str, status: int, first: str, tmp_path: Path) -> None:
    failed = EVIDENCE / "matrix/bookworm/held-first.json"
    options = ("--max-age", "99999d", "--format", name, "--also", "json:/dev/full")
    done = kvmprobe("judge", "-q", failed, *options)
    assert (done.returncode, done.stdout[: len(first)]) == (status, first)
    assert ("No space left on device" in done.stderr) == (name == "text")  # an agent gets one result


def test_closed_standard_output_does_not_keep_the_files(tmp_path: Path) -> None:
    command = f"{sys.executable} -m kvmprobe judge {CONFIRMED} --also json:{tmp_path}/json >&-"
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=False, capture_output=True)
    assert done.returncode == 3
    assert json.loads((tmp_path / "json").read_text())["verdict"]["status"] == "confirmed"


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_umask_decides_who_may_read_a_report(tmp_path: Path) -> None:
    kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"), umask=0o077)
    assert _mode(tmp_path / "json") == 0o600


@needs_root
def test_a_report_that_is_there_keeps_its_group_and_mode(tmp_path: Path) -> None:
    """So a monitoring agent's group may read it, again after each run."""
    target = tmp_path / "json"
    target.write_text("old")
    os.chown(target, 0, NOBODY)
    target.chmod(0o640)
    kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"), umask=0o077)
    assert (_mode(target), target.stat().st_uid, target.stat().st_gid) == (0o640, 0, NOBODY)


@needs_root
@pytest.mark.parametrize(("umask", "planted", "mode"), [(0o077, 0o4666, 0o600), (0o022, 0o600, 0o600)])
def test_a_file_of_another_user_may_only_take_rights_away(umask: int, planted: int, mode: int, tmp_path: Path) -> None:
    target = tmp_path / "json"
    target.write_text("planted")
    os.chown(target, NOBODY, NOBODY)
    target.chmod(planted)
    kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"), umask=umask)
    assert (_mode(target), target.stat().st_uid, target.stat().st_gid) == (mode, 0, 0)


def test_a_file_with_another_name_may_only_take_rights_away(tmp_path: Path) -> None:
    """Who owns the folder can link any file there that root owns and everybody may write."""
    (tmp_path / "elsewhere").touch()
    (tmp_path / "elsewhere").chmod(0o666)
    os.link(tmp_path / "elsewhere", tmp_path / "json")
    kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"), umask=0o077)
    assert (_mode(tmp_path / "json"), _mode(tmp_path / "elsewhere")) == (0o600, 0o666)


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(NOBODY, 0o755), (0, 0o777)])
def test_who_may_rename_in_a_folder_gives_no_rights(owner: int, mode: int, tmp_path: Path) -> None:
    """They can call the metrics, a file of root's that all may read, by the report's name."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, owner, NOBODY)
    folder.chmod(mode)
    tmp_path.chmod(0o755)
    kvmprobe("judge", CONFIRMED, *_also(folder, "prometheus"), umask=0o077)
    os.chown(folder / "prometheus", 0, NOBODY)
    (folder / "prometheus").rename(folder / "json")
    assert _mode(folder / "json") == 0o644
    kvmprobe("judge", CONFIRMED, *_also(folder, "json"), umask=0o077)
    info = (folder / "json").stat()
    assert (_mode(folder / "json"), info.st_uid, info.st_gid) == (0o600, 0, 0)


@needs_root
def test_what_was_a_pipe_may_be_a_file_by_now(tmp_path: Path) -> None:
    """Of root's own, linked there by the folder's owner between the look and the opening."""
    (tmp_path / "passwd").write_text("root:x:0:0")
    with pytest.raises(PermissionError):
        open_special(str(tmp_path / "passwd"))


@pytest.mark.parametrize(("report", "status"), [(CONFIRMED, 65), (FAILED, 1)])
def test_a_format_that_cannot_say_it_keeps_no_other(report: Path, status: int, tmp_path: Path) -> None:
    """Features need a time to expire; a metric of it can do without."""
    data = json.loads(report.read_text())
    data["evidence"]["taken_at"] = "2026-11-22 16:07"
    done = kvmprobe("judge", "-q", "-", *_also(tmp_path, "nfd", "prometheus"), input=json.dumps(data))
    assert (done.returncode, {path.name for path in tmp_path.iterdir()}) == (status, {"prometheus"})
    assert "features need one to expire" in done.stderr


def test_a_hyphen_is_standard_output(tmp_path: Path) -> None:
    done = kvmprobe("judge", CONFIRMED, "-q", "-o", tmp_path / "text", "--also", "json:-", cwd=tmp_path, env=_HERE)
    assert json.loads(done.stdout)["verdict"]["status"] == "confirmed"
    done = kvmprobe("judge", CONFIRMED, "-q", "-o", "-", cwd=tmp_path, env=_HERE)
    assert done.stdout == (tmp_path / "text").read_text()
    assert kvmprobe("judge", CONFIRMED, "--also", "json:-").returncode == 64  # two at once
    assert {path.name for path in tmp_path.iterdir()} == {"text"}


def test_only_descriptors_are_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "json"
    path.write_text("old")
    kvmprobe("judge", CONFIRMED, "-q", "--also", f"json:/proc/..{path}")
    assert json.loads(path.read_text())["verdict"]["status"] == "confirmed"


@needs_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_another_users_link_does_not_lead_root_elsewhere(what: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    (ours / "json").write_text("precious")
    os.chown(theirs, NOBODY, NOBODY)
    link = theirs / ("json" if what == "file" else "way")
    link.symlink_to(ours / "json" if what == "file" else "../ours")
    os.lchown(link, NOBODY, NOBODY)
    target = link if what == "file" else link / "json"
    done = kvmprobe("judge", CONFIRMED, "--also", f"json:{target}")
    assert done.returncode == 64
    complaint = f"--also json:{target}: a link on the way there is another user's (uid {NOBODY})"
    assert done.stderr.splitlines()[0] == f"kvmprobe: {complaint}"
    assert (ours / "json").read_text() == "precious"
    os.chown(ours, NOBODY, NOBODY)  # their own folder: nothing that they could not do themselves
    assert kvmprobe("judge", CONFIRMED, "--also", f"json:{target}").returncode == 0
    assert link.is_symlink()
    assert (ours / "json").read_text() != "precious"


@needs_root
@pytest.mark.parametrize("what", ["a pipe that nobody reads", "a link to a device"])
def test_another_users_pipe_or_device_is_not_opened(what: str, tmp_path: Path) -> None:
    """Sysroot would wait for ever, or write to what the other user may not."""
    os.chown(tmp_path, NOBODY, NOBODY)
    target = tmp_path / "json"
    if what == "a link to a device":
        target.symlink_to("/dev/null")
    else:
        os.mkfifo(target)
    os.lchown(target, NOBODY, NOBODY)
    done = kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"))
    assert done.returncode == 64
    assert f"another user's (uid {NOBODY})" in done.stderr.splitlines()[0]


def test_a_pipe_of_ones_own_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "json")
    with (tmp_path / "json").open("rb+", buffering=0) as pipe:
        done = kvmprobe("judge", CONFIRMED, *_also(tmp_path, "json"))
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(os.read(pipe.fileno(), 1 << 16))["verdict"]["status"] == "confirmed"
    assert stat.S_ISFIFO((tmp_path / "json").stat().st_mode)


def test_a_pipe_that_nobody_reads_any_more_takes_nothing_from_standard_output(tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m kvmprobe judge --format nagios --max-age 9999d {CONFIRMED} --also json:/dev/fd/3 3> >(:)"
    )
    done = subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=False, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.startswith(b"KVMPROBE OK")


def test_memory_that_is_a_folder_of_dev_has_files_like_others() -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(2):
            kvmprobe("judge", CONFIRMED, *_also(Path(folder), "json"))
        assert json.loads(Path(folder, "json").read_text())["verdict"]["status"] == "confirmed"


def test_ones_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "way").symlink_to("a/./b/../b")
    (tmp_path / "a/b/json").symlink_to(tmp_path / "real")
    assert kvmprobe("judge", CONFIRMED, "--also", "json:way/json", cwd=tmp_path, env=_env()).returncode == 0
    assert json.loads((tmp_path / "real").read_text())["verdict"]["status"] == "confirmed"
    assert (tmp_path / "a/b/json").is_symlink()


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT)}


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    code = "import os, kvmprobe.cli.main as cli; os.rmdir(os.getcwd()); cli.entry()"
    for target, status in ((str(tmp_path / "json"), 0), ("json", 64)):
        (tmp_path / "gone").mkdir(exist_ok=True)
        command = [sys.executable, "-c", code, "judge", str(CONFIRMED), "--also", f"json:{target}"]
        done = subprocess.run(
            command, cwd=tmp_path / "gone", env=_env(), capture_output=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == status, done.stderr
        assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("planted", ["file", "link"])
def test_what_a_killed_run_with_the_same_pid_left_is_harmless(planted: str, tmp_path: Path) -> None:
    beside = tmp_path / f".a.{os.getpid()}.tmp"
    (tmp_path / "precious").write_text("precious")
    beside.write_text("half") if planted == "file" else beside.symlink_to("precious")
    replace(str(tmp_path / "a"), "whole", None)
    assert (tmp_path / "a").read_text() == "whole"
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()
    assert not os.path.lexists(beside)


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """SIGKILL: each file is the old one or the whole new one; what is left besides has a dot before its name."""
    names = ("json", "ktap", "junit")
    wholes = {name: {render(json.loads(path.read_text()), name) for path in (CONFIRMED, FAILED)} for name in names}
    seen: dict[str, set[str]] = {name: set() for name in names}
    for number in range(12):
        path = (CONFIRMED, FAILED)[number % 2]
        command = [sys.executable, "-m", "kvmprobe", "judge", str(path), "-o", "/dev/null", *_also(tmp_path, *names)]
        with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL) as run:
            if number < 2:
                run.wait(DEADLINE_S)
            else:
                time.sleep(0.02 + 0.015 * number)
                run.send_signal(signal.SIGKILL)
        for name in names:
            seen[name].add((tmp_path / name).read_text())
    for name in names:
        assert seen[name] == wholes[name]
    assert {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")} == set(names)


_KILL = """
import os, random, signal, sys, time
from kvmprobe.report.safe_write import replace
path, texts = sys.argv[1], ["a" * 100_000, "b" * 200_000]
replace(path, texts[0], 0o644)
for _ in range(300):
    pid = os.fork()
    while not pid:
        for text in texts:
            replace(path, text, 0o644)
    time.sleep(random.uniform(0.0, 0.004))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(path) as file:
        assert file.read() in texts
"""


def test_killed_while_writing(tmp_path: Path) -> None:
    """300 times: what is left over shows that some kills came between the first byte and the new name."""
    command = [sys.executable, "-c", _KILL, str(tmp_path / "a")]
    subprocess.run(command, cwd=PROJECT, timeout=DEADLINE_S, check=True)
    left = [path for path in tmp_path.iterdir() if path.name != "a"]
    assert left
    assert all(path.name.startswith(".a.") for path in left)
