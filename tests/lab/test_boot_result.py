"""The result of a boot, from the files that the guest left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvmprobe.lab import boot_result
from kvmprobe.lab.boot_result import ANSWERED, COULD_NOT_START, LOST, TIMED_OUT, BootResult
from tests.helpers.run_kvmprobe import DEADLINE_S

_STARTED = "kvmprobe-lab: init\r\n"


def _results(folder: Path, **files: str) -> Path:
    results = folder / "results"
    results.mkdir()
    for name, content in files.items():
        (results / name).write_text(content)
    return results


def _read(folder: Path, returncode: int | None, console: str = _STARTED, qemu: str = "", **files: str) -> BootResult:
    results = folder / "results"
    if not results.exists():
        _results(folder, **files)
    (folder / "console").write_text(console)
    (folder / "qemu").write_text(qemu)
    return boot_result.read(results, folder / "console", returncode, folder / "qemu", 1.0)


@pytest.mark.parametrize("returncode", [0, 1, None])
def test_the_status_file_is_the_answer(returncode: int | None, tmp_path: Path) -> None:
    result = _read(tmp_path, returncode, status="4\n", stdout="{}", stderr="hello", mark="command", notes="a\nb\n")
    assert (result.outcome, result.status, result.reason) == (ANSWERED, 4, "")
    assert (result.stdout, result.stderr, result.notes) == (b"{}", "hello", ("a", "b"))


@pytest.mark.parametrize("status", ["", "x", "-1", "0x0", "256", "9" * 5000, "\N{ARABIC-INDIC DIGIT ONE}"])
def test_without_a_valid_status_the_guest_is_lost(status: str, tmp_path: Path) -> None:
    result = _read(tmp_path, 0, status=status, stdout='{"verdict": {"status": "confirmed"}}', mark="command")
    assert (result.outcome, result.status) == (LOST, None)
    assert result.reason == "the command never ended"


@pytest.mark.parametrize(
    ("console", "files", "reason"),
    [
        ("", {}, "the kernel never reached init"),
        ("[ 1.0] Kernel panic - not syncing: X\n", {}, "the kernel never reached init: Kernel panic - not syncing: X"),
        (_STARTED, {}, "init could not build the guest's root"),
        (
            _STARTED + "kvmprobe-lab: this kernel has no 9p\r\n",
            {},
            "init could not build the guest's root: this kernel has no 9p",
        ),
        (_STARTED, {"mark": "init\n", "notes": "no root\n"}, "init could not build the guest's root: no root"),
        (_STARTED, {"mark": "prepare\n"}, "the preparation never ended"),
        (_STARTED, {"mark": "\x1b[2J\n"}, "the guest left an unknown mark"),
        (_STARTED, {"mark": "command\n", "notes": "a\x1b[2Jb\n"}, "the command never ended: a\\x1b[2Jb"),
    ],
)
def test_the_reason_names_the_part_that_did_not_end(
    console: str, files: dict[str, str], reason: str, tmp_path: Path
) -> None:
    result = _read(tmp_path, None, console, **files)
    assert (result.outcome, result.reason) == (TIMED_OUT, reason)


_FILES = ("status", "mark", "notes", "stdout", "stderr")


def _link(path: Path) -> None:
    secret = path.parent.parent / "secret"
    secret.write_text("secret")
    path.symlink_to(secret)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    """A file of 1 TiB that needs no space on the disk."""
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("name", _FILES)
@pytest.mark.parametrize("make", [_link, _endless, os.mkfifo, os.mkdir, _huge])
def test_a_file_of_a_hostile_guest_shows_nothing_and_takes_no_time(
    make: Callable[[Path], object], name: str, tmp_path: Path
) -> None:
    results = _results(tmp_path, **{other: "0" for other in _FILES if other != name})
    make(results / name)
    started = time.monotonic()
    result = _read(tmp_path, 0)
    assert time.monotonic() - started < DEADLINE_S / 4
    assert result.outcome == (LOST if name == "status" else ANSWERED)
    texts = {"stdout": result.stdout.decode(), "stderr": result.stderr, "notes": "".join(result.notes)}
    assert "secret" not in (texts.get(name, "") + result.reason)
    assert all(len(text) <= 16 << 20 for text in texts.values())
    if make is not _huge:
        assert texts.get(name, "") == ""


def test_many_notes_are_cut(tmp_path: Path) -> None:
    result = _read(tmp_path, 0, status="0", notes=f"{'x' * 1000}\n" * 1000)
    assert (len(result.notes), {len(note) for note in result.notes}) == (17, {500, 368})


def test_a_long_console_log_is_read_at_both_ends(tmp_path: Path) -> None:
    with (tmp_path / "long").open("w") as file:
        file.write("first\n" + "x" * (1 << 20) + "\n")
        file.truncate(1 << 40)
        file.seek((1 << 40) - 6)
        file.write("\nlast\n")
    lines = boot_result.console_lines(tmp_path / "long")
    assert (lines[0], lines[-1][-4:]) == ("first", "last")
    assert max(map(len, lines)) <= 500


@pytest.mark.parametrize("returncode", [0, None])
def test_a_guest_that_exceeds_a_limit_is_lost(returncode: int | None, tmp_path: Path) -> None:
    results = _results(tmp_path, status="0", mark="command")
    for name in ("console", "qemu"):
        (tmp_path / name).write_text("")
    paths = (results, tmp_path / "console", returncode, tmp_path / "qemu", 1.0)
    result = boot_result.read(*paths, excess="the guest left too much")
    assert (result.outcome, result.status) == (LOST, None)
    assert result.reason == "the command never ended: the guest left too much"


def test_qemu_refuses(tmp_path: Path) -> None:
    output = "qemu-system-x86_64: warning: slow\nqemu-system-x86_64: no such CPU\nand more\n"
    result = _read(tmp_path, 1, "", output)
    assert (result.outcome, result.reason) == (COULD_NOT_START, "qemu-system-x86_64: no such CPU")


def test_qemu_dies(tmp_path: Path) -> None:
    result = _read(tmp_path, -11, mark="command")
    assert (result.outcome, result.reason) == (LOST, "the command never ended (QEMU's exit status is -11)")


def test_console_lines_are_printable(tmp_path: Path) -> None:
    (tmp_path / "console").write_bytes(b"\x1b[2Jone\r\r\n\n\xff two\t\n")
    assert boot_result.console_lines(tmp_path / "console") == ["[2Jone", "\N{REPLACEMENT CHARACTER} two"]
