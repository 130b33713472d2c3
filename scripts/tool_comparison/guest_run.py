"""Runs all tools in the guest of one cell of the matrix."""

from __future__ import annotations

import re
import shlex

from kvmprobe.lab import booted_probe, cache, guest_program
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.matrix import Cell, Lab
from kvmprobe.model.errors import Problem
from kvmprobe.report.messages import say
from scripts.tool_comparison.answers import ToolOutput

_DEADLINE_S = 300.0  # all three tools in a guest in a guest take some 60 s
_TRIES = 2  # a lost guest shows nothing about the tools
_MARK = "@@@"
_SGR = re.compile(r"\x1b\[[0-9;]*m")


def run_tools(lab: Lab, cell: Cell) -> tuple[Cell, dict[str, ToolOutput]]:
    """Returns the cell and the output of each tool in its guest; no output if the guest is lost."""
    guest = lab.guest(cell)
    arguments = ["-m", "kvmprobe", "check", *cell.scenario.arguments]
    commands = {
        # kvmprobe is the last: with --load-kvm it changes the state that the others see.
        "kvm-ok": ["kvm-ok"],
        "virt-host-validate": ["virt-host-validate", "qemu"],
        "kvmprobe": guest_program.python(guest.root).command(*arguments),
    }
    script = "PATH=$PATH:/usr/sbin:/sbin\n" + "".join(
        f"echo {_MARK}{tool}; {shlex.join(command)} 2>&1; echo {_MARK}$?\n" for tool, command in commands.items()
    )
    machine = cell.scenario.machine
    for _ in range(_TRIES):
        try:
            result = booted_probe.boot(
                cell.kernel, cache.default(), ["sh", "-c", script], guest, machine, _DEADLINE_S, lab.outer
            )
        except Problem as problem:
            say(f"{cell.name}: {problem.message}")
            return cell, {}
        if result.outcome == ANSWERED:
            result.console.unlink(missing_ok=True)
            return cell, _outputs(result.stdout.decode("utf-8", "replace"))
        say(f"{cell.name}: {result.outcome}: {result.reason}")
    return cell, {}


def _outputs(stdout: str) -> dict[str, ToolOutput]:
    parts = stdout.split(_MARK)[1:]
    outputs = {}
    for named, status in zip(parts[0::2], parts[1::2]):
        tool, _, output = named.partition("\n")
        outputs[tool] = ToolOutput(int(status), _SGR.sub("", output))
    return outputs
