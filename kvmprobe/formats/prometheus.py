"""The report as metrics, for the textfile collector of Prometheus' node_exporter.

Source: Prometheus' documentation, "Exposition formats", text format 0.0.4. Samples have no timestamps, because the
textfile collector refuses them.

Every label except those of kvmprobe_host_info has its values from a closed list (requirements: from that of the command
line), and no series is of a single CPU. What
is unknown has no series, an empty label, or a state of its own; it is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import parse_cpulist
from kvmprobe.model.printable import ascii_only, clean
from kvmprobe.model.times import parse_time
from kvmprobe.model.values import SNAPSHOT_PHASES
from kvmprobe.model.verdict_status import EXIT_STATUS

if TYPE_CHECKING:
    from kvmprobe.model.judgement import Report
    from kvmprobe.model.nested_evidence import Nested

    Sample = tuple[Mapping[str, object], float]

_LONGEST = 128  # characters of a label: evidence may have texts of any length, and each scrape transfers them
_STATES = {True: "set", False: "clear", None: "unknown"}


def render(report: Report) -> str:
    """The metrics, ASCII only. The same report gives the same text."""
    facts = Facts(report["evidence"])
    lines: list[str] = []
    for name, help_text, samples in _metrics(report, facts):
        shown = [f"{name}{_labels(labels)} {value!r}" for labels, value in samples]
        if shown:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge", *shown]
    return "\n".join(lines) + "\n"


def _metrics(report: Report, facts: Facts) -> Iterator[tuple[str, str, Iterable[Sample]]]:
    """The name, the help and the samples of each metric."""
    verdict, evidence = report["verdict"], report["evidence"]
    info = {
        "verdict": verdict["status"],
        "reason": verdict["reason"],
        "version": report["tool"]["version"],
        "schema": report["schema"],
    }
    yield "kvmprobe_verdict_info", "The verdict of the last run and its one reason.", [(info, 1)]
    yield (
        "kvmprobe_verdict",
        "Whether this is the verdict of the last run.",
        [({"verdict": status}, int(status == verdict["status"])) for status in EXIT_STATUS],
    )
    yield (
        "kvmprobe_check_info",
        "The status of each check of the last run: pass, fail, warn, skip or unknown.",
        [({"check": check["id"], "status": check["status"]}, 1) for check in report["checks"]],
    )
    yield (
        "kvmprobe_requirement_info",
        "The answer to each requirement of the last run: met, not-met or unknown.",
        [({"requirement": row["name"], "status": row["status"]}, 1) for row in report.get("requirements", ())],
    )
    yield (
        "kvmprobe_cpus",
        "CPUs that were online, and those that are possible and were offline.",
        [({"state": state}, count) for state, count in _cpus(facts)],
    )
    yield (
        "kvmprobe_svme_cpus",
        "Online CPUs by EFER.SVME before KVM_CREATE_VM, after it, and with the VM closed.",
        [
            ({"phase": phase, **labels}, count)
            for phase in SNAPSHOT_PHASES
            if facts.has_snapshot(phase)
            for labels, count in _count(facts.svme(phase))
        ],
    )
    yield (
        "kvmprobe_svmdis_cpus",
        "Online CPUs by VM_CR.SVMDIS: whether the firmware has disabled SVM.",
        _count(facts.svmdis()),
    )
    yield (
        "kvmprobe_nested_guest_cpus",
        "CPUs by what the guest in the guest did there (--nested), and by its paging.",
        _nested(report["evidence"].get("nested")),
    )
    yield (
        "kvmprobe_sev_info",
        "Whether KVM can run guests of each level of SEV (available, off, unknown), and the cause where it cannot.",
        [
            ({"level": level["level"], "status": level["status"], "cause": level["cause"]}, 1)
            for level in (report["sev"]["levels"] if "sev" in report else ())
        ],
    )
    yield (
        "kvmprobe_run_duration_seconds",
        "How long the last run took.",
        [({}, round(evidence["duration_ms"] / 1000, 4))],
    )
    taken = parse_time(evidence["taken_at"])
    yield (
        "kvmprobe_last_run_timestamp_seconds",
        "When the last run began to take evidence, in seconds since the epoch.",
        [] if taken is None else [({}, taken)],
    )
    yield (
        "kvmprobe_host_info",
        "The host of the last run; mixed: its online CPUs differ.",
        [(_host(facts), 1)],
    )


def _cpus(facts: Facts) -> Iterator[tuple[str, int]]:
    if facts.online_is_known:
        yield "online", len(facts.cpus)
    offline = facts.evidence["cpus"]["offline"]
    try:
        if offline is not None:
            yield "offline", len(parse_cpulist(offline))
    except ValueError:
        pass


def _count(values: Mapping[int, bool | None]) -> list[Sample]:
    """How many CPUs are in each state. All states are present, so that no series comes and goes."""
    states = list(values.values())
    return [({"state": name}, states.count(state)) for state, name in _STATES.items()]


def _nested(nested: Nested | None) -> list[Sample]:
    """How many CPUs there are in each state, by each kind of paging that was tried. Without --nested there are none."""
    if nested is None:
        return []
    from kvmprobe.model.nested_rules import NOT_RUN, PAGING, WORKS, kind_of

    names = {WORKS: "works", NOT_RUN: "not_run"}
    found = {
        paging: [names.get(kind_of(run), "failed") for run in nested["runs"][paging]]
        for paging in PAGING
        if nested["runs"].get(paging)
    }
    states = ("works", "failed", "not_run")
    return [
        ({"paging": paging, "state": state}, of_paging.count(state))
        for paging, of_paging in found.items()
        for state in states
    ]


def _host(facts: Facts) -> dict[str, object]:
    evidence = facts.evidence
    infos = facts.cpuinfos()
    return {
        "host": evidence["host"]["name"],
        "kernel": evidence["kernel"]["release"],
        "hypervisor": facts.hypervisor(),
        "vendor": _one(facts.vendors().values()),
        "model_name": _one(info["model_name"] for info in infos),
        "family": _one(info["cpu_family"] for info in infos),
        "model": _one(info["model"] for info in infos),
        "stepping": _one(info["stepping"] for info in infos),
        "microcode": _one(info["microcode"] for info in infos),
    }


def _one(values: Iterable[str | None]) -> str | None:
    """The value that all CPUs have, "mixed" where they differ, None where it is unknown."""
    different = set(values)
    return "mixed" if len(different) > 1 else next(iter(different), None)


def _labels(labels: Mapping[str, object]) -> str:
    shown = ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def _escape(value: object) -> str:
    """A label's value for its place between quotation marks, in ASCII."""
    text = "" if value is None else ascii_only(clean(str(value)[:_LONGEST]))
    return text.replace("\\", "\\\\").replace('"', '\\"')
