"""Guests that follow the hints of kvmprobe: cases of scripts/cause_guests, run one after the other in one boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvmprobe.lab import payload, qemu
from kvmprobe.lab.boot_result import ANSWERED, BootResult
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import MACHINE, Boot, Machine
from scripts.cause_guests import software
from scripts.cause_guests.cases import Case

_DEADLINE_S = 1500.0  # generous: a case takes some 4 s
_HELPERS = Path(__file__).parent


def follow(
    kernel: Kernel,
    cases: Sequence[Case],
    folder: Path,
    modules: dict[str, bytes] | None = None,
    machine: Machine = MACHINE,
    boot: Callable[[Boot, Path], BootResult] = qemu.boot,
) -> list[Any]:
    """Boots `kernel` once and runs the cases in it. Returns for each what follow_hints.py prints.

    `modules`: those of software.module_files, where a case needs them. `boot`: qemu.boot, or what does the same in
    another way. Raises Problem if there is no userspace.
    """
    space = software.fetch_userspace(kernel)
    archive = Archive()
    rows = [{**asdict(case), "check": case.check} for case in cases]
    archive.file(f"{payload.LAB}/cases.json", json.dumps(rows).encode())
    archive.file(f"{payload.LAB}/follow_hints.py", (_HELPERS / "follow_hints.py").read_bytes())
    added = software.archive(space, modules or {}) + archive.finish()
    added += payload.archive(software.PREPARE, ["python3", "-S", "follow_hints.py", "cases.json"])
    plan = Boot(kernel, added, machine, space.image, _DEADLINE_S)
    result = boot(plan, folder)
    if result.outcome != ANSWERED:  # QEMU itself may fail; our own bug would fail again
        print(result.outcome, result.reason, result.console.read_text(errors="replace"), sep="\n")
        result = boot(plan, folder)
    assert result.outcome == ANSWERED, result
    assert "Traceback" not in result.stderr, result.stderr
    return [json.loads(line) for line in result.stdout.decode().splitlines()]


def faults(case: Case, result: Any, after: Any = None) -> list[Any]:
    """Returns what was not as it should be: the cause, a command of the hint, the check after it; [] if all was right.

    `after`: the verdict after a reboot, in place of that of the same boot.
    """
    before = result["before"]["verdict"]
    after = after or (result["after"] or {"verdict": None})["verdict"]
    commands = result["done"][1:-1]
    wrong = [step for step in commands if step[1] != 0 and not step[0].startswith("kvmprobe ")]
    wrong += [command for command in case.not_here if f"`{command}`" not in before["hint"]]
    if (before["reason"], before["cause"]) != (case.reason, case.cause):
        wrong.append(before)
    # An ordinary user cannot read registers. So the hint's own `sudo kvmprobe check` has to confirm, and for the user
    # this cause has to be gone.
    by_root = any("CONFIRMED" in output for _, _, output in commands) and after["cause"] != case.cause
    if after["reason"] != case.then if case.then else after["status"] != "confirmed" and not by_root:
        wrong.append(after)
    return wrong
