"""The section of the text report about a watched command: its KVM calls in their order, and how it ended."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats.text_lines import Line, heading
from kvmprobe.judge.checks.watched_command import ending
from kvmprobe.model.cpu_lists import fold
from kvmprobe.model.printable import columns, counted, cut, process_text
from kvmprobe.model.values import error_of

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import Watch, WatchedCall
    from kvmprobe.model.evidence import Reading


_LONGEST, _WIDTH = 4, 80  # calls that a brief section names; columns of the command in it


def brief(watch: Watch) -> Iterator[Line]:
    """What was watched, its first calls with their answers, and how it ended."""
    yield heading(cut(_title(watch, " (-v shows each call)"), _WIDTH, "..."))
    calls = [f"{call['name']} = {_answer(call)}" for call in watch["calls"]]
    more = [counted(len(calls) - _LONGEST, "more call")] if len(calls) > _LONGEST else []
    yield Line(f"  {', '.join([*calls[:_LONGEST], *more])}{'; ' if calls else ''}{ending(watch)}", hang=4)


def section(watch: Watch) -> Iterator[Line]:
    """What was watched, each call with its answer and EFER before and after it, the end, and what was not visible."""
    yield heading(_title(watch))
    for row in columns([_row(call) for call in watch["calls"]]):
        yield Line(f"  {row}", hang=4)
    followed = counted(watch["processes"], "process")
    yield Line(f"  process {watch['pid']}: {ending(watch)}; {followed} followed", hang=4)
    for limit in watch["limits"]:
        yield Line(f"  not visible: {limit}", hang=4)


def _title(watch: Watch, note: str = "") -> str:
    if watch["command"] is not None:
        what = shlex.join(watch["command"])
    else:
        what = "kvmprobe's own guest" if watch["own"] else "a running process"
    return f"Watched by {watch['source']}{note}: {what}"


def _answer(call: WatchedCall) -> str:
    return "no answer" if call["answer"] is None else error_of(call["answer"]) or str(call["answer"])


def _row(call: WatchedCall) -> tuple[str, str, str]:
    thread = f" thread {call['tid']}" if call["tid"] != call["pid"] else ""
    entry = fold(_efer(call["entry"]))
    after = "unknown" if call["exit"] is None else fold(_efer(call["exit"]))
    return (
        process_text(call["comm"], call["pid"]) + thread,
        f"{call['name']} ({call['request']}) = {_answer(call)}{_exit_reason(call)}",
        f"EFER {entry}" if entry == after else f"EFER {entry} -> {after}",
    )


def _exit_reason(call: WatchedCall) -> str:
    reason = call.get("exit_reason")
    return f" ({reason})" if reason else ""


def _efer(seen: dict[str, dict[str, Reading]]) -> dict[int, object]:
    return {int(cpu): error_of(registers["EFER"]) or registers["EFER"] for cpu, registers in seen.items()}
