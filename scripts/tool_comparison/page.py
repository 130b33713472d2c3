"""The page docs/other-tools.md: the number of right answers of each tool, and the scenarios in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvmprobe.lab.scenarios import Scenario
from scripts.tool_comparison.answers import TOOLS, ToolAnswer

Answers = Mapping[str, ToolAnswer]  # by tool
Results = Mapping[tuple[str, str], Answers]  # by scenario and kernel

_HEAD = """\
# Other tools

`kvm-ok` (package cpu-checker), `virt-host-validate qemu` (package libvirt-clients) and kvmprobe answer the same
question: can KVM create VMs by SVM here? All three run in the same guests, those of `kvmprobe lab matrix`.
`scripts/other-tools` writes this page.

`kvmprobe/lab/scenarios.py` states the truth of each scenario: usable or not, and if not, the cause. It was written
before any answer was looked at, and corrected once: in the scenarios named svmdis the cause is the firmware also where
the CPU has SVML, not a key. The rule is the same for all tools. Right is "yes" where KVM is usable, and "no" with the
right cause in the output where it is not. "Unknown" is wrong, for kvmprobe too.

"""


def page(results: Results, scenarios: Sequence[Scenario], kernels: Sequence[str]) -> str:
    """Returns the page in Markdown. `kernels` are the names of the columns of the matrix, in their order."""
    return (
        _HEAD
        + "\n".join([*_sums(results), *_agreed(results, scenarios), *_differing(results, scenarios, kernels)])
        + "\n"
    )


def _sums(results: Results) -> list[str]:
    lines = [
        f"Right answers, of {len(results)} (scenarios on kernels):",
        "",
        "| tool | right | wrong |",
        "| --- | --- | --- |",
    ]
    for tool in TOOLS:
        right = sum(answers[tool].right for answers in results.values())
        lines.append(f"| {tool} | {right} | {len(results) - right} |")
    return [*lines, ""]


def _agreed(results: Results, scenarios: Sequence[Scenario]) -> list[str]:
    """The scenarios in which all tools are right, and those in which all are wrong, on every kernel."""
    lines = []
    for right, text in ((True, "All three are right on every kernel"), (False, "All three are wrong on every kernel")):
        names = []
        for row in scenarios:
            cells = [answers for (scenario, _), answers in results.items() if scenario == row.name]
            if cells and all(answers[tool].right is right for answers in cells for tool in TOOLS):
                names.append(row.name)
        if names:
            lines += [f"{text}: {', '.join(names)}.", ""]
    return lines


def _differing(results: Results, scenarios: Sequence[Scenario], kernels: Sequence[str]) -> list[str]:
    """A table of the cells in which only some tools are right. Kernels with the same answers share a row."""
    lines = ["They differ here:", "", f"| scenario | kernels | truth | {' | '.join(TOOLS)} |"]
    lines.append("| --- " * (3 + len(TOOLS)) + "|")
    for row in scenarios:
        alike: dict[tuple[ToolAnswer, ...], list[str]] = {}
        for kernel in kernels:
            answers = results.get((row.name, kernel))
            if answers and len({answers[tool].right for tool in TOOLS}) > 1:
                alike.setdefault(tuple(answers[tool] for tool in TOOLS), []).append(kernel)
        truth = "usable" if row.usable else f"not usable: `{_escaped(row.cause)}`"
        for given, names in alike.items():
            cells = (f"{'right' if answer.right else '**wrong**'}: {_escaped(answer.text)}" for answer in given)
            lines.append(f"| {row.name} | {', '.join(names)} | {truth} | {' | '.join(cells)} |")
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
