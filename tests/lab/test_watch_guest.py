"""`kvmprobe watch` where KVM uses SVM: QEMU until its end and kvmprobe's own guest, on each of the kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.lab import cache, payload, program, qemu
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.outcome import ANSWERED
from kvmprobe.lab.qemu import Boot, Machine
from tests.test_watch import CALLS, check_report
from tests.watching import names
from tests.watching import qemu as vmm

pytestmark = pytest.mark.kernel

OFF, ON = {"0xd01"}, {"0x1d01"}


def efer(seen: Any) -> set[str]:
    return {registers["EFER"] for registers in seen.values()}


def run(kernel: Kernel, script: str, logs: Path) -> str:
    python = program.python(Path("/"))
    kvmprobe = " ".join(python.command("-m", "kvmprobe"))
    added = program.archive(python, payload.LAB, cache.default(), print)
    added += payload.archive(["modprobe kvm_amd"], ["sh", "-c", f'kvmprobe="{kvmprobe}"\n{script}'])
    # A VM in a TCG guest sometimes hangs where each CPU has a thread.
    plan = Boot(kernel, added, Machine(threads="single"))
    result = qemu.boot(plan, logs)
    if result.outcome != ANSWERED:  # QEMU itself may fail; a defect of ours would fail again
        print(result, result.console.read_text(errors="replace"), sep="\n")
        result = qemu.boot(plan, logs)
    assert result.outcome == ANSWERED, result
    assert "Traceback" not in result.stderr
    return result.stdout.decode()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bullseye", "svme-set-by-create-vm"),
        ("bookworm", "svme-set-by-create-vm"),
        ("trixie", "svme-set-at-module-load"),
        ("trixie-backports", "svme-set-at-module-load"),
    ],
)
def test_qemu_and_the_own_guest(
    name: str, reason: str, real_kernel: Callable[[str], Kernel], tmp_path: Path
) -> None:
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
    output = run(real_kernel(name), script, tmp_path)
    first, second, _, *rest = output.splitlines()
    assert (first, second) == ("status 0", "status 0"), output
    assert rest[-1] == "0"  # what was borrowed went back
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
    assert (reports[0]["evidence"]["watch"]["ended"], reports[0]["evidence"]["watch"]["status"]) == ("exited", 33)


def _split(text: str) -> list[str]:
    """JSON texts, one after the other."""
    decoder, texts, at = json.JSONDecoder(), [], 0
    while at < len(text):
        _, end = decoder.raw_decode(text, at)
        texts.append(text[at:end])
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return texts
