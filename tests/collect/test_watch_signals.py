"""`kvmprobe watch`: job control, the terminal, signals, attaching. No tracee is left stopped, however it ends."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host.kvm import REQUESTS
from kvmprobe.model.errors import EXIT_INCONCLUSIVE
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT, kvmprobe
from tests.helpers.watching import VMM, is_free, names, qemu, start, status, until, vmm

# Answers each line with a VM made and one more line.
_SERVER = """
print(os.getpid(), flush=True)
kept = []
for line in sys.stdin:
    kept.append(vm())
    print("made", flush=True)
"""
_STOPS = """
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print("went on", flush=True)
"""


def read_report(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "report.json").read_text())


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], text: str) -> str:
    """Sends a line and gives the answer."""
    assert process.stdin is not None
    process.stdin.write(f"{text}\n")
    process.stdin.flush()
    return line(process)


def attach(tmp_path: Path, pid: int) -> subprocess.Popen[str]:
    """A `kvmprobe watch -p` that sees all calls of this process from now on."""
    process = start(tmp_path, "-p", str(pid))
    assert process.stderr is not None
    assert process.stderr.readline() == f"kvmprobe: watching {pid}; Ctrl-C lets go of it and reports\n"
    assert status(pid)["TracerPid"] == str(process.pid)
    return process


def end(process: subprocess.Popen[str]) -> int:
    with process:
        process.communicate(timeout=DEADLINE_S)
    return process.returncode


@pytest.fixture
def server(kvm_device: str) -> Iterator[subprocess.Popen[str]]:
    """A VMM that nobody watches yet."""
    command = [sys.executable, "-c", VMM + _SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT, start_new_session=True
    ) as process:
        assert line(process) == str(process.pid)
        yield process
        process.kill()


def test_a_stop_of_job_control_stays_one(tmp_path: Path) -> None:
    process = start(tmp_path, "--", *vmm(_STOPS))
    pid = int(line(process))
    assert until(lambda: status(pid)["State"][0] in "tT")
    time.sleep(0.3)
    assert status(pid)["State"][0] in "tT"
    os.kill(pid, signal.SIGCONT)
    assert line(process) == "went on"
    end(process)
    assert read_report(tmp_path)["evidence"]["watch"]["ended"] == "exited"


def test_stopped_by_somebody_else_and_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "--", *vmm(_STOPS))
    pid = int(line(process))
    assert until(lambda: status(pid)["State"][0] in "tT")
    os.kill(pid, signal.SIGKILL)
    end(process)
    watched = read_report(tmp_path)["evidence"]["watch"]
    assert (watched["ended"], watched["status"]) == ("killed", 9)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_is_passed_on(signum: signal.Signals, tmp_path: Path, kvm_device: str) -> None:
    # Whoever runs the tests may ignore it (nohup), and what is ignored stays so.
    usual = {"preexec_fn": lambda: signal.signal(signum, signal.SIG_DFL)}
    process = start(tmp_path, "--", *vmm(f"signal.signal({signum}, signal.SIG_DFL)\n{_SERVER}"), **usual)
    pid = int(line(process))
    assert tell(process, "make") == "made"
    process.send_signal(signum)
    assert end(process) == 128 + signum
    assert not status(pid)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("killed", signum)
    assert "KVM_CREATE_VM" in names(report)


@pytest.mark.parametrize(("signum", "own"), [(signal.SIGINT, None), (signal.SIGTERM, 143)])
def test_a_command_that_handles_the_signal(signum: signal.Signals, own: int | None, tmp_path: Path) -> None:
    process = start(tmp_path, "--", *vmm(f"signal.signal({signum}, lambda *_: os._exit(5))\n{_SERVER}"))
    line(process)
    process.send_signal(signum)
    ended = end(process)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("exited", 5)
    assert ended == (own or {"confirmed": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}[
        report["verdict"]["status"]
    ])  # fmt: skip


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """nohup."""
    code = "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, flush=True)"
    process = start(tmp_path, "--", *vmm(code), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert line(process) == "True"
    end(process)


def test_what_the_command_leaves_behind_is_let_go(tmp_path: Path, kvm_device: str) -> None:
    """A daemon with a VM: kvmprobe waits for it, and a signal makes kvmprobe let go."""
    code = "fds = vm(); first = os.getpid()\n"
    code += "os.fork() or (os.setsid(), print(first, os.getpid(), flush=True), time.sleep(60))"
    process = start(tmp_path, "--", *vmm(code))
    first, daemon = map(int, line(process).split())
    assert until(lambda: not status(first))
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


def test_attach_and_let_go(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    process = attach(tmp_path, server.pid)
    assert tell(server, "make") == "made"
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert is_free(server.pid)
    assert tell(server, "make") == "made"
    report = read_report(tmp_path)
    watched = report["evidence"]["watch"]
    assert names(report) == ["KVM_GET_API_VERSION", "KVM_CREATE_VM", "KVM_CREATE_VCPU"]
    assert (watched["ended"], watched["pid"], watched["command"]) == ("detached", server.pid, None)
    assert [snapshot["phase"] for snapshot in report["evidence"]["snapshots"]] == ["before", "created"]
    checks = {check["id"]: check["message"] for check in report["checks"]}
    assert "it runs on" in checks["watched"]
    assert ended == {"confirmed": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}[report["verdict"]["status"]]


def test_attached_until_its_end(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    process = attach(tmp_path, server.pid)
    assert tell(server, "make") == "made"
    assert server.stdin is not None
    server.stdin.close()
    end(process)
    report = read_report(tmp_path)
    assert (report["evidence"]["watch"]["ended"], report["evidence"]["watch"]["status"]) == ("exited", 0)
    assert report["evidence"]["snapshots"][-1]["phase"] == "closed"


def test_attach_to_a_running_qemu_and_let_go(tmp_path: Path) -> None:
    """All of its threads, among them one that waits in the kernel."""
    command = qemu(tmp_path, "-S", "-qmp", "stdio")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert "QMP" in line(running)
        process = attach(tmp_path, running.pid)
        tids = os.listdir(f"/proc/{running.pid}/task")
        assert len(tids) > 1
        assert {status(int(tid))["TracerPid"] for tid in tids} == {str(process.pid)}
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert end(process) == 128 + signal.SIGTERM
        assert all(is_free(int(tid)) for tid in tids)
        assert "return" in tell(running, '{"execute": "qmp_capabilities"}')
        running.stdin.write('{"execute": "quit"}\n')  # type: ignore[union-attr]
        running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 0
    report = read_report(tmp_path)
    assert report["evidence"]["ioctls"]["KVM_CREATE_VM"] is None
    assert report["verdict"]["status"] != "confirmed"


def test_attach_to_a_stopped_process_leaves_it_stopped(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    assert until(lambda: status(server.pid)["State"][0] == "T")
    process = attach(tmp_path, server.pid)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    end(process)
    fields = status(server.pid)
    assert (fields["State"][0], fields["TracerPid"]) == ("T", "0")
    os.kill(server.pid, signal.SIGCONT)
    assert tell(server, "make") == "made"


def test_refused_because_somebody_traces_it(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    first = attach(tmp_path, server.pid)
    second = kvmprobe("watch", "-q", "-p", str(server.pid))
    assert second.returncode == EXIT_INCONCLUSIVE
    assert f"traced already, by {status(first.pid)['Name']}[{first.pid}]" in second.stderr
    first.send_signal(signal.SIGINT)
    end(first)
    assert is_free(server.pid)


def test_refused_for_lack_of_rights() -> None:
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("only root can become another user (setpriv, of util-linux)")
    command = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "--", "sleep", "60"]
    with subprocess.Popen(command) as other:
        assert until(lambda: status(other.pid)["Name"] == "sleep")
        done = subprocess.run(
            [
                setpriv,
                "--bounding-set=-sys_ptrace",
                "--",
                sys.executable,
                "-m",
                "kvmprobe",
                "watch",
                "-p",
                str(other.pid),
            ],
            capture_output=True,
            text=True,
            cwd=PROJECT,
            check=False,
        )
        assert is_free(other.pid)
        other.kill()
    assert done.returncode == EXIT_INCONCLUSIVE
    assert f"-p {other.pid}: the kernel refuses to attach: Operation not permitted" in done.stderr
    assert "it runs as uid 65534, kvmprobe as 0" in done.stderr
    assert "CAP_SYS_PTRACE" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM], ids=lambda signum: signum.name)
def test_no_tracee_is_left_stopped_whenever_kvmprobe_ends(
    signum: signal.Signals, tmp_path: Path, kvm_device: str
) -> None:
    """The command makes VMs for ever in several threads, so that some thread stands at every moment."""
    code = """
