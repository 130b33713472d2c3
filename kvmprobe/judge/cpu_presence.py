"""Which CPUs were there, and when: by the lists of online CPUs and by the snapshots, in the order of their time."""

from __future__ import annotations

from kvmprobe import TYPE_CHECKING
from kvmprobe.model.cpu_lists import parse_cpulist
from kvmprobe.model.values import SNAPSHOT_PHASES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from kvmprobe.model.evidence import Evidence, Reading, Snapshot


def by_phase(snapshots: list[Snapshot]) -> dict[str, dict[str, dict[str, Reading]]]:
    """The registers by phase and CPU. Where a file has several snapshots of one phase, what differs is unknown."""
    found: dict[str, dict[str, dict[str, Reading]]] = {}
    for snapshot in snapshots:
        phase = found.setdefault(snapshot["phase"], {})
        for cpu, registers in snapshot["cpus"].items():
            earlier = phase.get(cpu, registers)
            phase[cpu] = {name: value if earlier.get(name) == value else None for name, value in registers.items()}
    return found


class CpuPresence:
    """`cpus`: every CPU that the evidence names, ascending. `came_or_went`: those of them that some list lacks.

    `there`: by phase, the CPUs that were there when its snapshot was taken. A CPU that is named before and after a
    snapshot counts as there: where the snapshot lacks it, it was not read. So no missing line of evidence excuses a
    CPU.
    """

    def __init__(self, evidence: Evidence, snapshots: Mapping[str, Collection[str]]) -> None:
        online = evidence["cpus"]["online"]
        moments = [("online", set(parse_cpulist(online)))] if online else []
        moments += [(phase, set(map(int, snapshots[phase]))) for phase in SNAPSHOT_PHASES if phase in snapshots]
        at_end = evidence["cpus"]["online_at_end"] or online
        moments += [("at end", set(parse_cpulist(at_end)))] if at_end else []
        ran = {run["cpu"] for run in evidence["guest"] if run["result"] != "skipped"}
        lists = [cpus | ran if moment == "created" else cpus for moment, cpus in moments]
        every = ran.union(*lists)
        self.cpus = sorted(every)
        self.came_or_went = sorted(cpu for cpu in every if not all(cpu in cpus for cpus in lists))
        self.there = {
            moment: sorted(lists[index] | (set().union(*lists[:index]) & set().union(*lists[index + 1 :])))
            for index, (moment, _) in enumerate(moments)
        }
