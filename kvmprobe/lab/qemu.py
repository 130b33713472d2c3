"""Boots a kernel once in an emulated AMD machine, from QEMU's start to its end.

One deadline covers the whole boot. QEMU has ended when `boot` returns or raises.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp

from kvmprobe.lab import boot_result, external_programs
from kvmprobe.lab.boot_result import BootResult
from kvmprobe.lab.kernels import Kernel
from kvmprobe.model.errors import Problem

DEADLINE_S = 120.0  # a boot takes some 6 s

# cryptomgr.notests saves a second; random.trust_cpu avoids a wait for entropy.
_PARAMETERS = "console=ttyS0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on"

# All CPUs share one thread. With one thread for each, QEMU 7.2 sometimes runs the old version of code that the kernel
# has just patched, and the guest hangs or panics. With one thread 16 CPUs also boot in half the time.
_ACCEL = "tcg,thread=single"


@dataclass(frozen=True)
class Machine:
    """The emulated machine. `cpu` and `memory` are QEMU's -cpu and -m, `parameters` are more kernel parameters.

    `vm_cr`: the value that the firmware writes to VM_CR; None: it writes nothing. `ssh_port`: QEMU forwards this port
    of 127.0.0.1 to the guest's port 22, and the guest (virtio_net, 10.0.2.15) reaches only QEMU; None: no network.
    """

    cpu: str = "EPYC,+svm"
    cpus: int = 2
    memory: str = "1G"
    parameters: str = ""
    vm_cr: int | None = None
    ssh_port: int | None = None


MACHINE = Machine()


@dataclass(frozen=True)
class Boot:
    """One boot. `payload` follows the kernel's base archive in the initramfs. `root`: a folder or an image for the
    guest's root. `deadline` is in seconds."""

    kernel: Kernel
    payload: bytes
    machine: Machine = MACHINE
    root: Path = Path("/")
    deadline: float = DEADLINE_S


def boot(plan: Boot, logs: Path) -> BootResult:
    """Boots once and waits for the end. The console's log is a new file in the folder `logs`.

    Raises a Problem if QEMU is missing or a file cannot be written. An exception leaves nothing behind.
    """
    qemu = external_programs.find("qemu-system-x86_64", "qemu-system-x86")
    started = time.monotonic()
    console: Path | None = None
    try:
        logs.mkdir(parents=True, exist_ok=True)
        console = _new_log(logs, plan.kernel.name)
        with TemporaryDirectory(prefix="kvmprobe-lab-") as temp:
            results, initrd, output = (Path(temp, name) for name in ("results", "initrd", "qemu"))
            results.mkdir()
            initrd.write_bytes(plan.kernel.initramfs.read_bytes() + plan.payload)
            argv = _argv(qemu, plan, initrd, results, console)
            returncode = _run(argv, output, started + plan.deadline)
            return boot_result.read(results, console, returncode, output, time.monotonic() - started)
    except BaseException as error:
        if console is not None:
            console.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Problem(f"{plan.kernel.name} cannot be booted: {error}") from error
        raise


def _argv(qemu: str, plan: Boot, initrd: Path, results: Path, console: Path) -> list[str]:
    # The parent-death signal survives exec: the kernel kills QEMU when this process is killed.
    setpriv = shutil.which("setpriv")
    death = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
    return [*death, qemu, *arguments(_ACCEL, plan, initrd, results, console)]


def arguments(accel: str, plan: Boot, initrd: Path, results: Path, console: Path) -> list[str]:
    """Returns QEMU's arguments for a boot: `initrd` is the whole initramfs, `results` the folder of the share."""
    machine = plan.machine
    if plan.root.is_dir():
        root = f"local,path={_value(plan.root)},mount_tag=root,security_model=none,readonly=on,multidevs=remap"
        options = ("-virtfs", root)
    else:
        options = ("-drive", f"file={_value(plan.root)},format=raw,if=virtio,readonly=on")
    return [
        *("-nodefaults", "-display", "none", "-no-reboot", *_network(machine.ssh_port)),
        *("-accel", accel, "-machine", "q35"),
        *("-cpu", machine.cpu, "-smp", str(machine.cpus), "-m", machine.memory),
        *("-kernel", str(plan.kernel.image), "-initrd", str(initrd)),
        *("-append", f"{_PARAMETERS} {machine.parameters}".strip()),
        *("-chardev", f"file,id=console,path={_value(console)}", "-serial", "chardev:console"),
        *options,
        *("-virtfs", f"local,path={_value(results)},mount_tag=results,security_model=none"),
    ]


def _network(ssh_port: int | None) -> tuple[str, ...]:
    if ssh_port is None:
        return ("-net", "none")
    forward = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
    return ("-netdev", forward, "-device", "virtio-net-pci,netdev=net,romfile=")


def _value(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's way to write a comma in an option's value


def _run(argv: list[str], output: Path, deadline: float) -> int | None:
    """QEMU's exit status; None if it was killed at the time `deadline`. In any case QEMU has ended afterwards."""
    with output.open("wb") as file, _lock:
        if _stopped.is_set():
            raise Problem("the lab was stopped")
        process = subprocess.Popen(  # noqa: S603  (no shell; see _argv)
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        _running.add(process)
    try:
        returncode = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        _running.discard(process)
    if _stopped.is_set():
        raise Problem("the lab was stopped")
    return returncode


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
    fd, path = mkstemp(prefix=f"{name}-{time.strftime('%Y%m%dT%H%M%S')}-", suffix=".log", dir=logs)
    os.close(fd)
    return Path(path)
