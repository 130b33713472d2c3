"""Boots guests that run the commands against the mutants. A guest that is lost costs one task, not the others."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.lab import cache, guest_program, payload, qemu
from kvmprobe.lab.boot_result import BootResult
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import MACHINE, Boot
from kvmprobe.model.errors import Problem
from scripts.kernel_mutants.commands import COMMANDS

_RUNNER = Path(__file__).with_name("guest_runner.py")
_PREPARE = ("modprobe -a kvm_amd msr cpuid",)  # kvm_amd for the modules that it needs
_TASKS = f"{payload.LAB}/tasks.json"
_PROGRAM = f"{payload.LAB}/guest_runner.py"
_IN_GUEST = "/kvmprobe-lab"
_BOOT_S, _TASK_S = 120.0, 200.0  # generous deadlines
_MOST_TASKS = 20  # of one boot: an interrupted run loses no more


@dataclass(frozen=True)
class Task:
    """One command against one mutant; `number` 0 is the good kernel, `command` a name of COMMANDS.

    `before` and `cpu`: see Mutant. `again`: which run of the same command it is, from 0.
    """

    number: int
    command: str
    before: str = ""
    cpu: str = ""
    again: int = 0


@dataclass(frozen=True)
class Answer:
    """What a command answered: its exit status, None if it did not end; the text of its report, "" if there is none.

    `lost`: why the guest ended before the command did, "" if it did not. `stderr`: the end of what it wrote there.
    """

    status: int | None
    report: str
    lost: str = ""
    stderr: str = ""


def run(
    kernel: Kernel, modules: dict[str, bytes], tasks: Sequence[Task], say: Callable[[str], None]
) -> Iterator[tuple[Task, Answer]]:
    """Runs each task once, in as many boots as it takes, and yields the answers after each boot. Raises Problem."""
    left = list(tasks)
    while left:
        part = [task for task in left if task.cpu == left[0].cpu][:_MOST_TASKS]
        say(f"{kernel.name}: booting for {len(left)} commands …")
        result = _boot(kernel, modules, part)
        found, started = answers_in(result.stdout, part)
        if started is not None and started not in found:
            if found:  # an earlier mutant may have done it: the next boot begins with this one
                left.insert(0, started)
            else:
                found[started] = Answer(None, "", lost=result.reason or result.outcome)
        if not found:
            raise Problem(f"{kernel.name}: a guest ended without an answer: {result.reason or result.stderr[-500:]}")
        result.console.unlink(missing_ok=True)
        yield from found.items()
        left = [task for task in dict.fromkeys(left) if task not in found]


def _boot(kernel: Kernel, modules: dict[str, bytes], tasks: Sequence[Task]) -> BootResult:
    python = guest_program.python(Path("/"))
    files = Archive()
    for name, content in modules.items():  # in place of the kernel's own, which are earlier in the initramfs
        files.file(f"lib/modules/{kernel.release}/kernel/arch/x86/kvm/{name}.ko", content)
    lines = [
        {"id": number, "mutant": task.number, "before": task.before, "command": COMMANDS[task.command]}
        for number, task in enumerate(tasks)
    ]
    files.file(_TASKS, json.dumps(lines).encode())
    files.file(_PROGRAM, _RUNNER.read_bytes())
    runner = f"{_IN_GUEST}/{Path(_PROGRAM).name}"
    command = python.command(runner, f"{_IN_GUEST}/{Path(_TASKS).name}", *python.command("-m", "kvmprobe"))
    added = guest_program.archive(python, payload.LAB, cache.default(), print) + files.finish()
    added += payload.archive(_PREPARE, command)
    machine = dataclasses.replace(MACHINE, cpu=tasks[0].cpu or MACHINE.cpu)
    plan = Boot(kernel, added, machine, deadline=_BOOT_S + _TASK_S * len(tasks), folders=python.folders)
    return qemu.boot(plan, cache.make_folder(cache.default() / "logs"))


def answers_in(stdout: bytes, tasks: Sequence[Task]) -> tuple[dict[Task, Answer], Task | None]:
    """Returns the answers in the output of a guest, which may end anywhere, and the task that began last."""
    found: dict[Task, Answer] = {}
    started = None
    for line in stdout.decode("ascii", "replace").splitlines():
        try:
            entry = json.loads(line)
            task = tasks[entry["id"]]
            if entry["event"] == "start":
                started = task
            elif entry["event"] == "end":
                report = zlib.decompress(base64.b64decode(entry["report"])).decode("utf-8", "replace")
                found[task] = Answer(entry["status"], report, stderr=entry["stderr"])
        except (ValueError, LookupError, TypeError, zlib.error):
            continue  # the last line of a guest that was lost may be incomplete
    return found, started
