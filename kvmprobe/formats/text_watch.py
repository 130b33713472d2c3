"""The section of the text report about a watched command: its KVM calls in their order, and how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.judge.checks.watched_command import ending
from kvmprobe.model.cpu_lists import fold
from kvmprobe.model.printable import columns, counted
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Watch, WatchedCall
    from kvmprobe.model.evidence import Reading


def section(watch: Watch) -> Iterator[Line]:
    """What was watched, each call with its answer and EFER before and after it, the end, and what was not visible."""
    if watch["command"] is not None:
        what = shlex.join(watch["command"])
    else:
        what = "kvmprobe's own guest" if watch["own"] else "a running process"
    yield heading(f"Watched by {watch['source']}: {what}")
    for row in columns([_row(call) for call in watch["calls"]]):
        yield Line(f"  {row}", hang=4)
    yield Line(f"  process {watch['pid']}: {ending(watch)}; {counted(watch['processes'], 'process')} followed", hang=4)
    for limit in watch["limits"]:
        yield Line(f"  not visible: {limit}", hang=4)


def _row(call: WatchedCall) -> tuple[str, str, str]:
    thread = f" thread {call['tid']}" if call["tid"] != call["pid"] else ""
    answer = "no answer" if call["answer"] is None else error_of(call["answer"]) or call["answer"]
    entry = fold(_efer(call["entry"]))
    after = "unknown" if call["exit"] is None else fold(_efer(call["exit"]))
    return (
        f"{call['comm'] or '?'}[{call['pid']}]{thread}",
        f"{call['name']} ({call['request']}) = {answer}{_exit_reason(call)}",
        f"EFER {entry}" if entry == after else f"EFER {entry} -> {after}",
    )


def _exit_reason(call: WatchedCall) -> str:
    reason = call.get("exit_reason")
    return f" ({reason})" if reason else ""


def _efer(seen: dict[str, dict[str, Reading]]) -> dict[int, object]:
    return {int(cpu): error_of(registers["EFER"]) or registers["EFER"] for cpu, registers in seen.items()}
