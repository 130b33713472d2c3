"""The page docs/other-tools.md: the number of right answers of each tool, and the rows in which they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from scripts.tool_comparison.answers import ToolAnswer, judge
from scripts.tool_comparison.rows import CAUSE_ROWS, SCENARIO_ROWS, Row
from scripts.tool_comparison.stored_answers import Cells
from scripts.tool_comparison.tools import TOOLS

Results = Mapping[tuple[str, str], Mapping[str, ToolAnswer]]  # by the names of row and kernel; the answers by tool

_LONGEST = 60  # characters of a statement in the table
_NAMES = [tool.name for tool in TOOLS]

_HEAD = """\
# Other tools

All tools answer the same question in the same guests: can KVM create VMs by SVM here, and if not, why not? The states
are the scenarios of `kvmprobe lab matrix`, and the causes that kvmprobe names, as far as a guest can be put into them.
`scripts/other-tools` boots the guests, stores the outputs and writes this page.

## The rule

The truth of each state is written down with the state, before any answer is looked at: usable or not, and if not, a
pattern that matches the right cause: [kvmprobe/lab/scenarios.py](../kvmprobe/lab/scenarios.py),
[scripts/cause_guests/cases.py](../scripts/cause_guests/cases.py). The rule is the same for all tools:

- Right is "yes" where KVM is usable. kvmprobe's verdicts confirmed and usable are both a yes.
- Right is "no" with the right cause where KVM is not usable. The cause must be in what the tool states about KVM.
- Where a process may not open `/dev/kvm`, kvmprobe's verdict is inconclusive with the reason kvm-not-permitted. That
  is a right "no" if it names the permission that is missing.
- Everything else is wrong, also "unknown", for kvmprobe too.

Some truths were corrected after answers were read. In the scenarios svmdis the cause is the firmware also where the CPU
has SVML, not a key. Three patterns missed the right cause in other words: device-is-file (a file in place of the
device), device-has-wrong-number (the node of another device), parameter-invalid (the name of the parameter).

