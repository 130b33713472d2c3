"""`kvmprobe watch`: commands that run to their end."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.host.kvm import REQUESTS
from tests.helpers.run_kvmprobe import PROJECT, kvmprobe
from tests.helpers.watched_calls import CALLS, check_report
from tests.helpers.watching import names, qemu, vmm, watch

ONE_VM = vmm("vm()")


def test_qemu_to_its_end(tmp_path: Path, host_report: Any) -> None:
    command = qemu(tmp_path)
    report, done = watch(tmp_path, "--", *command)
    check_report(report)
    evidence, watched = report["evidence"], report["evidence"]["watch"]
    assert names(report) == [*CALLS, "KVM_RUN"]
    assert report["verdict"]["reason"] == host_report["verdict"]["reason"]
    assert (
        done.returncode
        == {"confirmed": 0, "failed": 1, "inconclusive": 3, "not applicable": 4}[report["verdict"]["status"]]
    )
    assert (watched["command"], watched["ended"], watched["status"]) == (command, "exited", 33)
    assert [snapshot["phase"] for snapshot in evidence["snapshots"]] == ["before", "created", "closed"]
    assert evidence["ioctls"] == {"KVM_GET_API_VERSION": 12, "KVM_CREATE_VM": 0, "KVM_CHECK_EXTENSION": {}}
    assert {call["pid"] for call in watched["calls"]} == {watched["pid"]}
    assert watched["calls"][-1]["tid"] != watched["pid"]  # QEMU runs a vCPU in its own thread.
    for event in evidence["uevents"]["events"]:
        assert event["ours"] or event["pid"] != watched["pid"]
    assert "after its first successful KVM_RUN are not watched" in watched["limits"][0]
    checks = {check["id"]: check for check in report["checks"]}
    assert re.search(r"KVM_RUN = 0 \(KVM_EXIT_\w+\) in qemu", checks["guest"]["message"])
    assert checks["watched"]["status"] == "pass"


def test_qemu_that_does_not_run_its_guest(tmp_path: Path) -> None:
    command = qemu(tmp_path, "-S", "-monitor", "stdio")
    report, done = watch(tmp_path, "--exit-status", "command", "--", *command, input="quit\n")
    check_report(report)
    assert names(report) == CALLS
    assert done.returncode == 0
    assert "QEMU" in done.stdout  # Its monitor.
    assert report["evidence"]["watch"]["limits"] == []


def test_kvmprobes_own_guest_and_ptrace_agree(tmp_path: Path, host_report: Any) -> None:
    report, _ = watch(tmp_path)
    check_report(report)
    watched = report["evidence"]["watch"]
    assert watched["own"]
    assert names(report) == [*CALLS, "KVM_RUN"]
    assert watched["said"]["ioctls"]["KVM_CREATE_VM"] == 0
    assert report["evidence"]["guest"] == watched["said"]["guest"]
    runs = [[{**run, "us": 0} for run in one["evidence"]["guest"]] for one in (report, host_report)]
    assert runs[0] == runs[1]  # apart from how long they took
    assert report["verdict"] == host_report["verdict"]
    assert {check["id"]: check["status"] for check in report["checks"]}["watched"] == "pass"


def test_a_command_that_does_not_use_kvm(tmp_path: Path) -> None:
    report, _ = watch(tmp_path, "--", "sh", "-c", "exit 7")
    check_report(report)
    checks = {check["id"]: check for check in report["checks"]}
    assert names(report) == []
    assert checks["watched"]["status"] == "skip"
    assert "it exited with status 7" in checks["watched"]["message"]
    assert report["verdict"]["status"] != "confirmed"
    assert [snapshot["phase"] for snapshot in report["evidence"]["snapshots"]] == ["before"]


def test_a_command_that_does_not_use_kvm_has_the_verdict_of_a_passive_probe(tmp_path: Path, kvm_device: str) -> None:
    """KVM answers here through a backend without SVM, or is kvm_amd: in both cases nobody asked for a VM."""
    passive = json.loads(kvmprobe("check", "--passive", "--json").stdout)["verdict"]
    report, done = watch(tmp_path, "--", "true")
    if passive["reason"] != "kvm-without-svm":
        pytest.skip("this host has SVM")
    assert report["verdict"]["reason"] == "kvm-without-svm"
    assert done.returncode == 4


@pytest.mark.parametrize(("whose", "status"), [("command", 128 + 9), ("verdict", None)])
def test_death_by_signal(whose: str, status: int | None, tmp_path: Path, kvm_device: str) -> None:
    command = vmm("fds = vm(); os.kill(os.getpid(), signal.SIGKILL)")
    report, done = watch(tmp_path, "--exit-status", whose, "--", *command)
    check_report(report)
    watched = report["evidence"]["watch"]
    assert (watched["ended"], watched["status"]) == ("killed", 9)
    assert names(report) == CALLS
    assert done.returncode == (status or {"confirmed": 0, "not applicable": 4}[report["verdict"]["status"]])


def test_a_program_that_is_executed_is_followed(tmp_path: Path, kvm_device: str) -> None:
    report, _ = watch(tmp_path, "--", "sh", "-c", 'exec env "$@"', "sh", *ONE_VM)
    check_report(report)
    watched = report["evidence"]["watch"]
    assert {call["pid"] for call in watched["calls"]} == {watched["pid"]}
    assert names(report) == CALLS
    assert watched["processes"] == 1


def test_a_program_that_a_thread_executes_is_followed(tmp_path: Path, kvm_device: str) -> None:
    """The kernel ends all other threads, and the remaining one gets the number of the first."""
    code = "import json; command = json.loads(sys.argv[1]); vm()\n"
    code += "threading.Thread(target=lambda: os.execv(command[0], command)).start(); time.sleep(60)"
    report, _ = watch(tmp_path, "--", *vmm(code), json.dumps(ONE_VM))
    check_report(report)
    assert names(report) == CALLS * 2
    assert report["evidence"]["watch"]["ended"] == "exited"


def test_threads_and_children_are_followed(tmp_path: Path, kvm_device: str) -> None:
    code = """
