"""A feature file for node-feature-discovery's "local" source: NAME=VALUE lines below a time of expiry.

Source: NFD's customization guide, "Local feature source" (expiry since 0.14, "# +no-label" since 0.15).

A line is a node label and a feature for rules; after "# +no-label" it is a feature alone. NFD drops a label whose value
is not valid in Kubernetes (63 characters of [A-Za-z0-9._-], alphanumeric at both ends). So values are reasons, numbers,
"true" and "false", never text from the evidence: nothing has to be shortened or replaced, and no two values become one.
What is unknown is left out. What changes from run to run (times) is in comments, because each change of a feature makes
every node write to the API server.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator, Mapping

from kvmprobe import TYPE_CHECKING
from kvmprobe.judge.check_result import FAIL, PASS, SKIP, UNKNOWN, WARN
from kvmprobe.judge.facts import Facts
from kvmprobe.judge.features import features_of
from kvmprobe.judge.features.feature_evidence import has_set_up
from kvmprobe.model.errors import DataProblem
from kvmprobe.model.printable import ascii_only, clean, cut
from kvmprobe.model.registers import CPUID_BITS, CpuidBit

if TYPE_CHECKING:
    from typing import Union

    from kvmprobe.model.judgement import Report

    Value = Union[str, int, None]

PREFIX = "feature.node.kubernetes.io/kvmprobe."

# Hours after the probe, not after the judgement. A daily run may be two hours late; without a run the labels expire.
VALID_H = 26

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_PLAIN_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST = 200  # characters of a comment; NFD ignores a file larger than 64 KiB
_RAN = {PASS: True, WARN: True, FAIL: False}  # by the status of the check nested: a warning is of some CPUs only
_READY = {"confirmed": True, "usable": True, "failed": False}  # by verdict; others are left to other sources


def render(report: Report) -> str:
    """The file, ASCII only. Raises DataProblem where the report has no valid time: features need one to expire."""
    facts = Facts(report["evidence"])
    lines = [f"# +expiry-time={_expiry(report['evidence']['taken_at'])}", *_comments(report)]
    lines += _lines(_labels(report, facts), "")
    lines += _lines(_features(report, facts), "# +no-label\n")
    return "".join(f"{line}\n" for line in lines)


def _expiry(taken_at: str) -> str:
    """NFD takes a file without a valid time of expiry as one that never expires, so this raises DataProblem."""
    try:
        if not _TIME.fullmatch(taken_at):
            raise ValueError
        # RFC 3339's "Z" is no ISO format to Python before 3.11.
        end = datetime.datetime.fromisoformat(taken_at[:-1]) + datetime.timedelta(hours=VALID_H)
    except (ValueError, OverflowError):
        message = f"evidence.taken_at is not a time: {taken_at[:40]!r}; features need one to expire"
        raise DataProblem(message, "Give a report as kvmprobe writes it: 2026-11-22T16:07:51Z.") from None
    return f"{end.isoformat()}Z"


def _comments(report: Report) -> Iterator[str]:
    """For people. Each begins with a word of ours, because NFD takes "# +" as an instruction."""
    evidence, verdict = report["evidence"], report["verdict"]
    yield f"# written by kvmprobe {report['tool']['version']} at each run, read by node-feature-discovery"
    for line in (
        f"# host: {evidence['host']['name']}, Linux {evidence['kernel']['release']}, {evidence['taken_at']}",
        f"# verdict: {verdict['status']} {verdict['reason']}",
    ):
        yield cut(ascii_only(clean(line)), _LONGEST, "...")


def _lines(values: Iterable[tuple[str, Value]], before: str) -> Iterator[str]:
    for name, value in values:
        if value is not None:
            yield f"{before}{PREFIX}{name}={str(value).lower() if isinstance(value, bool) else value}"


def _labels(report: Report, facts: Facts) -> Iterator[tuple[str, Value]]:
    """For scheduling: node labels."""
    verdict = report["verdict"]
    yield "verdict", verdict["status"].replace(" ", "-")
    yield "reason", verdict["reason"]
    yield "ready", _READY.get(verdict["status"])
    yield "requirements", _requirements(report)
    yield "svm", _all(facts.svm())
    effects = _effects(facts)
    for name in ("nested", "npt"):
        yield name, effects.pop(name, None)
    judged = _sev(report)
    for name, (parameter, bit) in _SEV.items():
        yield name, judged[name][0] if name in judged else _works(facts, parameter, bit)
    yield (
        "nested-guest",
        next((_RAN.get(check["status"]) for check in report["checks"] if check["id"] == "nested"), None),
    )


def _requirements(report: Report) -> str | None:
    """The worst answer to what --require asked: "met", "not-met" or "unknown"; None where nothing was asked."""
    statuses = {row["status"] for row in report.get("requirements", ())}
    return next((status for status in ("not-met", "unknown", "met") if status in statuses), None)


def _features(report: Report, facts: Facts) -> Iterator[tuple[str, Value]]:
    """For rules alone: they would be too many labels."""
    for name, in_effect in _effects(facts).items():
        if name not in ("nested", "npt"):
            yield name, in_effect
    yield "enable-virt-at-load", facts.enables_at_load()
    most = report["evidence"]["ioctls"]["KVM_CHECK_EXTENSION"].get("KVM_CAP_MAX_VCPUS")
    yield "max-vcpus", most if isinstance(most, int) else None
    yield "cpus.online", len(facts.cpus) if facts.online_is_known else None
    yield "cpus.svme", _count(facts.svme("created"))
    yield "cpus.svmdis", _count(facts.svmdis())
    for row in report.get("requirements", ()):
        if _PLAIN_NAME.fullmatch(row["name"]):  # comparisons have signs that no name of a feature has
            yield f"require.{row['name']}", row["status"]
    statuses = [check["status"] for check in report["checks"]]
    for status in (PASS, WARN, FAIL, SKIP, UNKNOWN):
        yield f"checks.{status}", statuses.count(status)
    for name, (_, cause) in _sev(report).items():
        yield f"{name}.cause", cause


def _sev(report: Report) -> dict[str, tuple[bool | None, str | None]]:
    """Of a report with --sev: whether each level is available, and the cause where it is not."""
    levels = report["sev"]["levels"] if "sev" in report else ()
    return {level["level"]: (_AVAILABLE.get(level["status"]), level["cause"]) for level in levels}


def _effects(facts: Facts) -> dict[str, bool | None]:
    """Whether each feature is in effect, by name; none where kvm_amd is not loaded, and so has decided nothing."""
    return {row["name"]: row["in_effect"] for row in features_of(facts)} if facts.has_kvm_amd else {}


# kvm_amd's parameter, which shows after loading what KVM uses, and the CPU's bit, because 5.10 does not change it.
# The names are those of NFD's own labels (cpu-security.sev.es.enabled, ...), shortened.
_SEV: dict[str, tuple[str, CpuidBit]] = {
    "sev": ("sev", CPUID_BITS["sev"]),
    "sev-es": ("sev_es", CPUID_BITS["sev_es"]),
    "sev-snp": ("sev_snp", CPUID_BITS["sev_snp"]),
}
_AVAILABLE = {"available": True, "off": False}
_SWITCH = {"Y": True, "1": True, "N": False, "0": False}


def _works(facts: Facts, parameter: str, bit: CpuidBit) -> bool | None:
    """Whether KVM uses the feature; None where kvm_amd has not started, or its parameter has no known value."""
    module = facts.modules.get("kvm_amd")
    value = module["parameters"].get(parameter) if module else None
    on = _SWITCH.get(value) if isinstance(value, str) else None
    if on and not has_set_up(facts):
        return None
    return False if on and False in facts.cpuid_bit(bit).values() else on


def _all(values: Mapping[int, bool | None]) -> bool | None:
    """The value that all CPUs have; None where they differ or the value of some CPU is unknown."""
    states = set(values.values())
    return states.pop() if len(states) == 1 else None


def _count(values: Mapping[int, bool | None]) -> int | None:
    """How many CPUs have the bit set; None where it is unknown of some CPU."""
    return None if None in values.values() or not values else sum(map(bool, values.values()))
