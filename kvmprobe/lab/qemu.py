"""Boots a kernel once in an emulated AMD machine, from QEMU's start to its end.

One deadline covers the whole boot. QEMU has ended when `boot` returns or raises, and also if this process is killed.
The kernel may be hostile: guest_root has what it can read, share_quota limits what it can write, and a QEMU that root
starts becomes the user nobody before the guest runs.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from kvmprobe.lab import boot_result, cache, external_programs, guest_root, keeper, share_quota
from kvmprobe.lab.boot_result import BootResult
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem

DEADLINE_S = 120.0  # a boot takes some 6 s

# cryptomgr.notests saves a second; random.trust_cpu avoids a wait for entropy.
# On a machine with more work than CPUs, QEMU's timer comes so late that the kernel takes its routing for broken, and
# panics ("IO-APIC + timer doesn't work"): no_timer_check, which KVM's own guests have built in.
_PARAMETERS = "console=ttyS0 quiet panic=-1 no_timer_check cryptomgr.notests random.trust_cpu=on"

# All CPUs share one thread. With one thread for each, QEMU 7.2 sometimes runs the old version of code that the kernel
# has just patched, and the guest hangs or panics. With one thread 16 CPUs also boot in half the time.
_ACCEL = "tcg,thread=single"

_NOBODY = 65534  # the user and the group
_TICK_S = 0.2  # between two looks at what the guest has written; it writes some 30 MB in that time


@dataclass(frozen=True)
class Machine:
    """The emulated machine. `cpu` and `memory` are QEMU's -cpu and -m, `parameters` are more kernel parameters.

    `vm_cr`: the value that the firmware writes to VM_CR; None: it writes nothing. `ssh_port`: QEMU forwards this port
    of 127.0.0.1 to the guest's port 22, and the guest (virtio_net, 10.0.2.15) reaches only QEMU; None: no network.
    `devices`: more of QEMU's -device.
    """

    cpu: str = "EPYC,+svm"
    cpus: int = 2
    memory: str = "1G"
    parameters: str = ""
    vm_cr: int | None = None
    ssh_port: int | None = None
    devices: tuple[str, ...] = ()


MACHINE = Machine()


@dataclass(frozen=True)
class Boot:
    """One boot. `payload` follows the kernel's base archive in the initramfs. `root`: a folder or an image for the
    guest's root, see guest_root. `folders`: the guest can read these, too. `deadline` is in seconds."""

    kernel: Kernel
    payload: bytes
    machine: Machine = MACHINE
    root: Path = Path("/")
    deadline: float = DEADLINE_S
    folders: Sequence[Path] = ()

    def initramfs(self) -> bytes:
        """Returns the whole initramfs."""
        added = guest_root.archive(self.root, self.folders) + self.payload
        return self.kernel.initramfs.read_bytes() + added


def boot(plan: Boot, logs: Path) -> BootResult:
    """Boots once and waits for the end. The console's log is a new file in the folder `logs`.

    Raises a Problem if QEMU is missing or a file cannot be written. An exception leaves nothing behind.
    """
    qemu = external_programs.find("qemu-system-x86_64", "qemu-system-x86")
    started = time.monotonic()
    console: Path | None = None
    try:
        console = _new_log(logs, plan.kernel.name)
        with keeper.folder() as temp:
            results, initrd, output = (Path(temp, name) for name in ("results", "initrd", "qemu"))
            results.mkdir()
            initrd.write_bytes(plan.initramfs())
            argv = [qemu, *arguments(_ACCEL, plan, initrd, results, console), *_unprivileged(qemu, results)]
            returncode, excess = _run(argv, output, results, started + plan.deadline)
            return boot_result.read(results, console, returncode, output, time.monotonic() - started, excess)
    except BaseException as error:
        if console is not None:
            console.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Problem(f"{plan.kernel.name} cannot be booted: {error}") from error
        raise


