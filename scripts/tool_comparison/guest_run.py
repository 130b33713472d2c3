"""Runs all tools in the guest of one cell: a row on a kernel."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from kvmprobe.lab import booted_probe, cache, guest_program, payload, qemu
from kvmprobe.lab.boot_result import ANSWERED, BootResult
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.matrix import Cell, Lab
from kvmprobe.lab.qemu import Boot
from kvmprobe.lab.userspace import Userspace
from kvmprobe.model.errors import Problem
from kvmprobe.report.messages import say
from scripts.cause_guests import software
from scripts.cause_guests.cases import Case
from scripts.tool_comparison import sid_tools
from scripts.tool_comparison.answers import ToolOutput
from scripts.tool_comparison.tools import BY_NAME, TOOLS

Outputs = dict[str, ToolOutput]

_DEADLINE_S = 1500.0  # generous: all tools in a guest in a guest take some 100 s
_TRIES = 2  # a lost guest shows nothing about the tools
_MARK = "@@@"
_SGR = re.compile(r"\x1b\[[0-9;]*m")
_PATH = "PATH=$PATH:/usr/sbin:/sbin\n"


def run_scenario(lab: Lab, cell: Cell, tools: Path) -> Outputs:
    """Returns the output of each tool in the guest of a cell of the matrix; none if the guest is lost.

    `tools` is the folder of sid_tools.fetch.
    """
    guest = lab.guest(cell)
    prepare = (sid_tools.prepare(tools), *guest.prepare)
    guest = dataclasses.replace(guest, prepare=prepare, folders=(*guest.folders, tools))
    arguments = ["-m", "kvmprobe", "check", "-q", *cell.scenario.arguments]
    script = _script(shlex.join(guest_program.python(guest.root).command(*arguments)))
    machine, command = cell.scenario.machine, ["sh", "-c", script]
    return _outputs(
        cell.name,
        lambda: booted_probe.boot(cell.kernel, cache.default(), command, guest, machine, _DEADLINE_S, lab.outer),
    )


def run_case(kernel: Kernel, case: Case, space: Userspace, modules: dict[str, bytes], tools: Path) -> Outputs:
    """Returns the output of each tool in a guest that is in the state of `case`; none if the guest is lost.

    `space` and `modules` are those of cause_guests.software for the kernel, `tools` is the folder of sid_tools.fetch.
    """
    script = f"{case.state}\n" + _script(case.check.replace(" check", " check -q", 1), case.within)
    added = software.archive(space, modules)
    added += payload.archive([*software.PREPARE, sid_tools.prepare(tools)], ["sh", "-c", script])
    plan = Boot(kernel, added, case.machine, space.image, _DEADLINE_S, [tools])
    logs = cache.make_folder(cache.default() / "logs")
    return _outputs(f"{kernel.name} {case.cause}", lambda: qemu.boot(plan, logs))


def _script(kvmprobe: str, within: str = "") -> str:
    """Lines of sh that run all tools, each after `within`; `kvmprobe` is the whole command of kvmprobe."""
    commands = {tool.name: f"{within}sh -c {shlex.quote(tool.command)}" for tool in TOOLS}
    commands["kvmprobe"] = kvmprobe
    lines = (f"echo {_MARK}{tool}; {command} 2>&1; echo {_MARK}$?\n" for tool, command in commands.items())
    return _PATH + "".join(lines)


def _outputs(name: str, boot: Callable[[], BootResult]) -> Outputs:
    for _ in range(_TRIES):
        try:
            result = boot()
        except Problem as problem:
            say(f"{name}: {problem.message}")
            return {}
        if result.outcome == ANSWERED:
            result.console.unlink(missing_ok=True)
            return _parts(result.stdout.decode("utf-8", "replace"))
        say(f"{name}: {result.outcome}: {result.reason}")
    return {}


def _parts(stdout: str) -> Outputs:
    parts = stdout.split(_MARK)[1:]
    outputs = {}
    for named, status in zip(parts[0::2], parts[1::2]):
        tool, _, output = named.partition("\n")
        outputs[tool] = ToolOutput(int(status), BY_NAME[tool].kept(_SGR.sub("", output)))
    return outputs
