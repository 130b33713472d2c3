"""What came of a boot: read from the files that init.sh left in the results share, and from the console.

A boot is lost until the guest's status file proves otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ANSWERED = "answered"  # the command ended, and its exit status is known
LOST = "lost"  # the guest ended without an answer
TIMED_OUT = "timed out"
COULD_NOT_START = "could not start"  # QEMU refused

# By what is in the file `mark`.
_HOW_FAR = {
    "": "the kernel never reached init",
    "init": "init could not build the guest's root",
    "prepare": "the preparation never ended",
    "command": "the command never ended",
}
_NOTE = "kvmprobe-lab: "  # how init.sh's lines on the console begin
_STARTED = _NOTE + "init"
_PANIC = "Kernel panic - "


@dataclass(frozen=True)
class BootResult:
    """What came of a boot.

    `outcome` is ANSWERED, LOST, TIMED_OUT or COULD_NOT_START, and `reason` says why it is not ANSWERED. `status` is the
    command's exit status, None unless ANSWERED. `notes` is what init.sh found wrong. `console` is the console's log.
    """

    outcome: str
    reason: str
    status: int | None
    stdout: bytes
    stderr: str
    notes: tuple[str, ...]
    seconds: float
    console: Path


def read(results: Path, console: Path, returncode: int | None, said: Path, seconds: float) -> BootResult:
    """The result of a boot that has ended. `returncode` is QEMU's, None at the deadline; `said` is what QEMU said."""
    lines = console_lines(console)
    status = _text(results / "status").strip()
    notes = _text(results / "notes").splitlines() or _notes(lines)
    name, reason = _outcome(status, returncode, lines, _text(said))
    if name in (LOST, TIMED_OUT):
        mark = _text(results / "mark").strip()
        how_far = _HOW_FAR["init" if not mark and _STARTED in lines else mark]
        panic = [line[line.index(_PANIC) :] for line in lines if _PANIC in line]
        reason = ": ".join([how_far, *notes, *panic[:1]]) + reason
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
    """The lines on the console that are not empty, without control characters."""
    lines = _text(console).replace("\r", "").split("\n")
    return [line for line in ("".join(filter(str.isprintable, line)).rstrip() for line in lines) if line]


def _outcome(status: str, returncode: int | None, lines: list[str], said: str) -> tuple[str, str]:
    if status.isdecimal():
        return ANSWERED, ""
    if returncode is None:
        return TIMED_OUT, ""
    if returncode == 0:
        return LOST, ""
    complaints = [line for line in said.splitlines() if line.startswith("qemu") and "warning: " not in line]
    why = complaints[-1] if complaints else f"QEMU's exit status is {returncode}"
    return (LOST, f" ({why})") if lines else (COULD_NOT_START, why)


def _notes(lines: list[str]) -> list[str]:
    """What init.sh said before it had the results share."""
    return [line[len(_NOTE) :] for line in lines if line.startswith(_NOTE) and line != _STARTED]


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _bytes(path: Path) -> bytes:
    """A file that may have been left, else nothing."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
