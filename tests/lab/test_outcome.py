"""What is said of a boot, by the files it left."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmprobe.lab import outcome
from kvmprobe.lab.outcome import ANSWERED, COULD_NOT_START, LOST, TIMED_OUT, BootResult

_STARTED = "kvmprobe-lab: init\r\n"


def _read(folder: Path, returncode: int | None, console: str = _STARTED, said: str = "", **files: str) -> BootResult:
    results = folder / "results"
    results.mkdir()
    for name, content in files.items():
        (results / name).write_text(content)
    (folder / "console").write_text(console)
    (folder / "said").write_text(said)
    return outcome.read(results, folder / "console", returncode, folder / "said", 1.0)


@pytest.mark.parametrize("returncode", [0, 1, None])
def test_the_status_file_is_the_answer(returncode: int | None, tmp_path: Path) -> None:
    result = _read(tmp_path, returncode, status="4\n", stdout="{}", stderr="hello", mark="command", notes="a\nb\n")
    assert (result.outcome, result.status, result.reason) == (ANSWERED, 4, "")
    assert (result.stdout, result.stderr, result.notes) == (b"{}", "hello", ("a", "b"))


@pytest.mark.parametrize("status", ["", "x", "-1", "0x0"])
def test_no_status_no_answer(status: str, tmp_path: Path) -> None:
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
    ],
)
def test_how_far_it_came(console: str, files: dict[str, str], reason: str, tmp_path: Path) -> None:
    result = _read(tmp_path, None, console, **files)
    assert (result.outcome, result.reason) == (TIMED_OUT, reason)


def test_qemu_refuses(tmp_path: Path) -> None:
    said = "qemu-system-x86_64: warning: odd\nqemu-system-x86_64: no such CPU\nand more\n"
    result = _read(tmp_path, 1, "", said)
    assert (result.outcome, result.reason) == (COULD_NOT_START, "qemu-system-x86_64: no such CPU")


def test_qemu_dies(tmp_path: Path) -> None:
    result = _read(tmp_path, -11, mark="command")
    assert (result.outcome, result.reason) == (LOST, "the command never ended (QEMU's exit status is -11)")


def test_the_console_is_printable(tmp_path: Path) -> None:
    (tmp_path / "console").write_bytes(b"\x1b[2Jone\r\r\n\n\xff two\t\n")
    assert outcome.console_lines(tmp_path / "console") == ["[2Jone", "\N{REPLACEMENT CHARACTER} two"]