def arguments(accel: str, plan: Boot, initrd: Path, results: Path, console: Path) -> list[str]:
    """Returns QEMU's arguments for a boot: `initrd` is the whole initramfs, `results` the folder of the share."""
    machine = plan.machine
    options: list[str] = []
    if not plan.root.is_dir():
        options += ("-drive", f"file={_value(plan.root)},format=raw,if=virtio,readonly=on")
    for tag, (folder, _) in guest_root.shares(plan.root, plan.folders).items():
        share = f"local,path={_value(folder)},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
        options += ("-virtfs", share)
    return [
        *("-nodefaults", "-display", "none", "-no-reboot", *_network(machine.ssh_port)),
        *("-accel", accel, "-machine", "q35"),
        *("-cpu", machine.cpu, "-smp", str(machine.cpus), "-m", machine.memory),
        *("-kernel", str(plan.kernel.image), "-initrd", str(initrd)),
        *("-append", f"{_PARAMETERS} {machine.parameters}".strip()),
        *("-chardev", f"file,id=console,path={_value(console)}", "-serial", "chardev:console"),
        *options,
        *(part for device in machine.devices for part in ("-device", device)),
        # mapped-file: what the guest makes there is a regular file here, also a link, a pipe or a device.
        *("-virtfs", f"local,path={_value(results)},mount_tag=results,security_model=mapped-file"),
    ]


def _unprivileged(qemu: str, results: Path) -> Sequence[str]:
    """QEMU's arguments to become the user nobody when it has opened all files, if root starts it."""
    if os.geteuid() != 0:
        return ()
    try:
        os.chown(results, _NOBODY, _NOBODY)
    except OSError:
        return ()  # a container that does not have this user
    return _user_option(qemu)


@functools.lru_cache
def _user_option(qemu: str) -> tuple[str, str]:
    """QEMU 9.1 has the option -run-with user=, and announces the end of -runas."""
    user = f"{_NOBODY}:{_NOBODY}"
    described = external_programs.run(qemu, "-help").decode("utf-8", "replace").partition("-run-with ")[2]
    return ("-run-with", f"user={user}") if "user=" in described.partition("\n-")[0] else ("-runas", user)


def _network(ssh_port: int | None) -> tuple[str, ...]:
    if ssh_port is None:
        return ("-net", "none")
    forward = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
    return ("-netdev", forward, "-device", "virtio-net-pci,netdev=net,romfile=")


def _value(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's way to write a comma in an option's value


def _run(argv: list[str], output: Path, share: Path, deadline: float) -> tuple[int | None, str]:
    """QEMU's exit status, None if it was killed; and the limit that the guest exceeded, "" if none.

    It is killed at the time `deadline`, and if the guest exceeds a limit. In any case QEMU has ended afterwards.
    """
    with output.open("wb") as file, _lock:
        if _stopped.is_set():
            raise Problem("the lab was stopped")
        process = subprocess.Popen(  # noqa: S603  (no shell; see `arguments`)
            share_quota.limited(argv), stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        _running.add(process)
    try:
        with process, keeper.program(process.pid):
            excess = _wait(process, share, deadline)
            ended = process.poll()
            process.kill()
    finally:
        _running.discard(process)
    if _stopped.is_set():
        raise Problem("the lab was stopped")
    if ended == -signal.SIGXFSZ:
        excess = f"the guest wrote a file of more than {share_quota.FILE_LIMIT >> 20} MiB"
    return ended, excess


def _wait(process: subprocess.Popen[bytes], share: Path, deadline: float) -> str:
    """Waits until QEMU ends, the deadline, or the guest exceeds a limit of the share, which is returned."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            process.wait(min(_TICK_S, left))
            break
        except subprocess.TimeoutExpired:
            if excess := share_quota.excess(share, process.pid):
                return excess
    return share_quota.excess(share, process.pid)


# Several boots may run in threads, but only the main thread gets signals.
_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_stopped = threading.Event()


def stop_all() -> None:
    """Ends all boots of this process, and refuses new ones."""
    with _lock:
        _stopped.set()
    kill_running()


def kill_running() -> None:
    """Kills every QEMU of this process. Each `boot` then returns without an answer."""
    with _lock:
        for process in list(_running):
            process.kill()


def _new_log(logs: Path, name: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%S")
    fd, path = mkstemp(prefix=f"{name}-{stamp}-", suffix=".log", dir=cache.make_folder(logs))
    os.close(fd)
    return Path(path)
