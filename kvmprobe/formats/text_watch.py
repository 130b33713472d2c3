"""The section of the text report about a watched command: its calls of KVM in their order, and its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.checks.watched_command import ending
from kvmprobe.model.cpu_lists import fold
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Reading, Watch, WatchedCall


def section(watch: Watch) -> Iterator[str]:
    """Lines: who, what call with what answer, EFER before and after it."""
    if watch["command"] is not None:
        what = shlex.join(watch["command"])
    else:
        what = "kvmprobe's own guest" if watch["own"] else "a running process"
    yield f"watched by {watch['source']}: {what}"
    rows = [_row(call) for call in watch["calls"]]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    yield f"  process {watch['pid']}: {ending(watch)}; {watch['processes']} followed in all"
    for limit in watch["limits"]:
        yield f"  limit: {limit}"


def _row(call: WatchedCall) -> tuple[str, str, str]:
    thread = f" thread {call['tid']}" if call["tid"] != call["pid"] else ""
    answer = "no answer" if call["answer"] is None else error_of(call["answer"]) or call["answer"]
    entry = fold(_efer(call["entry"]))
    after = "unknown" if call["exit"] is None else fold(_efer(call["exit"]))
    return (
        f"{call['comm'] or '?'}[{call['pid']}]{thread}",
        f"{call['name']} ({call['request']}) = {answer}",
        f"EFER {entry}" if entry == after else f"EFER {entry} → {after}",
    )


def _efer(seen: dict[str, dict[str, Reading]]) -> dict[int, object]:
    return {int(cpu): error_of(registers["EFER"]) or registers["EFER"] for cpu, registers in seen.items()}
