"""Files that results go to: replaced as a whole, with the right permissions, in a folder of whichever user."""

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

from kvmprobe.formats import render
from kvmprobe.report.safe_write import open_special, replace_file
from tests.helpers.recorded_evidence import EVIDENCE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe

ANYWHERE = {**os.environ, "PYTHONPATH": str(PROJECT)}
CONFIRMED = EVIDENCE / "matrix/bookworm/epyc.json"
FAILED = EVIDENCE / "matrix/bookworm/no-svm.json"
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")


def _judge(target: Path, umask: int = -1) -> subprocess.CompletedProcess[str]:
    return kvmprobe("judge", CONFIRMED, "-q", "--also", f"json:{target}", umask=umask)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _verdict(path: Path) -> str:
    status: str = json.loads(path.read_text())["verdict"]["status"]
    return status


def test_output_replaces_a_file_and_keeps_its_mode(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    target.write_text("old")
    target.chmod(0o640)
    done = kvmprobe("judge", CONFIRMED, "--json", "--output", target)
    assert (done.returncode, done.stdout) == (0, "")
    assert _verdict(target) == "confirmed"
    assert _mode(target) == 0o640
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["r" * 255, "r" * 243, "ä" * 127 + "r"], ids=["255", "243", "255 bytes"])
def test_a_name_may_be_as_long_as_the_file_system_allows(name: str, tmp_path: Path) -> None:
    for _ in range(2):
        done = _judge(tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert _verdict(tmp_path / name) == "confirmed"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    done = _judge(tmp_path / ("r" * 256))
    assert (done.returncode, done.stdout) == (64, "")
    assert "File name too long" in done.stderr


def test_output_follows_a_link_and_writes_to_a_device(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert kvmprobe("judge", CONFIRMED, "-o", tmp_path / "link").returncode == 0
    assert (tmp_path / "link").is_symlink()
    assert "CONFIRMED" in (tmp_path / "real").read_text()
    assert "CONFIRMED" in kvmprobe("judge", CONFIRMED, "-o", "/dev/stdout").stdout
    kvmprobe("judge", CONFIRMED, "-o", "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_standard_output_is_appended_to(tmp_path: Path) -> None:
    program = f"{sys.executable} -m kvmprobe judge -q -o /dev/stdout {CONFIRMED}"
    command = f"{{ echo a; {program}; echo b; }} >{tmp_path}/log"
    subprocess.run(["bash", "-c", command], cwd=PROJECT, timeout=DEADLINE_S, check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert (lines[0], lines[1][:9], lines[-1]) == ("a", "CONFIRMED", "b")


def test_only_a_descriptor_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "json"
    path.write_text("old")
    _judge(Path(f"/proc/..{path}"))
    assert _verdict(path) == "confirmed"


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    _judge(tmp_path / "json", umask=0o077)
    assert _mode(tmp_path / "json") == 0o600


@needs_root
def test_an_existing_file_keeps_its_group_and_mode(tmp_path: Path) -> None:
    """The group of a monitoring agent may read it, also after the next run."""
    target = tmp_path / "json"
    target.write_text("old")
    os.chown(target, 0, NOBODY)
    target.chmod(0o640)
    _judge(target, umask=0o077)
    assert (_mode(target), target.stat().st_uid, target.stat().st_gid) == (0o640, 0, NOBODY)


@needs_root
@pytest.mark.parametrize(("umask", "planted", "mode"), [(0o077, 0o4666, 0o600), (0o022, 0o600, 0o600)])
def test_another_users_file_only_restricts_permissions(umask: int, planted: int, mode: int, tmp_path: Path) -> None:
    target = tmp_path / "json"
    target.write_text("planted")
    os.chown(target, NOBODY, NOBODY)
    target.chmod(planted)
    _judge(target, umask)
    assert (_mode(target), target.stat().st_uid, target.stat().st_gid) == (mode, 0, 0)


def test_a_file_with_a_second_name_only_restricts_permissions(tmp_path: Path) -> None:
    """The folder's owner can link any file there that root owns and everybody may write."""
    (tmp_path / "elsewhere").touch()
    (tmp_path / "elsewhere").chmod(0o666)
    os.link(tmp_path / "elsewhere", tmp_path / "json")
    _judge(tmp_path / "json", umask=0o077)
    assert (_mode(tmp_path / "json"), _mode(tmp_path / "elsewhere")) == (0o600, 0o666)


@needs_root
@pytest.mark.parametrize(("owner", "mode"), [(NOBODY, 0o755), (0, 0o777)])
def test_a_file_that_others_can_rename_only_restricts_permissions(owner: int, mode: int, tmp_path: Path) -> None:
    """They can rename the metrics, a file of root's that everybody may read, to the report's name."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, owner, NOBODY)
    folder.chmod(mode)
    tmp_path.chmod(0o755)
    kvmprobe("judge", CONFIRMED, "--also", f"prometheus:{folder}/prometheus", umask=0o077)
    os.chown(folder / "prometheus", 0, NOBODY)
    (folder / "prometheus").rename(folder / "json")
    assert _mode(folder / "json") == 0o644
    _judge(folder / "json", umask=0o077)
    info = (folder / "json").stat()
    assert (_mode(folder / "json"), info.st_uid, info.st_gid) == (0o600, 0, 0)


def test_a_pipe_that_has_become_a_file_is_not_opened(tmp_path: Path) -> None:
    """The folder's owner can put a link to a file of ours in its place, between the look and the opening."""
    (tmp_path / "passwd").write_text("root:x:0:0")
    with pytest.raises(PermissionError):
        open_special(str(tmp_path / "passwd"))


@needs_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_another_users_link_is_followed_to_that_users_folders_only(what: str, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    (ours / "json").write_text("precious")
    os.chown(theirs, NOBODY, NOBODY)
    link = theirs / ("json" if what == "file" else "way")
    link.symlink_to(ours / "json" if what == "file" else "../ours")
    os.lchown(link, NOBODY, NOBODY)
    target = link if what == "file" else link / "json"
    done = _judge(target)
    assert done.returncode == 64
    complaint = f"--also json:{target}: a link in the path belongs to another user (uid {NOBODY})"
    assert done.stderr.splitlines()[0] == f"kvmprobe: {complaint}"
    assert (ours / "json").read_text() == "precious"
    os.chown(ours, NOBODY, NOBODY)  # their own folder: they could do that themselves
    assert _judge(target).returncode == 0
    assert link.is_symlink()
    assert (ours / "json").read_text() != "precious"


@needs_root
@pytest.mark.parametrize("what", ["a pipe without a reader", "a link to a device"])
def test_another_users_pipe_or_link_to_a_device_is_not_opened(what: str, tmp_path: Path) -> None:
    """Root would wait for ever, or write to what the other user may not write to."""
    os.chown(tmp_path, NOBODY, NOBODY)
    target = tmp_path / "json"
    if what == "a link to a device":
        target.symlink_to("/dev/null")
    else:
        os.mkfifo(target)
    os.lchown(target, NOBODY, NOBODY)
    done = _judge(target)
    assert done.returncode == 64
    assert f"belongs to another user (uid {NOBODY})" in done.stderr.splitlines()[0]


def test_a_pipe_of_ones_own_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "json")
    with (tmp_path / "json").open("rb+", buffering=0) as pipe:
        done = _judge(tmp_path / "json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(os.read(pipe.fileno(), 1 << 16))["verdict"]["status"] == "confirmed"
    assert stat.S_ISFIFO((tmp_path / "json").stat().st_mode)


def test_files_below_dev_are_replaced_like_others() -> None:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        for _ in range(2):
            _judge(Path(folder, "json"))
        assert _verdict(Path(folder, "json")) == "confirmed"


def test_ones_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "way").symlink_to("a/./b/../b")
    (tmp_path / "a/b/json").symlink_to(tmp_path / "real")
    assert kvmprobe("judge", CONFIRMED, "--also", "json:way/json", cwd=tmp_path, env=ANYWHERE).returncode == 0
    assert _verdict(tmp_path / "real") == "confirmed"
    assert (tmp_path / "a/b/json").is_symlink()


def test_a_full_disk_is_reported_in_one_line() -> None:
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
    assert done.stderr == "kvmprobe: cannot write the result to standard output: No space left on device\n"


@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_temporary_file_of_a_killed_run_is_replaced(planted: str, tmp_path: Path) -> None:
    temporary = tmp_path / f".a.{os.getpid()}.tmp"
    (tmp_path / "precious").write_text("precious")
    temporary.write_text("half") if planted == "file" else temporary.symlink_to("precious")
    replace_file(str(tmp_path / "a"), "whole", None)
    assert (tmp_path / "a").read_text() == "whole"
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()
    assert not os.path.lexists(temporary)


def test_a_run_that_is_killed_leaves_each_file_old_or_new(tmp_path: Path) -> None:
    """Whatever else SIGKILL leaves has a dot before its name."""
    names = ("json", "ktap", "junit")
    also = [part for name in names for part in ("--also", f"{name}:{tmp_path / name}")]
    wholes = {name: {render(json.loads(path.read_text()), name) for path in (CONFIRMED, FAILED)} for name in names}
    seen: dict[str, set[str]] = {name: set() for name in names}
    for number in range(12):
        path = (CONFIRMED, FAILED)[number % 2]
        command = [sys.executable, "-m", "kvmprobe", "judge", str(path), "-o", "/dev/null", *also]
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
from kvmprobe.report.safe_write import replace_file
path, texts = sys.argv[1], ["a" * 100_000, "b" * 200_000]
replace_file(path, texts[0], 0o644)
for _ in range(300):
    pid = os.fork()
    while not pid:
        for text in texts:
            replace_file(path, text, 0o644)
    time.sleep(random.uniform(0.0, 0.004))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with open(path) as file:
        assert file.read() in texts
"""


def test_a_write_that_is_killed_leaves_the_file_old_or_new(tmp_path: Path) -> None:
    """300 times. The temporary files show that some kills came between the first byte and the new name."""
    command = [sys.executable, "-c", _KILL, str(tmp_path / "a")]
    subprocess.run(command, cwd=PROJECT, timeout=DEADLINE_S, check=True)
    left = [path for path in tmp_path.iterdir() if path.name != "a"]
    assert left
    assert all(path.name.startswith(".a.") for path in left)
