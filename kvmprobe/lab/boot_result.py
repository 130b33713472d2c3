"""The result of a boot, read from the files that init.sh leaves in the share "results", and from the console.

A boot is LOST until the guest's status file proves otherwise. The guest is root in the share, so the files may be
links or pipes, as large as share_quota allows, and their content may be anything. Every file of a guest is read here:
a regular file, never through a link, without waiting, and up to a limit.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.model.printable import clean, cut

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

# The first bytes of each file are read, the last ones, too, of the console's log.
_LIMITS = {"status": 16, "mark": 16, "notes": 16 << 10, "stderr": 1 << 20, "stdout": 16 << 20}
_CONSOLE_LIMIT = 256 << 10
_NOTES = 20  # the most notes
_LONGEST = 500  # characters of a note or a line of the console


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


def read(
    results: Path, console: Path, returncode: int | None, qemu_output: Path, seconds: float, excess: str = ""
) -> BootResult:
    """Returns the result of a boot that has ended.

    `returncode` is QEMU's exit status, None if it was killed. `excess`: why it was killed, "" if by the deadline.
    """
    lines = console_lines(console)
    files = {name: _first_bytes(results / name, limit) for name, limit in _LIMITS.items()}
    texts = {name: content.decode("utf-8", "replace") for name, content in files.items() if name != "stdout"}
    status = texts["status"].strip()
    notes = [cut(clean(line), _LONGEST) for line in texts["notes"].splitlines() or _notes(lines)][:_NOTES]
    qemu_lines = _first_bytes(qemu_output, _CONSOLE_LIMIT).decode("utf-8", "replace").splitlines()
    name, reason = (LOST, f": {excess}") if excess else _outcome(status, returncode, lines, qemu_lines)
    if name in (LOST, TIMED_OUT):
        mark = texts["mark"].strip()
        reached = _REACHED.get("init" if not mark and _STARTED in lines else mark, "the guest left an unknown mark")
        panic = [line[line.index(_PANIC) :] for line in lines if _PANIC in line]
        reason = ": ".join([reached, *notes, *panic[:1]]) + reason
    return BootResult(
        outcome=name,
        reason=reason,
        status=int(status) if name == ANSWERED else None,
        stdout=files["stdout"],
        stderr=texts["stderr"],
        notes=tuple(notes),
        seconds=seconds,
        console=console,
    )


def console_lines(console: Path) -> list[str]:
    """Returns the lines on the console that are not empty, without control characters.

    Of a long log only the beginning and the end, of a long line only the beginning.
    """
    content = _first_bytes(console, _CONSOLE_LIMIT) + b"\n" + _last_bytes(console, _CONSOLE_LIMIT)
    lines = content.decode("utf-8", "replace").replace("\r", "").split("\n")
    cleaned = ("".join(filter(str.isprintable, line[:_LONGEST])).rstrip() for line in lines)
    return [line for line in cleaned if line]


def _outcome(status: str, returncode: int | None, lines: list[str], qemu_lines: list[str]) -> tuple[str, str]:
    if _STATUS.fullmatch(status) and int(status) <= 255:
        return ANSWERED, ""
    if returncode is None:
        return TIMED_OUT, ""
    if returncode == 0:
        return LOST, ""
    errors = [line for line in qemu_lines if line.startswith("qemu") and "warning: " not in line]
    why = errors[-1] if errors else f"QEMU's exit status is {returncode}"
    return (LOST, f" ({why})") if lines else (COULD_NOT_START, why)


def _notes(lines: list[str]) -> list[str]:
    """The problems that init.sh reported before it had the share "results"."""
    return [line[len(_NOTE) :] for line in lines if line.startswith(_NOTE) and line != _STARTED]


def _first_bytes(path: Path, limit: int, after: int = 0) -> bytes:
    """The first bytes `after` an offset of a regular file, at most `limit`; else nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return b""
    with os.fdopen(fd, "rb") as file:
        file.seek(after)
        return file.read(limit)


def _last_bytes(path: Path, limit: int) -> bytes:
    """The last bytes of a file that _first_bytes with the same `limit` leaves out."""
    try:
        size = path.lstat().st_size
    except OSError:
        return b""
    return _first_bytes(path, limit, max(limit, size - limit))