def work():
    while True:
        try:
            close(vm())
        except InterruptedError:
            pass  # the kernel's answer to KVM_CREATE_VM where a tracer goes away meanwhile
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print(os.getpid(), flush=True)
time.sleep(60)
"""
    moments = random.Random(signum)
    for _ in range(4):
        process = start(tmp_path, "--", *vmm(code), start_new_session=True)
        pid = int(line(process))
        time.sleep(moments.random() / 3)
        process.send_signal(signum)
        process.wait(DEADLINE_S)
        if signum == signal.SIGTERM:
            assert not status(pid)  # it was passed on
            end(process)
            continue
        tids = os.listdir(f"/proc/{pid}/task")
        assert len(tids) == 4
        assert until(lambda tids=tids: all(is_free(int(tid)) for tid in tids))  # type: ignore[misc]
        before = _cpu_ticks(pid)
        assert until(lambda pid=pid, before=before: _cpu_ticks(pid) > before)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        end(process)


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_killed_kvmprobe_lets_an_attached_process_run_on(tmp_path: Path, server: subprocess.Popen[str]) -> None:
    process = attach(tmp_path, server.pid)
    process.kill()
    end(process)
    assert until(lambda: is_free(server.pid))
    assert tell(server, "make") == "made"


@pytest.mark.parametrize("handles", [True, False], ids=["handled", "deadly"])
def test_ctrl_c_on_the_terminal(handles: bool, tmp_path: Path) -> None:
    """The command has the terminal, gets the signal from it once, and kvmprobe reports after it."""
    code = "count = []\nsignal.signal(signal.SIGINT, lambda *_: count.append(1))\n" if handles else ""
    code += "signal.signal(signal.SIGINT, signal.SIG_DFL)\n" if not handles else ""
    code += "print('tty', sys.stdin.isatty(), sys.stdout.isatty(), flush=True)\ntime.sleep(0.7)\ntime.sleep(0.3)\n"
    code += "print('signals', len(count), flush=True)\nsys.exit(5)"
    report = tmp_path / "report.json"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(PROJECT)
        os.execv(
            sys.executable,
            [sys.executable, "-m", "kvmprobe", "watch", "--json", "-o", str(report), "--", *vmm(code)],
        )
    output = b""
    while b"tty True True" not in output:
        output += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    try:
        while part := os.read(terminal, 1024):
            output += part
    except OSError:
        pass  # EIO: nobody has the terminal any more
    os.close(terminal)
    exit_status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    watched = read_report(tmp_path)["evidence"]["watch"]
    if handles:
        assert b"signals 1" in output
        assert (watched["ended"], watched["status"]) == ("exited", 5)
        assert exit_status in (0, 3, 4)
    else:
        assert (watched["ended"], watched["status"]) == ("killed", signal.SIGINT)
        assert exit_status == 130


def test_requests_are_named_as_in_kvm_py(tmp_path: Path, kvm_device: str) -> None:
    """A request of KVM's on a descriptor that is not KVM's is nobody's."""
    code = f"""
try:
    fcntl.ioctl(os.open("/dev/null", os.O_RDWR), {REQUESTS["KVM_CREATE_VM"]}, 0)
except OSError:
    pass
"""
    process = start(tmp_path, "--", *vmm(code))
    end(process)
    assert names(read_report(tmp_path)) == []
