"""The report for people. It answers first: the verdict, what shows it, what to do; then come registers and checks.

Volumes: -1 the verdict and what to do in two lines; 0 what fits a terminal of 80x24: the checks that did not pass; 1
every check, each feature of kvm_amd, and what trace, watch and soak recorded; 2 every CPU and all other evidence, too.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvmprobe import TYPE_CHECKING
from kvmprobe.formats import hint_steps, text_checks, text_registers
from kvmprobe.formats.text_lines import Line, heading, packed, rendered
from kvmprobe.judge.facts import Facts
from kvmprobe.model.cpu_lists import format_cpulist
from kvmprobe.model.printable import BOLD, COLOURS, columns, counted, joined, one_line
from kvmprobe.model.registers import hypervisor_name

if TYPE_CHECKING:
    from kvmprobe.model.evidence import Evidence
    from kvmprobe.model.judgement import Report

QUIET, ALL_CHECKS, EVERYTHING = -1, 1, 2
_NOTHING_TO_DO = "Nothing to do"  # how the hint of a good verdict begins


def render(report: Report, verbose: int = 0, colour: bool = False, width: int | None = None) -> str:
    """The text report in the volume `verbose`, in colour or not.

    `width`: of the terminal in columns, at which lines are wrapped between words; None: lines are not wrapped.
    """
    if verbose <= QUIET:
        hint = _hint(report)
        title = "" if hint.startswith(_NOTHING_TO_DO) else "What to do: "
        lines = [next(_verdict(report)), Line(f"{title}{hint}")]
        return joined(rendered(lines, colour, width))
    sections = (list(section) for section in _sections(report, verbose))
    texts = [joined(rendered(section, colour, width)) for section in sections if section]
    return "\n".join(texts)


def _sections(report: Report, verbose: int) -> Iterator[Iterator[Line]]:
    facts = Facts(report["evidence"])
    brief, every_cpu = verbose < ALL_CHECKS, verbose >= EVERYTHING
    applicable = report["verdict"]["status"] != "not applicable"
    yield _verdict(report)
    yield _what_to_do(report)
    yield from _observers(report["evidence"], brief, every_cpu)
    registers = text_registers.brief if brief else text_registers.table
    host = [*_host(facts), *(registers(facts, every_cpu) if applicable or every_cpu else ())]
    if brief:
        checks = text_checks.unpassed(report) if applicable else _without_svm(report, facts)
        yield from _sev(report, brief)
        yield iter([*host, *checks, *_requirements(report, brief)])
        return
    yield iter(host)
    yield text_checks.tree(report, facts)
    yield from _sev(report, brief)
    yield _requirements(report, brief)
    if applicable:
        from kvmprobe.formats import text_features

        yield text_features.table(facts)
    if every_cpu:
        from kvmprobe.formats import text_evidence

        yield text_evidence.everything(report["evidence"])


def _verdict(report: Report) -> Iterator[Line]:
    """The verdict; its cause, and the values and log lines that show it, unless the verdict quotes them already.

    Reports by earlier versions do not have cause and values.
    """
    verdict = report["verdict"]
    status = verdict["status"].upper()
    summary = one_line(verdict["summary"])
    yield Line(
        f"{status} {verdict['reason']}: {summary}", painted=len(status), colour=BOLD + COLOURS[verdict["status"]]
    )
    cause = verdict.get("cause")
    because = [value for value in map(one_line, verdict.get("because") or ()) if value not in summary]
    if because:
        yield packed(f"Because (cause: {cause}):" if cause else "Because:", because)
    elif cause:
        yield heading(f"Cause: {cause}")


def _what_to_do(report: Report) -> Iterator[Line]:
    yield heading("What to do:")
    numbered = report["verdict"]["status"] in ("failed", "inconclusive")
    for indent, text in hint_steps.lines(_hint(report), numbered):
        yield Line(f"{indent}{text}", len(indent))


def _hint(report: Report) -> str:
    return one_line(report["verdict"]["hint"], " ")


def _host(facts: Facts) -> Iterator[Line]:
    evidence = facts.evidence
    info = facts.first_cpuinfo()
    model = f"{info['model_name']}, family {info['cpu_family']} model {info['model']}" if info else "CPU model unknown"
    offline = evidence["cpus"]["offline"]
    outer = facts.hypervisor()
    about = [f"{evidence['host']['name']}: Linux {evidence['kernel']['release']}, {evidence['taken_at']}", model]
    cpus = f"{counted(len(facts.cpus), 'CPU')} online ({format_cpulist(facts.cpus)})" if facts.cpus else "no CPU found"
    about.append(cpus if facts.online_is_known else f"{cpus}, whether there are more is unknown")
    about += [f"{offline} offline"] if offline else []
    about += [f"in a VM under {hypervisor_name(outer)}"] if outer else []
    yield Line("; ".join(about))


def _without_svm(report: Report, facts: Facts) -> Iterator[Line]:
    """Of a host without SVM all that matters: whose CPU it is, and what answers at /dev/kvm."""
    from kvmprobe.formats.vendor_and_backend import backend, vendor

    yield from map(Line, columns([["CPU vendor", vendor(facts)], ["KVM backend", backend(facts)]]))
    yield from text_checks.asked_for(report)
    yield Line("All checks of SVM are skipped; -v shows each.")


def _requirements(report: Report, brief: bool) -> Iterator[Line]:
    """What --require asked, where it was given."""
    if "requirements" in report:
        from kvmprobe.formats import text_requirements

        yield from text_requirements.brief(report) if brief else text_requirements.every(report)


def _sev(report: Report, brief: bool) -> Iterator[Iterator[Line]]:
    """What --sev adds."""
    if "sev" in report:
        from kvmprobe.formats import text_sev

        yield text_sev.section(report["sev"], brief)


def _observers(evidence: Evidence, brief: bool, every_cpu: bool) -> Iterator[Iterator[Line]]:
    """What trace, watch and soak add."""
    if "trace" in evidence:
        from kvmprobe.formats import text_trace

        yield from [text_trace.brief(evidence["trace"])] if brief else text_trace.sections(evidence["trace"], every_cpu)
    if "watch" in evidence:
        from kvmprobe.formats import text_watch

        yield text_watch.brief(evidence["watch"]) if brief else text_watch.section(evidence["watch"])
    if "soak" in evidence:
        from kvmprobe.formats import text_soak

        yield text_soak.section(evidence["soak"], brief)
