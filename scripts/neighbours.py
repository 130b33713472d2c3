"""The neighbours in the guests of the matrix: what kvm-ok, virt-host-validate and kvmprobe answer, right or wrong.

What is right stands in kvmprobe/lab/scenarios.py for every row: can KVM create VMs by SVM there (`usable`), and if
not, the cause, as a regular expression that what the tool says must match (`cause`). One rule for all three tools:
right is the right yes, or the right no with the right cause. "I could not find out" is neither.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
from pathlib import Path

from kvmprobe.lab import booted_probe as lab_probe
from kvmprobe.lab import cache, guest_program, kernels, matrix
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.matrix import Cell, Lab
from kvmprobe.lab.scenarios import BY_NAME, SCENARIOS
from kvmprobe.model.errors import Problem
from kvmprobe.report.messages import say

PAGE = Path(__file__).parent.parent / "docs" / "neighbours.md"
TOOLS = ("kvm-ok", "virt-host-validate", "kvmprobe")
_DEADLINE_S = 120.0
_MARK = "@@@"
_VALIDATED = re.compile(r"Checking .*(?:hardware virtualization|/dev/kvm).*: (PASS|FAIL)")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")

Said = dict[str, tuple[int, str]]  # by tool: exit status and output
Answers = dict[str, tuple[str, bool]]  # by tool: what it said, and whether that is right

_HEAD = """\
# The neighbours

What `kvm-ok` (package cpu-checker) and `virt-host-validate qemu` (package libvirt-clients) say in the guests of
`kvmprobe lab matrix`, beside kvmprobe: the same boots, the same states. Made by `scripts/neighbours`.

The truth of each row, written down with the scenarios before any answer was looked at: can KVM create VMs by SVM
there, and if not, why. One rule for all three tools: right is the right yes, or the right no with the right cause in
what the tool says. An answer that it could not be found out counts as wrong, for kvmprobe too.

"""


def boot(lab: Lab, cell: Cell) -> tuple[Cell, Said]:
    """Runs the three in one guest; a guest that is lost said nothing."""
    guest = lab.guest(cell)
    arguments = ["-m", "kvmprobe", "check", *cell.scenario.arguments]
    commands = {
        # kvmprobe last: where --load-kvm is asked of it, it changes what the others see
        "kvm-ok": ["kvm-ok"],
        "virt-host-validate": ["virt-host-validate", "qemu"],
        "kvmprobe": guest_program.python(guest.root).command(*arguments),
    }
    script = "PATH=$PATH:/usr/sbin:/sbin\n" + "".join(
        f"echo {_MARK}{tool}; {shlex.join(command)} 2>&1; echo {_MARK}$?\n" for tool, command in commands.items()
    )
    machine = cell.scenario.machine
    for _ in range(2):  # a guest that is lost says nothing about the tools
        try:
            result = lab_probe.boot(
                cell.kernel, cache.default(), ["sh", "-c", script], guest, machine, _DEADLINE_S, lab.outer
            )
        except Problem as problem:
            say(f"{cell.name}: {problem.message}")
            return cell, {}
        if result.outcome == ANSWERED:
            break
        say(f"{cell.name}: {result.outcome}: {result.reason}")
    else:
        return cell, {}
    result.console.unlink(missing_ok=True)
    parts = result.stdout.decode("utf-8", "replace").split(_MARK)[1:]
    said = {}
    for named, status in zip(parts[0::2], parts[1::2]):
        tool, _, output = named.partition("\n")
        said[tool] = (int(status), _ANSI.sub("", output))
    return cell, said


def answer(tool: str, status: int, output: str) -> bool | None:
    """Yes, no, or None for "could not find out"."""
    if tool == "kvm-ok":
        said = re.search(r"acceleration can (NOT )?be used", output)
        return said[1] is None if said else None
    if tool == "virt-host-validate":
        checked = _VALIDATED.findall(output)
        return "FAIL" not in checked if checked else None  # it crashed, or is not there
    return {0: True, 1: False, 4: False}.get(status)


def judge(cell: Cell, said: Said) -> Answers:
    judged = {}
    for tool in TOOLS:
        if tool not in said:
            judged[tool] = ("no answer: the guest was lost", False)
            continue
        status, output = said[tool]
        yes = answer(tool, status, output)
        cause = re.search(cell.scenario.cause, output, re.IGNORECASE) if cell.scenario.cause else None
        right = yes is True if cell.scenario.usable else yes is False and bool(cause)
        judged[tool] = (gist(tool, output), right)
    return judged


def gist(tool: str, output: str) -> str:
    """The part of the output that answers, on one line."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    if tool == "virt-host-validate":
        about = [line.partition("Checking ")[2] for line in lines if _VALIDATED.search(line)]
        failed = [line for line in about if ": PASS" not in line]
        return ("; ".join(failed) or "PASS") if about else f"no answer: {lines[-1] if lines else 'nothing'}"
    if tool == "kvmprobe":
        return next((line.partition(":")[0] for line in lines if re.match(r"[A-Z ]{6,} [a-z-]+:", line)), lines[-1])
    return "; ".join(line for line in lines if not line.startswith("INFO: Your CPU supports"))


def page(results: dict[Cell, Answers], columns: list[kernels.Kernel]) -> str:
    right = {tool: sum(answers[tool][1] for answers in results.values()) for tool in TOOLS}
    lines = [
        f"Of {len(results)} answers each, right: " + ", ".join(f"{tool} {right[tool]}" for tool in TOOLS) + ".",
        "",
    ]
    lines += ["| scenario | kernels | truth | " + " | ".join(TOOLS) + " |", "| --- " * (3 + len(TOOLS)) + "|"]
    for row in SCENARIOS:
        alike: dict[tuple[tuple[str, bool], ...], list[str]] = {}
        for kernel in columns:
            answers = results.get(Cell(kernel, row))
            if answers:
                alike.setdefault(tuple(answers[tool] for tool in TOOLS), []).append(kernel.name)
        truth = "usable" if row.usable else f"not usable: /{row.cause}/".replace("|", "\\|")
        for answers_, names in alike.items():
            cells = (f"{'right' if ok else '**wrong**'}: {text}".replace("|", "\\|") for text, ok in answers_)
            lines.append(f"| {row.name} | {', '.join(names)} | {truth} | {' | '.join(cells)} |")
    return _HEAD + "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="these scenarios alone, with commas")
    parser.add_argument("--kernels", help="these kernels alone, with commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args()
    names = chosen.kernels.split(",") if chosen.kernels else [row.suite for row in kernels.DEBIAN]
    columns = [kernels.fetch(kernels.debian(name), cache.default(), say) for name in names]
    rows = [BY_NAME[name] for name in chosen.only.split(",")] if chosen.only else list(SCENARIOS)
    lab = Lab(columns, rows, cache.default(), say)
    results: dict[Cell, Answers] = {}
    started = time.monotonic()
    for ended, _ in matrix.run(lab.cells, lambda cell: boot(lab, cell), chosen.jobs):
        for cell, said in ended:
            results[cell] = judge(cell, said)
            say(f"[{len(results)}/{len(lab.cells)}] {cell.name}, {time.monotonic() - started:.0f} s")
    text = page(results, columns)
    if chosen.only or chosen.kernels:
        sys.stdout.write(text)
    else:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        sys.exit(f"neighbours: {problem.message}. {problem.hint or ''}")