def work():
    threads = [threading.Thread(target=lambda: close(vm())) for _ in range(3)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
for child in range(3):
    if os.fork() == 0:
        work()
        os._exit(0)
while True:
    try:
        assert os.wait()[1] == 0
    except ChildProcessError:
        break
work()
"""
    report, done = watch(tmp_path, "--exit-status", "command", "--", *vmm(code))
    check_report(report)
    watched = report["evidence"]["watch"]
    assert done.returncode == 0
    assert watched["processes"] == 4
    created = [call for call in watched["calls"] if call["name"] == "KVM_CREATE_VM"]
    assert len(created) == 12 == len({call["tid"] for call in created})
    assert len({call["pid"] for call in created}) == 4
    assert all(isinstance(call["answer"], int) for call in created)
    tids = {call["tid"] for call in watched["calls"]}
    for event in report["evidence"]["uevents"]["events"]:
        assert event["ours"] == (event["pid"] in tids)  # Other processes may create VMs meanwhile.


def test_the_answer_of_a_call_is_that_of_the_kernel(tmp_path: Path, kvm_device: str) -> None:
    """KVM_GET_API_VERSION requires the argument 0, KVM_CREATE_VM a known type."""
    code = """
device = os.open("/dev/kvm", os.O_RDWR)
for name, argument in (("KVM_GET_API_VERSION", 1), ("KVM_CREATE_VM", 0x7FFFFFF1), ("KVM_CREATE_VM", 0)):
    try:
        fcntl.ioctl(device, REQUESTS[name], argument)
    except OSError as error:
        print(name, error.errno, flush=True)
"""
    report, done = watch(tmp_path, "--", *vmm(code))
    check_report(report)
    calls = report["evidence"]["watch"]["calls"]
    failed = [call for call in calls if isinstance(call["answer"], dict)]
    answers = [f"{call['name']} {getattr(errno, call['answer']['error'])}" for call in failed]
    assert answers == done.stdout.splitlines()
    assert [call["argument"] for call in calls] == ["0x1", "0x7ffffff1", "0x0"]
    assert report["evidence"]["ioctls"]["KVM_CREATE_VM"] == 0  # The first that succeeded.


def test_a_report_does_not_grow_with_what_is_watched(tmp_path: Path, kvm_device: str) -> None:
    report, _ = watch(tmp_path, "--", *vmm("for _ in range(70): close(vm())"))
    check_report(report)
    watched = report["evidence"]["watch"]
    assert sum(call["name"] == "KVM_CREATE_VM" for call in watched["calls"]) == 64
    pattern = r"KVM_CREATE_VM was called (\d+) times, the first 64 calls are kept"
    counts = re.findall(pattern, "\n".join(watched["limits"]))
    assert [int(count) >= 70 for count in counts] == [True]


def elf32(code: bytes) -> bytes:
    """Return a static 32-bit program."""
    base, head = 0x08048000, 52 + 32
    ehdr = struct.pack(
        "<16sHHIIIIIHHHHHH",
        *(b"\x7fELF\x01\x01\x01", 2, 3, 1, base + head, 52, 0, 0, 52, 32, 1, 0, 0, 0),
    )
    size = head + len(code)
    return ehdr + struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 7, 0x1000) + code


def test_a_32_bit_program_is_watched(tmp_path: Path, kvm_device: str) -> None:
    def call(number: int, *, ecx: int = 0) -> bytes:  # EBX and EDX stay.
        return b"\xb8" + struct.pack("<I", number) + b"\xb9" + struct.pack("<I", ecx) + b"\xcd\x80"

    path = b"/dev/kvm\0"
    code = b"\xe8" + struct.pack("<I", len(path)) + path + b"\x5b"  # call over it, pop ebx
    code += call(5, ecx=os.O_RDWR) + b"\x89\xc3\x31\xd2"  # open; mov ebx, eax; xor edx, edx
    code += call(54, ecx=REQUESTS["KVM_GET_API_VERSION"]) + b"\x89\xc6"  # ioctl; mov esi, eax
    code += call(54, ecx=REQUESTS["KVM_CREATE_VM"]) + b"\x89\xf3" + call(1)  # ioctl; mov ebx, esi; exit
    program = tmp_path / "program"
    program.write_bytes(elf32(code))
    program.chmod(0o755)
    try:
        assert subprocess.run([program], check=False).returncode == 12
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error}")
    report, done = watch(tmp_path, "--exit-status", "command", "--", program)
    check_report(report)
    assert done.returncode == 12
    assert names(report) == CALLS[:2]
    assert report["evidence"]["watch"]["calls"][0]["answer"] == 12
    assert report["evidence"]["ioctls"]["KVM_CREATE_VM"] == 0


def test_the_command_has_what_it_has_without_kvmprobe(tmp_path: Path) -> None:
    """Descriptors, signals, limits: as a command that the same shell starts directly."""
    show = "ls -l /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status; cat; ulimit -a; echo err >&2"
    plain = subprocess.run(["sh", "-c", show], input="in\n", capture_output=True, text=True, check=True)
    _, done = watch(tmp_path, "-q", "--", "sh", "-c", show, input="in\n")
    assert done.stdout == plain.stdout
    assert done.stderr == "err\n"


def test_the_report_follows_the_commands_own_output() -> None:
    done = kvmprobe("watch", "-v", "--", "echo", "--own")
    assert done.stdout.startswith("--own\n")
    assert "it exited with status 0" in done.stdout
    assert "python-ptrace" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--", "/there/is/none"), "/there/is/none cannot be started: No such file"),
        (("--", "there-is-none"), "there-is-none cannot be started: No such file"),
        (("--", "/etc/passwd"), "/etc/passwd cannot be started: Permission denied"),
        (("--",), "no COMMAND after --"),
        (("-p", "1", "--", "true"), "either -p PID or -- COMMAND"),
        (("-p", "4194305"), "-p 4194305: there is no such process"),
        (("-p", "-1"), "there is no such process"),
        (("-p", "qemu"), "invalid int value"),
        (("true",), "unrecognized arguments: true"),
        (("-o", "/there/is/none", "--", "true"), "there is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_wrong_arguments_end_in_a_clear_line(arguments: tuple[str, ...], message: str) -> None:
    done = kvmprobe("watch", *arguments)
    assert message in done.stderr
    assert done.returncode == 64
    assert done.stdout == ""


def test_a_file_that_is_not_a_program(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("text\n")
    path.chmod(0o755)
    done = kvmprobe("watch", "--", path)
    assert done.returncode == 64
    assert f"{path} cannot be started: Exec format error" in done.stderr


def test_without_python_ptrace_a_problem_is_reported() -> None:
    code = "import sys; sys.modules['ptrace'] = None; sys.argv[1:] = ['watch', '--', 'true']\n"
    code += "from kvmprobe.cli.main import entry; entry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert done.returncode == 3
    first, hint = done.stderr.splitlines()
    assert first.startswith("kvmprobe: watch needs python-ptrace, which cannot be used")
    assert "python3-ptrace" in hint


def test_check_does_not_import_python_ptrace() -> None:
    code = "import sys; sys.modules['ptrace'] = None; sys.argv[1:] = ['check', '-q']\n"
    code += "from kvmprobe.cli.main import entry; entry()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=False)
    assert "ptrace" not in done.stderr + done.stdout
    assert kvmprobe("watch", "--help").returncode == 0
