"""A guest with systemd as process 1, kvmprobe installed as documented, and stand-ins for services that start VMs."""

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
DEADLINE_S = 600.0  # a boot takes some 60 s
_FOLDER = "/etc/systemd/system"

# The real services are big, and the tests only ask whether and when systemd starts them.
_STAND_IN = """\
[Unit]
Description=Stand-in

[Service]
ExecStart=/bin/sleep infinity
Restart=always

[Install]
WantedBy=multi-user.target
"""

# The script runs when every job of the boot has its result. It leaves the same files as init.sh.
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
    "systemctl -q mask systemd-logind.service getty@tty1.service serial-getty@ttyS0.service",  # no logins
    "systemctl -q enable kvmprobe.timer kvmprobe.service libvirtd.service kubelet.service",
)


@dataclass(frozen=True)
class ScriptOutput:
    """The output of a script, in parts that begin with a line "== NAME", and its standard error."""

    parts: dict[str, str]
    stderr: str

    def __getitem__(self, name: str) -> str:
        return self.parts[name]

    def lines(self, name: str) -> list[str]:
        """Returns the lines of a part."""
        return self.parts[name].splitlines()


def boot(kernel: Kernel, built: Path, script: str, folder: Path, prepare: Sequence[str] = ()) -> ScriptOutput:
    """Boots `kernel` with its Debian release, and runs `script` (sh) when systemd has finished the boot.

    `built` is the folder with kvmprobe.pyz, `prepare` are lines of sh before systemd starts. libvirtd has gate.conf,
    kubelet has not. Raises Problem if there is no userspace.
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
    if result.outcome != ANSWERED:  # QEMU itself may fail; our own bug would fail again
        print(result, result.console.read_text(errors="replace"), sep="\n")
        result = qemu.boot(plan, folder)
    assert result.outcome == ANSWERED, result
    assert result.notes == ()
    print(result.stdout.decode(), result.stderr)  # pytest shows it if the test fails
    assert "Traceback" not in result.stderr
    _, *parts = f"\n{result.stdout.decode()}".split("\n== ")
    return ScriptOutput({name: text for name, _, text in (part.partition("\n") for part in parts)}, result.stderr)


def _shipped(name: str) -> str:
    return (UNITS / name).read_text()
