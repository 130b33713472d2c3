"""The result of a boot, from the files that the guest left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvmprobe.lab import boot_result
from kvmprobe.lab.boot_result import ANSWERED, COULD_NOT_START, LOST, TIMED_OUT, BootResult

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


def test_files_of_a_hostile_guest_are_not_followed(tmp_path: Path) -> None:
    """A guest is root in the share: it can leave a link to a file of the host, or a pipe without a writer."""
    results = _results(tmp_path, status="0")
    (tmp_path / "secret").write_text("secret")
    (results / "stdout").symlink_to(tmp_path / "secret")
    os.mkfifo(results / "stderr")
    (results / "notes").mkdir()
    result = _read(tmp_path, 0)
    assert (result.outcome, result.stdout, result.stderr, result.notes) == (ANSWERED, b"", "", ())


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
