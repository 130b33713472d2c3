"""`kvmprobe watch` on real kernels with SVM: it watches QEMU, and kvmprobe's own guest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab import guest_program
from tests.helpers.real_kernels import Guest
from tests.helpers.watched_calls import CALLS, check_report
from tests.helpers.watching import VMM, names
from tests.helpers.watching import qemu as vmm

pytestmark = pytest.mark.kernel

OFF, ON = {"0xd01"}, {"0x1d01"}


def efer(cpus: Any) -> set[str]:
    return {registers["EFER"] for registers in cpus.values()}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bullseye", "svme-set-by-create-vm"),
        ("bookworm", "svme-set-by-create-vm"),
        ("trixie", "svme-set-at-module-load"),
        ("trixie-backports", "svme-set-at-module-load"),
    ],
)
def test_qemu_and_kvmprobes_own_guest(name: str, reason: str, guest: Guest, tmp_path: Path) -> None:
    command = vmm(tmp_path)
    rom = (tmp_path / "exit.rom").read_bytes()
    escaped = "".join(f"\\{byte:03o}" for byte in rom.rstrip(b"\0"))
    script = f"""
        dd if=/dev/zero of=/rom bs=512 count=1 2>/dev/null
        printf '{escaped}' | dd of=/rom conv=notrunc 2>/dev/null
        printf '\\{rom[-1]:03o}' | dd of=/rom bs=1 seek=511 conv=notrunc 2>/dev/null
        $kvmprobe watch --json -o /qemu -- {" ".join(command).replace(str(tmp_path / "exit.rom"), "/rom")}
        echo status $?
        $kvmprobe watch --json -o /own; echo status $?
        echo; cat /qemu; echo; cat /own
        grep -c '^msr ' /proc/modules
    """
    output = guest(script, kernel=name)
    first, second, _, *rest = output.splitlines()
    assert (first, second) == ("status 0", "status 0"), output
    assert rest[-1] == "0"  # the temporarily loaded modules are unloaded
    reports = [json.loads(text) for text in _split("\n".join(rest[:-1]))]
    for report in reports:
        check_report(report)
        assert report["verdict"]["reason"] == reason
        assert names(report) == [*CALLS, "KVM_RUN"]
        version, create, vcpu, ran = report["evidence"]["watch"]["calls"]
        before, created = (OFF, ON) if reason == "svme-set-by-create-vm" else (ON, ON)
        assert efer(version["entry"]) == efer(version["exit"]) == efer(create["entry"]) == before
        assert efer(create["exit"]) == efer(vcpu["exit"]) == efer(ran["exit"]) == created
        assert {registers["VM_CR"] for registers in create["exit"].values()} == {"0x0"}
        phases = [efer(snapshot["cpus"]) for snapshot in report["evidence"]["snapshots"]]
        assert phases == [before, created, before]
        assert len(create["entry"]) == 2
        assert all(event["ours"] for event in report["evidence"]["uevents"]["events"])
        assert {check["id"]: check["status"] for check in report["checks"]}["watched"] == "pass"
        assert ran["exit_reason"] in ("KVM_EXIT_IO", "KVM_EXIT_MMIO")
    assert (reports[0]["evidence"]["watch"]["ended"], reports[0]["evidence"]["watch"]["status"]) == ("exited", 33)


def test_commands_without_a_vm_killed_attached_and_refused(guest: Guest, tmp_path: Path) -> None:
    """No VM at all, a command killed with a VM, a VM that stays, SVM held by another owner."""
    python = " ".join(guest_program.python(Path("/")).command())
    script = f"""
        watch() {{ name=$1; shift; $kvmprobe watch --json -o /$name "$@"; echo $name $? >>/status; }}
        cat >/kvmprobe-lab/vmm.py <<END
{VMM}
END
        watch none -- sh -c 'exit 7'
        watch killed -- {python} -c 'from vmm import *; vm(); os.kill(os.getpid(), 9)'
        mkfifo /go
        {python} -c 'from vmm import *; open("/go").read(); vm(); open("/made", "w"); time.sleep(60)' & vmm=$!
        watch alive -p $vmm 2>/messages & watch=$!
        until grep -q "watching $vmm" /messages; do sleep 0.2; done
        echo >/go; until [ -e /made ]; do sleep 0.2; done
        kill -TERM $(grep TracerPid /proc/$vmm/status | cut -f2); wait $watch
        kill -9 $vmm; wait
        modprobe msr; echo on >/sys/module/msr/parameters/allow_writes
        printf '\\001\\035\\0\\0\\0\\0\\0\\0' | dd of=/dev/cpu/1/msr bs=8 oflag=seek_bytes seek=3221225600 2>/dev/null
        watch held -- {python} -c 'from vmm import *; vm()' 2>/dev/null
        watch held-own
        echo 3 >/proc/sys/kernel/yama/ptrace_scope
        $kvmprobe watch -- true 2>/yama; echo yama $? >>/status
        grep -q 'refuses to let kvmprobe trace its own child: Operation not permitted' /yama || cat /yama
        cat /status; for name in none killed alive held held-own; do cat /$name; echo; done
    """
    output = guest(script, kernel="bookworm")
    lines = output.splitlines()
    reports = dict(zip(("none", "killed", "alive", "held", "held-own"), map(json.loads, _split("\n".join(lines[6:])))))
    for report in reports.values():
        check_report(report)
    verdicts = {name: report["verdict"] for name, report in reports.items()}
    assert verdicts["none"]["reason"] == "vm-not-created"
    assert verdicts["none"]["summary"] == "the command did not call KVM_CREATE_VM; it exited with status 7"
    assert verdicts["killed"]["reason"] == verdicts["alive"]["reason"] == "svme-set-by-create-vm"
    assert [efer(snapshot["cpus"]) for snapshot in reports["killed"]["evidence"]["snapshots"]] == [OFF, ON, OFF]
    assert [efer(snapshot["cpus"]) for snapshot in reports["alive"]["evidence"]["snapshots"]] == [OFF, ON]
    assert {check["id"]: check["status"] for check in reports["alive"]["checks"]}["release"] == "skip"
    assert verdicts["held"]["reason"] == verdicts["held-own"]["reason"] == "svm-held-by-another-owner"
    assert sorted(lines[:6]) == ["alive 143", "held 1", "held-own 1", "killed 0", "none 3", "yama 3"]


def test_a_vm_without_memory_is_no_guest_that_ran(guest: Guest) -> None:
    """KVM_RUN returns 0 there, and the guest executed no instruction. SVME was set before, so nothing is confirmed.

    Before 6.12 KVM_RUN fails there."""
    python = " ".join(guest_program.python(Path("/")).command())
    script = f"""
        cat >/kvmprobe-lab/vmm.py <<END
{VMM}
END
        $kvmprobe watch --json -o /report -- {python} -c 'from vmm import *; ask(vm()[2], "KVM_RUN")'
        echo status $?; cat /report
    """
    status, text = guest(script, kernel="trixie").split("\n", 1)
    report = json.loads(text)
    check_report(report)
    run = report["evidence"]["watch"]["calls"][-1]
    assert (run["name"], run["answer"], run["exit_reason"]) == ("KVM_RUN", 0, "KVM_EXIT_INTERNAL_ERROR")
    assert (report["verdict"]["reason"], status) == ("guest-not-run", "status 3")


def test_other_probes_while_one_watches(guest: Guest, tmp_path: Path) -> None:
    """All probes use the temporarily loaded modules. The one that loaded them unloads them when nothing uses them."""
    script = """
        msr() { grep -c '^msr ' /proc/modules; }
        $kvmprobe watch -q -o /first -- sleep 50 & first=$!
        until [ "$(msr)" = 1 ]; do sleep 0.2; done
        $kvmprobe watch -q -o /second -- sleep 10 & second=$!
        verdict check | cut -d: -f1
        kill -0 $first && echo during; msr
        kill -TERM $first; wait $first; msr; wait $second; head -n 1 /second | cut -d: -f1
    """
    output = guest(script, kernel="bookworm")
    assert output.splitlines() == ["CONFIRMED svme-set-by-create-vm", "during", "1", "0", "INCONCLUSIVE vm-not-created"]


def _split(text: str) -> list[str]:
    """Splits JSON texts that follow each other."""
    decoder, texts, at = json.JSONDecoder(), [], 0
    while at < len(text):
        _, end = decoder.raw_decode(text, at)
        texts.append(text[at:end])
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return texts


def test_threads_that_end_before_ptrace_reports_them(guest: Guest) -> None:
    """Here kvmprobe has another child, so a wait for any child never ends with ECHILD."""
    output = guest(
        """
        $kvmprobe watch -q -- python3 -S -c '
import _thread, time
for _ in range(300):
    lock = _thread.allocate_lock(); lock.acquire()
    _thread.start_new_thread(lock.release, ()); lock.acquire()
'; echo status $?
        """
    )
    assert output.splitlines()[-1] == "status 3"
