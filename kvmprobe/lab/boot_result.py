"""The result of a boot, read from the files that init.sh leaves in the share "results", and from the console.

A boot is LOST until the guest's status file proves otherwise. The guest is root in the share, so the files may be
links or pipes, and their content may be anything.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.model.printable import clean

ANSWERED = "answered"  # the command ended and its exit status is known
LOST = "lost"  # the guest ended without an exit status
TIMED_OUT = "timed out"  # the deadline ended the guest
COULD_NOT_START = "could not start"  # QEMU refused

# By the content of the file `mark`: init.sh writes there which part it begins.
_REACHED = {
    "": "the kernel never reached init",
    "init": "init could not build the guest's root",
    "prepare": "the preparation never ended",
    "command": "the command never ended",
}
_NOTE = "kvmprobe-lab: "  # the prefix of init.sh's lines on the console
_STARTED = _NOTE + "init"
_PANIC = "Kernel panic - "
_STATUS = re.compile(r"[0-9]{1,3}")
_LIMIT = 256 << 20  # bytes; a report of 1,024 CPUs has about 1 MiB


@dataclass(frozen=True)
class BootResult:
    """The result of a boot.

    `outcome` is ANSWERED, LOST, TIMED_OUT or COULD_NOT_START; `reason` is why it is not ANSWERED. `status` is the
    command's exit status, None unless ANSWERED. `notes` are the problems that init.sh found. `seconds` is how long the
    boot took, `console` the console's log.
    """

    outcome: str
    reason: str
    status: int | None
    stdout: bytes
    stderr: str
    notes: tuple[str, ...]
    seconds: float
    console: Path


def read(results: Path, console: Path, returncode: int | None, qemu_output: Path, seconds: float) -> BootResult:
    """Returns the result of a boot that has ended. `returncode` is QEMU's exit status, None after the deadline."""
    lines = console_lines(console)
    status = _text(results / "status").strip()
    notes = list(map(clean, _text(results / "notes").splitlines())) or _notes(lines)
    name, reason = _outcome(status, returncode, lines, _text(qemu_output))
    if name in (LOST, TIMED_OUT):
        mark = _text(results / "mark").strip()
        reached = _REACHED.get("init" if not mark and _STARTED in lines else mark, "the guest left an unknown mark")
        panic = [line[line.index(_PANIC) :] for line in lines if _PANIC in line]
        reason = ": ".join([reached, *notes, *panic[:1]]) + reason
    return BootResult(
        outcome=name,
        reason=reason,
        status=int(status) if name == ANSWERED else None,
        stdout=_bytes(results / "stdout"),
        stderr=_text(results / "stderr"),
        notes=tuple(notes),
        seconds=seconds,
        console=console,
    )


def console_lines(console: Path) -> list[str]:
    """Returns the lines on the console that are not empty, without control characters."""
    lines = _text(console).replace("\r", "").split("\n")
    return [line for line in ("".join(filter(str.isprintable, line)).rstrip() for line in lines) if line]


def _outcome(status: str, returncode: int | None, lines: list[str], qemu_output: str) -> tuple[str, str]:
    if _STATUS.fullmatch(status) and int(status) <= 255:
        return ANSWERED, ""
    if returncode is None:
        return TIMED_OUT, ""
    if returncode == 0:
        return LOST, ""
    errors = [line for line in qemu_output.splitlines() if line.startswith("qemu") and "warning: " not in line]
    why = errors[-1] if errors else f"QEMU's exit status is {returncode}"
    return (LOST, f" ({why})") if lines else (COULD_NOT_START, why)


def _notes(lines: list[str]) -> list[str]:
    """The problems that init.sh reported before it had the share "results"."""
    return [line[len(_NOTE) :] for line in lines if line.startswith(_NOTE) and line != _STARTED]


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path: Path) -> bytes:
    """The content of a regular file, else nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(_LIMIT)
