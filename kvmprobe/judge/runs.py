"""What the evidence shows of guests that ran: kvmprobe's own on each CPU, or a watched command's."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.model.values import GUEST_RAN_EXITS

if TYPE_CHECKING:
    from kvmprobe.model.command_evidence import WatchedCall
    from kvmprobe.model.evidence import GuestRun


def runs_by_cpu(facts: Facts) -> dict[int, GuestRun]:
    """By CPU, also those that came or went. Of several runs on a CPU one that failed counts, else one that ran."""
    order = ("skipped", "ok")
    found: dict[int, GuestRun] = {}
    for run in facts.evidence["guest"]:
        rank = order.index(run["result"]) if run["result"] in order else len(order)
        earlier = found.get(run["cpu"])
        if earlier is None or (earlier["result"] in order[:rank]):
            found[run["cpu"]] = run
    return dict(sorted(found.items()))


def observed_run(facts: Facts) -> str | None:
    """The first KVM_RUN of a watched command in which its guest ran, for people; None without one."""
    return next((text for call, text in _watched_runs(facts) if call.get("exit_reason") in GUEST_RAN_EXITS), None)


def other_runs(facts: Facts) -> list[str]:
    """The KVM_RUN of a watched command that succeeded and do not show that its guest ran, for people."""
    return [text for call, text in _watched_runs(facts) if call.get("exit_reason") not in GUEST_RAN_EXITS]


def _watched_runs(facts: Facts) -> Iterator[tuple[WatchedCall, str]]:
    for call in facts.watch["calls"] if facts.watch else ():
        if call["name"] == "KVM_RUN" and isinstance(call["answer"], int):
            thread = f", thread {call['tid']}" if call["tid"] != call["pid"] else ""
            exit = call.get("exit_reason") or "exit reason unknown"
            yield call, f"KVM_RUN = {call['answer']} ({exit}) in {call['comm'] or '?'}[{call['pid']}]{thread}"
