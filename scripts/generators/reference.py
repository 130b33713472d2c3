"""Writes docs/reference.md from the tables of the program: `python3 -m scripts.generators.reference`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kvmprobe.formats import FORMATS
from kvmprobe.judge.causes import CAUSES
from kvmprobe.judge.check_table import CHECKS
from kvmprobe.judge.features.feature import place_of
from kvmprobe.judge.features.feature_table import FEATURES
from kvmprobe.judge.requirements.demands import listing
from kvmprobe.judge.sev import SEV_STEPS
from kvmprobe.model.reasons import REASONS
from kvmprobe.model.verdict_status import EXIT_STATUS

PAGE = Path(__file__).resolve().parents[2] / "docs/reference.md"

_HEAD = """\
# Reference

This page is made from the tables of the program by `python3 -m scripts.generators.reference`. `kvmprobe explain NAME`
shows more about a reason or a cause: what the kernel does there, what it logs, and what to do.

## Reasons

Each verdict has one reason. Consumers rely on the names.
"""

_FEATURES = """
## Features

What kvm_amd made of each feature of SVM, in the order in which it decides: `-v` and html show a table, JSON has
`features`. `--require` takes these names. The columns of the table, where "?" is unknown:

- CPU: every CPU has it, by raw CPUID; else the CPUs that lack it are named.
- allowed: the firmware, or the hypervisor outside, allows it. What CPUID does not show may be hidden: unknown.
- kernel: kvm_amd has the parameter, or /proc/cpuinfo shows the flag.
- parameter: its value after loading. kvm_amd switches most of them off where it does not use the feature.
- offered: KVM's own answer, KVM_GET_SUPPORTED_CPUID (what it can offer to guests) or a capability.
- in effect: yes, or no and the first step that refused it.
"""

_FORMATS = """
## Formats

`--format NAME`, or `--output` with a name that ends in one of the suffixes. `--also NAME:FILE` writes one more.
"""

_JSON = """\
## The report in JSON

`kvmprobe --json` writes `schema` (`kvmprobe.report/1`), `tool`, `verdict`, `checks`, `requirements`, `features` and
`evidence`.
`kvmprobe/model/report.schema.json` describes every field.

- `verdict`: `status`, `reason`, `cause` (null where the evidence does not show one), `summary`, `because` (values and
  log lines from the evidence, quoted), `hint` (what to do).
- `checks`: in the kernel's order, each with `id`, `status` (pass, fail, warn, skip, unknown), `message`, `hint`,
  `blocked_by`.
- `requirements`: what `--require` asked, where it was given, each with `name`, `status` (met, not-met, unknown),
  `message`, `hint`.
- `features`: what kvm_amd made of each feature, see above; `first_no` names the step that refused it, `why` is a
  sentence. Null is unknown. It is written anew from the evidence each time.
- `sev`, of a report with `--sev`: `levels` (sev, sev-es, sev-snp), each with `status` (available, off, unknown),
  `cause`, `message`, `because`, `hint`; and `steps`, the conditions in the kernel's order, each with `id`, `status`,
  `message`.
- `evidence`: what was read. A register is a hexadecimal string, `{"error": "EPERM"}` where it could not be read, null
  where it is unknown. A field that an older version did not write is unknown.

`kvmprobe compare --json` writes `kvmprobe.compare/1` (`kvmprobe/model/compare.schema.json`).
`kvmprobe summary --json` writes `kvmprobe.summary/1` (`kvmprobe/model/summary.schema.json`).
"""


def lines() -> Iterator[str]:
    """The lines of the page."""
    yield _HEAD
    yield "| reason | verdict (exit status) | when |"
    yield "| --- | --- | --- |"
    for reason in REASONS.values():
        yield f"| `{reason.name}` | {reason.status} ({EXIT_STATUS[reason.status]}) | {_cell(reason.when)} |"
    yield "\n## Causes\n"
    yield "A cause states why, where the evidence shows it. The first cause that fits is the verdict's.\n"
    yield "| cause | of the reasons | when |"
    yield "| --- | --- | --- |"
    for cause in CAUSES.values():
        yield f"| `{cause.name}` | {', '.join(f'`{name}`' for name in cause.reasons)} | {_cell(cause.when)} |"
    yield "\n## Causes of SEV, SEV-ES and SEV-SNP\n"
    yield "With `check --sev` each level is available, off or unknown. The first condition in the kernel's order that"
    yield "is not met is the cause.\n"
    yield "| cause | of the levels | when | the kernel's function |"
    yield "| --- | --- | --- | --- |"
    for step in SEV_STEPS:
        levels = ", ".join(f"`{level}`" for level in step.levels)
        yield f"| `{step.name}` | {levels} | {_cell(step.cause.when)} | `{step.kernel}` |"
    yield "\n## Checks\n"
    yield "| check | what it checks | the kernel's function, and since 6.12 |"
    yield "| --- | --- | --- |"
    for check in CHECKS:
        functions = dict.fromkeys((check.function, check.since_at_load))
        yield f"| `{check.id}` | {check.title} | {', '.join(f'`{name}`' for name in functions)} |"
    yield "\n## Requirements\n"
    yield "What `--require` can ask. `kvmprobe check --require help` lists it, too.\n"
    yield "| requirement | what it asks |"
    yield "| --- | --- |"
    for name, description in listing():
        yield f"| `{name}` | {_cell(description)} |"
    yield _FEATURES
    yield "| feature | bit of CPUID | parameter of kvm_amd | needs | what it does |"
    yield "| --- | --- | --- | --- | --- |"
    for feature in FEATURES.values():
        parameter = f"`{feature.parameter}`" if feature.parameter else "-"
        needs = ", ".join(f"`{name}`" for name in feature.needs) or "-"
        yield f"| `{feature.name}` | {place_of(feature)} | {parameter} | {needs} | {_cell(feature.about)} |"
    yield _FORMATS
    yield "| format | suffixes |"
    yield "| --- | --- |"
    for form in FORMATS.values():
        yield f"| `{form.name}` | {', '.join(f'`{suffix}`' for suffix in form.suffixes) or '-'} |"
    yield ""
    yield _JSON.rstrip()


def text() -> str:
    """The page."""
    return "\n".join(lines()) + "\n"


def _cell(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
