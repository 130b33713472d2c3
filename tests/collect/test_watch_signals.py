"""`kvmprobe watch`: job control, the terminal, signals, attaching. However it ends, no tracee is left stopped."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host.kvm import REQUESTS
from kvmprobe.model.errors import EXIT_INCONCLUSIVE
from tests.helpers.own_processes import OwnProcesses
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.waiting import wait_until
from tests.helpers.watching import is_free, names, qemu, start_watch, status, vmm

EXIT_STATUS = {"confirmed": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}  # By the verdict's status.
Start = Callable[..., "subprocess.Popen[str]"]

# Creates a VM for each line on its standard input and answers with a line.
_SERVER = """
print(os.getpid(), flush=True)
kept = []
for line in sys.stdin:
    kept.append(vm())
    print("created", flush=True)
"""
_STOPS = """
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print("went on", flush=True)
"""


@pytest.fixture
def start(own_processes: OwnProcesses, tmp_path: Path) -> Start:
    """A function that starts `kvmprobe watch` with arguments. What it leaves behind is killed after the test."""
    return functools.partial(start_watch, own_processes, tmp_path)


def read_report(tmp_path: Path) -> Any:
    """Return the report of the watch that has ended."""
    return json.loads((tmp_path / "report.json").read_text())


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line of the standard output."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], text: str = "create") -> str:
    """Send a line and return the answer."""
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    return line(process)


def attach(start: Start, pid: int) -> subprocess.Popen[str]:
    """Start `kvmprobe watch -p PID` and return it when it watches all calls of this process."""
    process = start("-p", str(pid))
    assert process.stderr is not None
    assert process.stderr.readline().startswith(f"kvmprobe: watching {pid}; ")
    assert status(pid)["TracerPid"] == str(process.pid)
    return process


def end(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process and return its exit status."""
    process.communicate(timeout=DEADLINE_S)
    return process.returncode


@pytest.fixture
def server(kvm_device: str, own_processes: OwnProcesses) -> subprocess.Popen[str]:
    """A VMM that is not watched yet."""
    process = own_processes.start(vmm(_SERVER), cwd=PROJECT, start_new_session=True)
    assert line(process) == str(process.pid)
    return process


def test_a_process_stopped_by_job_control_stays_stopped(start: Start, tmp_path: Path) -> None:
    process = start("--", *vmm(_STOPS))
    pid = int(line(process))
    assert wait_until(lambda: status(pid)["State"][0] in "tT")
    time.sleep(0.3)
    assert status(pid)["State"][0] in "tT"
    os.kill(pid, signal.SIGCONT)
    assert line(process) == "went on"
    end(process)
    assert read_report(tmp_path)["evidence"]["watch"]["ended"] == "exited"


def test_a_stopped_process_that_is_killed(start: Start, tmp_path: Path) -> None:
    process = start("--", *vmm(_STOPS))
    pid = int(line(process))
    assert wait_until(lambda: status(pid)["State"][0] in "tT")
    os.kill(pid, signal.SIGKILL)
    end(process)
    watched = read_report(tmp_path)["evidence"]["watch"]
    assert (watched["ended"], watched["status"]) == ("killed", 9)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_is_passed_on(signum: signal.Signals, start: Start, tmp_path: Path, kvm_device: str) -> None:
    # The tests may run with the signal ignored (nohup), and kvmprobe leaves an ignored signal ignored.
    usual = {"preexec_fn": lambda: signal.signal(signum, signal.SIG_DFL)}
    process = start("--", *vmm(f"signal.signal({signum}, signal.SIG_DFL)\n{_SERVER}"), **usual)
    pid = int(line(process))
    assert ask(process) == "created"
    process.send_signal(signum)
    assert end(process) == 128 + signum
    assert not status(pid)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("killed", signum)
    assert "KVM_CREATE_VM" in names(report)


