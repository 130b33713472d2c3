"""A guest with systemd as process 1, kvmprobe installed as its instructions say, and stand-ins for what starts VMs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kvmprobe.lab import cache, payload, qemu, userspace
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot, Machine
from tests.helpers.run_kvmprobe import PROJECT

UNITS = PROJECT / "scripts/systemd"
PACKAGES = ("systemd", "systemd-sysv", "udev")
DEADLINE_S = 600.0  # some ten times what a boot takes
_FOLDER = "/etc/systemd/system"

# The real ones are big, and what is asked here is whether and when systemd starts them.
_STAND_IN = """\
[Unit]
Description=Stand-in

[Service]
ExecStart=/bin/sleep infinity
Restart=always

[Install]
WantedBy=multi-user.target
"""

# The script runs when everything of the boot has its answer. It leaves what init.sh would have left.
_TARGET = """\
[Unit]
Wants=multi-user.target kvmprobe-lab.service
After=multi-user.target
"""
_COMMAND = """\
[Unit]
After=multi-user.target

[Service]
Type=oneshot
ExecStart=/bin/sh /kvmprobe-lab/command
StandardOutput=file:/kvmprobe-lab-results/stdout
StandardError=file:/kvmprobe-lab-results/stderr
WorkingDirectory=/kvmprobe-lab-results
ExecStopPost=/bin/sh -c 'echo "$$EXIT_STATUS" >status.new; sync; mv status.new status; \\
  exec systemctl poweroff -ff >/dev/null 2>&1'
"""

_INSTALL = (
    "cp -r /kvmprobe-lab/etc /kvmprobe-lab/usr /",
    "echo 0123456789abcdef0123456789abcdef >/etc/machine-id",
    "systemctl -q mask systemd-logind.service getty@tty1.service serial-getty@ttyS0.service",  # nobody logs in
    "systemctl -q enable kvmprobe.timer kvmprobe.service libvirtd.service kubelet.service",
)


@dataclass(frozen=True)
class Answer:
    """What the script printed, by the lines "== NAME" before it, and to standard error."""

    parts: dict[str, str]
    stderr: str

    def __getitem__(self, name: str) -> str:
        return self.parts[name]

    def lines(self, name: str) -> list[str]:
        return self.parts[name].splitlines()


def boot(kernel: Kernel, built: Path, script: str, folder: Path, prepare: Sequence[str] = ()) -> Answer:
    """Boots `kernel` with its Debian release, and runs `script` (sh) when systemd has started what it should.

    `built`: the folder with kvmprobe.pyz, `prepare`: lines of sh before systemd starts. libvirtd has the gate, kubelet
    has not. Raises Problem where there is no userspace.
    """
    space = userspace.fetch(kernel.userspace, cache.default(), print, PACKAGES)
    made = Archive()
    for unit, text in {
        "kvmprobe.service": _shipped("kvmprobe.service"),
        "kvmprobe.timer": _shipped("kvmprobe.timer"),
        "libvirtd.service": _STAND_IN,
        "libvirtd.service.d/kvmprobe.conf": _shipped("gate.conf"),
        "kubelet.service": _STAND_IN,
        "lab.target": _TARGET,
        "kvmprobe-lab.service": _COMMAND,
    }.items():
        made.file(f"{payload.LAB}{_FOLDER}/{unit}", text.encode())
    made.file(f"{payload.LAB}/prometheus.conf", _shipped("prometheus.conf").encode())
    made.file(f"{payload.LAB}/usr/local/lib/kvmprobe/kvmprobe.pyz", (built / "kvmprobe.pyz").read_bytes(), 0o755)
    added = payload.archive((*_INSTALL, *prepare), ["sh", "-c", script], init="/sbin/init") + made.finish()
    plan = Boot(kernel, added, Machine(parameters="systemd.unit=lab.target"), space.image, DEADLINE_S)
    result = qemu.boot(plan, folder)
    if result.outcome != ANSWERED:  # QEMU itself may fail; a defect of ours would fail again
        print(result, result.console.read_text(errors="replace"), sep="\n")
        result = qemu.boot(plan, folder)
    assert result.outcome == ANSWERED, result
    assert result.notes == ()
    print(result.stdout.decode(), result.stderr)  # for people, where a test fails
    assert "Traceback" not in result.stderr
    _, *parts = f"\n{result.stdout.decode()}".split("\n== ")
    return Answer({name: text for name, _, text in (part.partition("\n") for part in parts)}, result.stderr)


def _shipped(name: str) -> str:
    return (UNITS / name).read_text()
