"""The report for people: the checks as a tree in the kernel's order, the registers as a table, the verdict last."""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import cpu_names, format_cpulist, group
from kvmprobe.model.printable import clean
from kvmprobe.model.registers import SNAPSHOT_REGISTERS, VM_HSAVE_PA
from kvmprobe.model.values import SNAPSHOT_PHASES, error_of

if TYPE_CHECKING:
    from typing import Any

    from kvmprobe.model.judgement import Report


_GREEN, _RED, _YELLOW, _CYAN, _BOLD, _OFF = "\033[32m", "\033[31m", "\033[33m", "\033[36m", "\033[1m", "\033[0m"
_COLOURS = {"pass": _GREEN, "fail": _RED, "warn": _YELLOW, "unknown": _YELLOW, "skip": _CYAN}
_VERDICT_COLOURS = {"confirmed": _GREEN, "failed": _RED, "inconclusive": _YELLOW, "not applicable": _CYAN}


def render(report: Report, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
    """The text report. `verbose`: -1 the verdict line alone, 0 CPUs folded, 1 every CPU and all that was seen."""
    paint = _paint if colour else _plain
    verdict = report["verdict"]
    line = (
        f"{paint(verdict['status'].upper(), _BOLD + _VERDICT_COLOURS[verdict['status']])} "
        f"{clean(verdict['reason'])}: {clean(verdict['summary'])}"
    )
    if verbose < 0:
        return line + "\n"
    facts = Facts(report["evidence"])
    lines = [*_head(facts), "", *_tree(report, facts, paint), ""]
    lines += map(clean, _of_others(facts, verbose))
    lines += _table(facts, verbose)
    if verbose > 0:
        lines += [*_everything(facts), ""]
    lines += [line, f"  what to do: {clean(verdict['hint'])}"]
    return "\n".join(lines) + "\n"


def _of_others(facts: Facts, verbose: int) -> Iterator[str]:
    """What commands other than check add."""
    evidence = facts.evidence
    if "trace" in evidence:
        from kvmprobe.formats import text_trace

        yield from text_trace.lines(evidence["trace"], verbose)
    if "watch" in evidence:
        from kvmprobe.formats import text_watch

        yield from (*text_watch.section(evidence["watch"]), "")
    if "soak" in evidence:
        from kvmprobe.formats import text_soak

        yield from text_soak.lines(evidence["soak"])


def _paint(text: str, colour: str) -> str:
    return f"{colour}{text}{_OFF}"


def _plain(text: str, _: str) -> str:
    return text


def _head(facts: Facts) -> Iterator[str]:
    evidence = facts.evidence
    info = facts.first_cpuinfo()
    model = f"{info['model_name']}, family {info['cpu_family']} model {info['model']}" if info else "CPU unknown"
    offline = evidence["cpus"]["offline"]
    outer = facts.hypervisor()
    yield clean(f"{evidence['host']['name']}: Linux {evidence['kernel']['release']}, {evidence['taken_at']}")
    yield clean(
        f"{model}; {len(facts.cpus)} CPUs online ({format_cpulist(facts.cpus)})"
        + (f", offline {offline}" if offline else "")
        + (f", a VM under {outer}" if outer else "")
    )


def _tree(report: Report, facts: Facts, paint: Any) -> Iterator[str]:
    by_id = {check["id"]: check for check in report["checks"]}
    depth: dict[str | None, int] = {None: -1}
    for check in CHECKS:
        depth[check.id] = depth[check.parent] + 1
        found = by_id.get(check.id)
        if found is None:
            continue
        status = found["status"]
        function = check.function if facts.enables_at_load() is None else check.since_at_load
        mark = paint(f"[{status.upper():^7}]", _COLOURS[status])
        yield f"{mark} {'  ' * depth[check.id]}{function} - {check.title}: {clean(found['message'])}"


def _table(facts: Facts, verbose: int) -> Iterator[str]:
    """Register by register: before, created, closed; CPUs with the same row fold into one."""
    phases = [phase for phase in SNAPSHOT_PHASES if facts.has_snapshot(phase)]
    if not phases:
        return
    rows = [["", "", *phases]]
    for register in SNAPSHOT_REGISTERS:
        values = {phase: facts.register_texts(phase, register.name) for phase in phases}
        if register is VM_HSAVE_PA and verbose <= 0:
            values = {phase: _pages(shown) for phase, shown in values.items()}
        by_cpu = {cpu: tuple(values[phase][cpu] for phase in phases) for cpu in facts.cpus}
        if verbose > 0:
            rows += [[register.name, f"cpu{cpu}", *row] for cpu, row in by_cpu.items()]
        else:
            rows += [[register.name, cpu_names(cpus), *row] for row, cpus in group(by_cpu).items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield clean("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    yield ""


def _pages(shown: dict[int, str]) -> dict[int, str]:
    """Each CPU has a page of its own: of interest is only whether it has one."""
    pages = [value for value in shown.values() if value.startswith("0x") and value != "0x0"]
    if len(set(pages)) < len(pages):
        return shown  # two CPUs with one page: a defect to be seen
    return {cpu: "a page each" if value in pages else value for cpu, value in shown.items()}


def _everything(facts: Facts) -> Iterator[str]:
    """What -v adds: answers, guests, uevents, modules, log."""
    evidence = facts.evidence
    for name, answer in evidence["ioctls"]["KVM_CHECK_EXTENSION"].items():
        yield clean(f"{name} = {error_of(answer) or answer}")
    for run in evidence["guest"]:
        yield clean(f"guest on cpu{run['cpu']}: {run['result']}, {run['detail']} {run['error'] or ''}".rstrip())
    for name, module in facts.modules.items():
        shown = " ".join(f"{parameter}={error_of(value) or value}" for parameter, value in module["parameters"].items())
        yield clean(f"module {name}: {module['state']}, {module['refcount']} users {shown}".rstrip())
    for load in evidence["loads"]:
        yield clean(f"modprobe {load['module']}: {load['status']} {load['output']}".rstrip())
    uevents = evidence["uevents"]
    yield clean(f"uevents: {uevents['error'] or uevents['source']}")
    for event in uevents["events"]:
        yield clean(f"  {event['event']} by {event['comm']}[{event['pid']}], {event['count']} VMs alive")
    for user in evidence["vm_users"] or ():
        yield clean(f"VMs held by {user['comm']}[{user['pid']}]: {user['vms']}")
    log = evidence["log"]
    if log["error"]:
        yield clean(f"kernel log: {log['error']}")
    for line in log["lines"]:
        yield clean(f"[{line['seconds']:12.6f}] {line['text']}")