"""
_NOT_HERE = {
    "`kata-runtime check`": "No package in Debian, PyPI or npm: the project publishes Go sources and binaries.",
    "node-feature-discovery": (
        "No such package either: it is a container image. Its labels come from CPUID, the kernel's configuration and "
        "the loaded modules; it opens neither `/dev/kvm` nor MSRs."
    ),
    "`snphost ok`, the tests of SEV": "QEMU's emulation has no SEV.",
}
_LIMIT = "The CPU of the scenarios svmdis is QEMU's qemu64, of family 15. For this family fwts does not read VM_CR."


def results(cells: Cells, rows: Sequence[Row]) -> Results:
    """Returns the judged answers of the cells that belong to `rows`."""
    by_name = {row.name: row for row in rows}
    return {key: judge(by_name[key[0]], outputs) for key, outputs in cells.items() if key[0] in by_name}


def page(cells: Cells, kernels: Sequence[str]) -> str:
    """Returns the page in Markdown. `kernels` are the names of the kernels, in their order."""
    scenarios, causes = results(cells, SCENARIO_ROWS), results(cells, CAUSE_ROWS)
    parts = [
        *(
            "## The tools",
            "",
            *_tools(),
            "",
            "## The sums",
            "",
            *_sums(scenarios, causes),
            "",
            _guests(kernels, {**scenarios, **causes}),
            "",
        ),
        *("## The scenarios in which they differ", "", *_rows(scenarios, SCENARIO_ROWS, kernels), ""),
        *("## The causes in which they differ", "", *_rows(causes, CAUSE_ROWS, kernels), ""),
        *("## What is not here", "", "| what | why not |", "| --- | --- |"),
        *(f"| {name} | {reason} |" for name, reason in _NOT_HERE.items()),
        *("", _LIMIT),
    ]
    return _HEAD + "\n".join(parts) + "\n"


def _tools() -> list[str]:
    lines = ["| tool | package | what counts as its answer |", "| --- | --- | --- |"]
    return lines + [f"| {tool.name} | {tool.package} | {tool.counts} |" for tool in TOOLS]


def _sums(scenarios: Results, causes: Results) -> list[str]:
    """How many answers of each tool are right; and how many would be if the cause did not count."""
    both = len(scenarios) + len(causes)
    columns = (
        f"right, of {len(scenarios)} scenarios",
        f"right, of {len(causes)} causes",
        f"yes or no right, of {both}",
    )
    lines = [f"| tool | {' | '.join(columns)} | wrong yes |", "| --- " * 5 + "|"]
    usable = {row.name: row.usable for row in (*SCENARIO_ROWS, *CAUSE_ROWS)}
    for tool in _NAMES:
        sums = [sum(answers[tool].right for answers in part.values()) for part in (scenarios, causes)]
        answered = [(usable[row], answers[tool].usable) for (row, _), answers in (*scenarios.items(), *causes.items())]
        sums += [sum(truth is answer for truth, answer in answered), answered.count((False, True))]
        lines.append(f"| {tool} | {' | '.join(map(str, sums))} |")
    return lines


def _guests(kernels: Sequence[str], found: Results) -> str:
    """The number of guests of each kernel that has some."""
    counts = {kernel: sum(name == kernel for _, name in found) for kernel in kernels}
    return f"Guests by kernel: {', '.join(f'{kernel} {count}' for kernel, count in counts.items() if count)}."


def _rows(found: Results, rows: Sequence[Row], kernels: Sequence[str]) -> list[str]:
    """The rows in which all tools are right, those in which all are wrong, and a table of the others.

    Rows with the same answers on the same kernels share a line of the table.
    """
    lines: list[str] = []
    for right, text in ((True, "All are right on every kernel"), (False, "All are wrong on every kernel")):
        names = []
        for row in rows:
            answered = [answers for (name, _), answers in found.items() if name == row.name]
            if answered and all(answers[tool].right is right for answers in answered for tool in _NAMES):
                names.append(row.name)
        if names:
            lines += [f"{text}: {', '.join(names)}.", ""]
    lines += [f"| state | kernels | usable | {' | '.join(_NAMES)} |", "| --- " * (3 + len(_NAMES)) + "|"]
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        for cells, names in _kernels(found, row, kernels).items():
            alike.setdefault((", ".join(names), "yes" if row.usable else "no", *cells), []).append(row.name)
    return lines + [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in alike.items()]


def _kernels(found: Results, row: Row, kernels: Sequence[str]) -> dict[tuple[str, ...], list[str]]:
    """The kernels on which the tools differ, by the cells of the table there."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for kernel in kernels:
        answers = found.get((row.name, kernel))
        if answers and len({answers[tool].right for tool in _NAMES}) > 1:
            alike.setdefault(tuple(_cell(tool, answers[tool], row.cause) for tool in _NAMES), []).append(kernel)
    return alike


def _cell(tool: str, answer: ToolAnswer, cause: str) -> str:
    word = {True: "yes", False: "no", None: "unknown"}[answer.usable]
    statement = answer.statement
    if tool == "kvmprobe":  # the verdict and its reason are enough
        statement = statement.partition(":")[0]
    text = word if answer.usable and tool != "kvmprobe" else f"{word}: {_cut(statement, cause)}"
    return text if answer.right else f"**wrong**: {text}"


def _cut(text: str, cause: str) -> str:
    """The beginning of a text, or what is around the cause where that comes later."""
    found = re.search(cause, text, re.IGNORECASE) if cause else None
    if found and found.end() > _LONGEST:
        text = "… " + text[max(0, found.start() - _LONGEST // 2) :].partition(" ")[2]
    if len(text) > _LONGEST:
        text = text[:_LONGEST].rpartition(" ")[0] + " …"
    return text.replace("|", "\\|")
