"""Several guests at once that a test reaches over ssh. They run as long as the test needs them."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kvmprobe.lab import cache, kernels, payload, qemu, userspace
from kvmprobe.lab.qemu import Boot, Machine
from kvmprobe.model.errors import Problem

DEADLINE_S = 1200.0  # generous: only for a guest that hangs
_CONNECT_S = 30  # an emulated machine computes the keys slowly, more so on a loaded host
_SSHD = ("openssh-server", "iproute2")
_NETWORK = (
    "modprobe virtio_net",
    "ip link set lo up",
    "ip link set eth0 up",
    "ip addr add 10.0.2.15/24 dev eth0",
)
_SSHD_CONFIG = """\
HostKey /etc/ssh/lab_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
Subsystem sftp internal-sftp
"""


@dataclass
class Host:
    """A guest with Debian's kernel and programs of `suite`. `prepare` are lines of sh that run in it before sshd."""

    name: str
    suite: str
    cpu: str = "EPYC,+svm"
    cpus: int = 1
    prepare: Sequence[str] = ("modprobe kvm_amd",)
    port: int = field(default=0, init=False)


class Fleet:
    """Running guests. `key` is the key for logins, `known_hosts` has the guests' own keys; both are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key"
        self.known_hosts = folder / "known_hosts"
        self._folder = folder
        self._logs = folder / "logs"
        self._threads: list[threading.Thread] = []
        self._ended: dict[str, object] = {}
        self._stopping = threading.Event()
        self._ports = ExitStack()
        _keygen(self.key)

    def ssh(self, host: Host, *command: str, deadline: float = 4 * _CONNECT_S) -> subprocess.CompletedProcess[str]:
        """Runs a command on the guest."""
        options = [
            "-o",
            "BatchMode=yes",
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            f"ConnectTimeout={_CONNECT_S}",
        ]
        argv = ["ssh", "-F", "/dev/null", *options, "-i", str(self.key), "-p", str(host.port), "root@127.0.0.1"]
        return subprocess.run([*argv, *command], capture_output=True, text=True, timeout=deadline, check=False)

    def start(self, host: Host) -> None:
        """Boots a guest and returns at once. Raises Problem if its kernel or its programs are not available."""
        kernel = kernels.fetch(kernels.debian(host.suite), cache.default(), print)
        root = userspace.fetch(host.suite, cache.default(), print, more=_SSHD)
        host.port = self._ports.enter_context(reserved_port())
        own = self._folder / f"{host.name}.key"
        _keygen(own)
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{host.port} {own.with_suffix('.key.pub').read_text()}")
        prepare = [
            *_NETWORK,
            *_file("/etc/ssh/lab_key", own.read_text()),
            *_file("/etc/ssh/lab_config", _SSHD_CONFIG),
            "mkdir -m 700 -p /root/.ssh /run/sshd",
            *_file("/root/.ssh/authorized_keys", self.key.with_suffix(".pub").read_text()),
            *host.prepare,
        ]
        added = payload.archive(prepare, ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/lab_config"])
        machine = Machine(host.cpu, host.cpus, "512M", ssh_port=host.port)
        plan = Boot(kernel, added, machine, root.image, DEADLINE_S)
        thread = threading.Thread(target=self._boot, args=(host, plan))
        self._threads.append(thread)
        thread.start()

    def _boot(self, host: Host, plan: Boot) -> None:
        result: object = None
        for _ in range(2):  # QEMU may fail; our own bug would fail again
            if not self._stopping.is_set():
                try:
                    result = qemu.boot(plan, self._logs)
                except Problem as problem:
                    result = problem
        self._ended[host.name] = result

    def wait(self, hosts: Sequence[Host]) -> None:
        """Waits until each guest accepts a login. Fails if one does not."""
        ends = time.monotonic() + DEADLINE_S / 4
        for host in hosts:
            while self.ssh(host, "true").returncode != 0:
                log = "".join(path.read_text(errors="replace") for path in self._logs.glob("*.log"))
                assert host.name not in self._ended, (self._ended, log)
                assert time.monotonic() < ends, (f"{host.name} does not answer", log)
                time.sleep(0.5)

    def stop(self) -> None:
        """Ends all guests."""
        self._stopping.set()
        while any(thread.is_alive() for thread in self._threads):  # a thread may be about to start its QEMU
            qemu.kill_running()  # stop_all would also refuse the boots of later tests
            time.sleep(0.1)
        self._ports.close()


@contextmanager
def running(folder: Path, hosts: Sequence[Host]) -> Iterator[Fleet]:
    """Boots all `hosts` at once and waits for them. They end with the `with` block, also after an exception."""
    fleet = Fleet(folder)
    try:
        for host in hosts:
            fleet.start(host)
        fleet.wait(hosts)
        yield fleet
    finally:
        fleet.stop()


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yields a port of 127.0.0.1 on which nothing listens and that no other process is given.

    SO_REUSEADDR: QEMU, which sets it too, can listen on the port.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield int(reserved.getsockname()[1])


@contextmanager
def silent_port() -> Iterator[int]:
    """Yields a port that accepts connections and never answers, like a host that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield int(listener.getsockname()[1])


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(path)], check=True)


def _file(path: str, text: str) -> list[str]:
    """Lines of sh that write a file which only its owner can read."""
    return [f"umask 077; cat >{path} <<'END'", *text.splitlines(), "END"]