@pytest.mark.parametrize(("signum", "own"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_a_command_that_handles_the_signal(
    signum: signal.Signals, own: int | None, start: Start, tmp_path: Path
) -> None:
    process = start("--", *vmm(f"signal.signal({signum}, lambda *_: os._exit(5))\n{_SERVER}"))
    line(process)
    process.send_signal(signum)
    ended = end(process)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("exited", 5)
    assert ended == (own or EXIT_STATUS[report["verdict"]["status"]])


def test_ignored_signals_stay_ignored(start: Start) -> None:
    """As by nohup."""
    code = "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)"
    process = start("--", *vmm(code), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert line(process) == "True"
    end(process)


def test_a_daemon_of_the_command_runs_on(start: Start, tmp_path: Path, kvm_device: str) -> None:
    """It has a VM: kvmprobe waits for its end, and detaches from it at a signal."""
    code = "fds = vm(); first = os.getpid()\n"
    code += "os.fork() or (os.setsid(), print(first, os.getpid(), flush=True), time.sleep(60))"
    process = start("--", *vmm(code))
    first, daemon = map(int, line(process).split())
    assert wait_until(lambda: not status(first))
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(DEADLINE_S)
    report = read_report(tmp_path)
    assert is_free(daemon)
    assert status(daemon)["State"][0] == "S"
    os.kill(daemon, signal.SIGKILL)
    end(process)
    assert report["evidence"]["watch"]["ended"] == "exited"
    assert [snapshot["phase"] for snapshot in report["evidence"]["snapshots"]] == ["before", "created"]
    assert str(daemon) in report["evidence"]["watch"]["limits"][-1]


def test_attach_and_detach(start: Start, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    process = attach(start, server.pid)
    assert ask(server) == "created"
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert is_free(server.pid)
    assert ask(server) == "created"
    report = read_report(tmp_path)
    watched = report["evidence"]["watch"]
    assert names(report) == ["KVM_GET_API_VERSION", "KVM_CREATE_VM", "KVM_CREATE_VCPU"]
    assert (watched["ended"], watched["pid"], watched["command"]) == ("detached", server.pid, None)
    assert [snapshot["phase"] for snapshot in report["evidence"]["snapshots"]] == ["before", "created"]
    assert ended == EXIT_STATUS[report["verdict"]["status"]]


def test_attach_until_the_end_of_the_process(start: Start, tmp_path: Path, server: subprocess.Popen[str]) -> None:
    process = attach(start, server.pid)
    assert ask(server) == "created"
    assert server.stdin is not None
    server.stdin.close()
    end(process)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("exited", 0)
    assert report["evidence"]["snapshots"][-1]["phase"] == "closed"


def test_attach_to_a_running_qemu_and_detach(start: Start, own_processes: OwnProcesses, tmp_path: Path) -> None:
    """From all of its threads, one of which waits in the kernel."""
    running = own_processes.start(qemu(tmp_path, "-S", "-qmp", "stdio"))
    assert "QMP" in line(running)
    process = attach(start, running.pid)
    tids = os.listdir(f"/proc/{running.pid}/task")
    assert len(tids) > 1
    assert {status(int(tid))["TracerPid"] for tid in tids} == {str(process.pid)}
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert end(process) == 128 + signal.SIGTERM
    assert all(is_free(int(tid)) for tid in tids)
    assert "return" in ask(running, '{"execute": "qmp_capabilities"}')
    running.communicate('{"execute": "quit"}\n', timeout=DEADLINE_S)
    assert running.returncode == 0
    report = read_report(tmp_path)
    assert report["evidence"]["ioctls"]["KVM_CREATE_VM"] is None
    assert report["verdict"]["status"] != "confirmed"


def test_a_stopped_process_stays_stopped_after_attach_and_detach(start: Start, server: subprocess.Popen[str]) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    assert wait_until(lambda: status(server.pid)["State"][0] == "T")
    process = attach(start, server.pid)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    end(process)
    fields = status(server.pid)
    assert (fields["State"][0], fields["TracerPid"]) == ("T", "0")
    os.kill(server.pid, signal.SIGCONT)
    assert ask(server) == "created"


def test_attach_is_refused_where_another_tracer_is_attached(start: Start, server: subprocess.Popen[str]) -> None:
    first = attach(start, server.pid)
    second = kvmprobe("watch", "-q", "-p", str(server.pid))
    assert second.returncode == EXIT_INCONCLUSIVE
    assert f"{status(first.pid)['Name']}[{first.pid}] traces it already" in second.stderr
    first.send_signal(signal.SIGINT)
    end(first)
    assert is_free(server.pid)


def test_attach_is_refused_without_the_right(own_processes: OwnProcesses) -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can become another user (setpriv, of util-linux)")
    command = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--", "sleep", "60"]
    other = own_processes.start(command)
    assert wait_until(lambda: status(other.pid)["Name"] == "sleep")
    without_right = [setpriv, "--bounding-set=-sys_ptrace", "--", sys.executable, "-m", "kvmprobe"]
    done = subprocess.run(
        [*without_right, "watch", "-p", str(other.pid)], capture_output=True, text=True, cwd=PROJECT, check=False
    )
    assert is_free(other.pid)
    assert done.returncode == EXIT_INCONCLUSIVE
    assert f"-p {other.pid}: the kernel refuses to attach: Operation not permitted" in done.stderr
    assert "it runs as uid 65534, kvmprobe as 0" in done.stderr
    assert "CAP_SYS_PTRACE" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda signum: signum.name)
def test_no_tracee_is_left_stopped_whenever_kvmprobe_ends(
    signum: signal.Signals, start: Start, kvm_device: str
) -> None:
    """The command creates VMs for ever in several threads, so that at every moment some thread is stopped."""
    code = """
def work():
    while True:
        try:
            close(vm())
        except InterruptedError:
            pass  # The kernel's answer to KVM_CREATE_VM where the tracer ends meanwhile.
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(60)
"""
    moments = random.Random(signum)
    for _ in range(4):
        process = start("--", *vmm(code), start_new_session=True)
        pid = int(line(process))
        time.sleep(moments.random() / 3)
        process.send_signal(signum)
        process.wait(DEADLINE_S)
        if signum == signal.SIGTERM:
            assert not status(pid)  # The signal was passed on.
            end(process)
            continue
        tids = os.listdir(f"/proc/{pid}/task")
        assert len(tids) == 4
        assert wait_until(lambda tids=tids: all(is_free(int(tid)) for tid in tids))  # type: ignore[misc]
        before = _cpu_ticks(pid)
        assert wait_until(lambda pid=pid, before=before: _cpu_ticks(pid) > before)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        end(process)


def _cpu_ticks(pid: int) -> int:
    """The CPU time that a process has used, in clock ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_an_attached_process_runs_on_where_kvmprobe_is_killed(start: Start, server: subprocess.Popen[str]) -> None:
    process = attach(start, server.pid)
    process.kill()
    end(process)
    assert wait_until(lambda: is_free(server.pid))
    assert ask(server) == "created"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A pseudo-terminal: our end, and the end for a process."""
    ends = pty.openpty()
    yield ends
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize("handles", [True, False], ids=["handled", "deadly"])
def test_ctrl_c_on_the_terminal(handles: bool, start: Start, terminal: tuple[int, int], tmp_path: Path) -> None:
    """The command has the terminal and gets the signal from it once; kvmprobe reports after the command."""
    ours, theirs = terminal
    code = f"""
count = []
signal.signal(signal.SIGINT, {"lambda *_: count.append(1)" if handles else "signal.SIG_DFL"})
print("tty", sys.stdin.isatty(), sys.stdout.isatty(), flush=True)
time.sleep(0.7)
time.sleep(0.3)
print("signals", len(count), flush=True)
sys.exit(5)
"""
    process = start(
        *("--", *vmm(code)),
        **dict.fromkeys(("stdin", "stdout", "stderr"), theirs),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    output = b""
    while b"tty True True" not in output:
        output += os.read(ours, 1024)
    os.write(ours, b"\x03")
    exit_status = process.wait(DEADLINE_S)
    output += os.read(ours, 1024)
    report = read_report(tmp_path)
    watched = report["evidence"]["watch"]
    if handles:
        assert b"signals 1" in output
        assert (watched["ended"], watched["status"]) == ("exited", 5)
        assert exit_status == EXIT_STATUS[report["verdict"]["status"]]
    else:
        assert (watched["ended"], watched["status"]) == ("killed", signal.SIGINT)
        assert exit_status == 130


def test_a_kvm_request_on_another_device_is_not_recorded(start: Start, tmp_path: Path, kvm_device: str) -> None:
    code = f"""
try:
    fcntl.ioctl(os.open("/dev/null", os.O_RDWR), {REQUESTS["KVM_CREATE_VM"]}, 0)
except OSError:
    pass
"""
    process = start("--", *vmm(code))
    end(process)
    assert names(read_report(tmp_path)) == []
