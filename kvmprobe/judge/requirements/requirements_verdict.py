"""The answers of requirements in a report, and the verdict that follows from them."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import UNKNOWN
from kvmprobe.judge.requirements.requirement import NOT_MET
from kvmprobe.model.printable import counted
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import GOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kvmprobe.judge.facts import Facts
    from kvmprobe.judge.requirements.requirement import Requirement
    from kvmprobe.model.judgement import RequirementReport, Verdict


def answers(facts: Facts, requirements: Iterable[Requirement]) -> list[RequirementReport]:
    """The answer of each requirement, as a report has it, in their order."""
    found: list[RequirementReport] = []
    for requirement in requirements:
        answer = requirement.ask(facts)
        found.append(
            {"name": requirement.name, "status": answer.status, "message": answer.message, "hint": answer.hint}
        )
    return found


def verdict_with(verdict: Verdict, rows: Sequence[RequirementReport]) -> Verdict:
    """The verdict of a report with these answers.

    It stays good only where every requirement is met. A failed verdict stays, and so does "not applicable": its exit
    status is never 0. An inconclusive one stays unless a requirement is not met, which is certain.
    """
    not_met = [row for row in rows if row["status"] == NOT_MET]
    unknown = [row for row in rows if row["status"] == UNKNOWN]
    if not_met and verdict["status"] in (*GOOD, "inconclusive"):
        return _verdict("requirement-not-met", not_met, len(rows), "not met")
    if unknown and verdict["status"] in GOOD:
        return _verdict("requirement-unknown", unknown, len(rows), "unknown")
    return verdict


def _verdict(reason: str, rows: Sequence[RequirementReport], total: int, what: str) -> Verdict:
    """The verdict that these of `total` answers decide."""
    texts = [f"{row['name']}: {row['message']}" for row in rows]
    if len(rows) == 1:
        summary = f"the requirement {rows[0]['name']} is {what}: {rows[0]['message']}"
    else:
        names = ", ".join(row["name"] for row in rows)
        summary = f"{len(rows)} of {counted(total, 'requirement')} are {what}: {names}"
    return {
        "status": REASONS[reason].status,
        "reason": reason,
        "cause": None,
        "summary": summary,
        "because": texts if len(rows) > 1 else [],
        "hint": what_to_do(rows) or REASONS[reason].hint,
    }


def what_to_do(rows: Iterable[RequirementReport]) -> str:
    """The hints of all answers that have one, as one hint; "" where none has. Where there are several, each begins with
    the names of its requirements: "For avic: ..."."""
    names: dict[str, list[str]] = {}
    hinted = [row for row in rows if row["hint"]]
    for row in hinted:
        names.setdefault(str(row["hint"]), []).append(row["name"])
    if len(hinted) == 1:
        return str(hinted[0]["hint"])
    return " ".join(f"For {', '.join(found)}: {hint}" for hint, found in names.items())
