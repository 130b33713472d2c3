"""Guests that follow the hints of kvmprobe: a table of cases, run one after the other in one boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvmprobe.lab import cache, guest_program, payload, qemu, userspace
from kvmprobe.lab.boot_result import ANSWERED, BootResult
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import MACHINE, Boot, Machine
from tests.helpers.under_systemd import PACKAGES

_DEADLINE_S = 1500.0  # generous: a case takes some 4 s
_PROGRAM = """\
#!/bin/sh
cd /kvmprobe-lab && exec {command} "$@"
"""
_PREPARE = (
    *("cp -r /kvmprobe-lab/files/. /", "mkdir /saved", "cp -r /lib/modules/*/kernel /saved", "depmod -a"),
    *("modprobe -a msr cpuid", "echo on >/sys/module/msr/parameters/allow_writes"),
    *("useradd tester", "mknod -m 600 /run/other-hypervisor c 240 0"),
)
_HELPERS = Path(__file__).parent
# Debian's minimal userspace has no sudo. Root runs the commands of a hint, so sudo has nothing to do.
_SUDO = '#!/bin/sh\nexec "$@"\n'
# The guest has no network. This puts the files of the packages back that the hints name.
_APT_GET = """\
#!/bin/sh
case "$*" in
"install kmod")
    mv /root/modprobe /usr/sbin ;;
"install --reinstall linux-image-$(uname -r)" | "install linux-modules-extra-$(uname -r)")
    cp -r /saved/kernel "/lib/modules/$(uname -r)" && depmod -a ;;
*)
    echo "unknown: $*" >&2; exit 100 ;;
esac
"""
# Shows one VM, and ends it: it closes the device node and clears EFER.SVME, as a hypervisor does with its last VM.
_HYPERVISOR = """\
#!/bin/sh
case "$*" in
"list runningvms" | list)
    echo NAME ;;
"controlvm NAME acpipowerbutton" | "stop FILE.vmx soft")
    kill "$(cat /run/vm)" && wrmsr -p 1 0xc0000080 0xd01 ;;
*)
    exit 64 ;;
esac
"""


@dataclass(frozen=True)
class Case:
    """A cause that a guest can be put into, and what follows its hint.

    `state`: lines of sh that bring the guest into the state. `check`: how kvmprobe runs there, `again`: how it runs
    after the hint ("": the same way), `then`: the reason that it gives then ("": one that confirms). `not_here`:
    commands of the hint that a guest of the lab cannot run. `action`: lines of sh for what the hint asks for in words,
    after its commands. `undo`: lines of sh after the last check.
    """

    cause: str
    reason: str
    state: str
    check: str = "kvmprobe check"
    not_here: Sequence[str] = ()
    action: Sequence[str] = ()
    again: str = ""
    then: str = ""
    undo: str = ""


def follow(
    kernel: Kernel,
    cases: Sequence[Case],
    folder: Path,
    files: Mapping[str, bytes] | None = None,
    machine: Machine = MACHINE,
    boot: Callable[[Boot, Path], BootResult] = qemu.boot,
) -> list[Any]:
    """Boots `kernel` once and runs the cases in it. Returns for each what follow_hints.py prints.

    `files` are added to the guest's /. `boot`: qemu.boot, or what does the same in another way. Raises Problem if there
    is no userspace.
    """
    space = userspace.fetch(kernel.userspace, cache.default(), print, PACKAGES)
    python = guest_program.python(space.root)
    programs = {
        "usr/local/bin/kvmprobe": _PROGRAM.format(command=" ".join(python.command("-m", "kvmprobe"))),
        "usr/local/bin/sudo": _SUDO,
        "usr/local/bin/apt-get": _APT_GET,
        "usr/local/bin/VBoxManage": _HYPERVISOR,
        "usr/local/bin/vmrun": _HYPERVISOR,
        "opt/sandbox.py": (_HELPERS / "sandbox.py").read_text(),
    }
    archive = Archive()
    for path, data in {**{name: text.encode() for name, text in programs.items()}, **(files or {})}.items():
        archive.file(f"{payload.LAB}/files/{path}", data, 0o755)
    archive.file(f"{payload.LAB}/cases.json", json.dumps([asdict(case) for case in cases]).encode())
    archive.file(f"{payload.LAB}/follow_hints.py", (_HELPERS / "follow_hints.py").read_bytes())
    added = guest_program.archive(python, payload.LAB, cache.default(), print) + archive.finish()
    command = ["python3", "-S", "follow_hints.py", "cases.json"]
    added += payload.archive(_PREPARE, command)
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
