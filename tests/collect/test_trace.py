"""`kvmprobe trace`: the lines of a trace, recorded traces of real kernels, and the real tracefs of this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kvmprobe.collect.trace import trace_lines
from kvmprobe.formats import text
from kvmprobe.judge import judge
from kvmprobe.model import kernel_steps
from tests.helpers.recorded_evidence import recorded

TRACE = """\
# tracer: function
#           TASK-PID     CPU#     TIMESTAMP  FUNCTION
         python3-126     [001]      8.799111: kvm_dev_ioctl <-__x64_sys_ioctl
         python3-126     [001]      8.800000: tracing_mark_write: kvmprobe: create
         python3-126     [001] .....      8.803940: kvm_dev_ioctl <-__x64_sys_ioctl
 we-ird [0] name-99     [000] d..1.      8.805158: svm_hardware_enable.isra.0 <-0xffffffffc0500a94
          <idle>-0       [000] d.h1.      8.805960: write_msr: c0000080, value 1d01
CPU:1 [LOST 7 EVENTS]
          <...>-7       (-------) [1023] d.h1.      8.805961: write_msr: c0010117, value 3fe84000 #GP
         python3-126     [001]      8.9: tracing_mark_write: kvmprobe: alive
         python3-126     [001]      8.95: kvm_dev_ioctl <-__x64_sys_ioctl
         python3-126     [001]      8.96: write_msr: 123, value 0
"""


def test_each_line_of_a_trace_becomes_an_entry() -> None:
    found = list(trace_lines.parse_trace(TRACE))
    assert [(e["phase"], e["cpu"], e["task"], e["pid"]) for e in found] == [
        ("create", 1, "python3", 126),
        ("create", 0, "we-ird [0] name", 99),
        ("create", 0, "<idle>", 0),
        ("create", 1023, "<...>", 7),
        ("alive", 1, "python3", 126),
    ]
    assert [(e["function"], e["caller"]) for e in found[:2]] == [
        ("kvm_dev_ioctl", "__x64_sys_ioctl"),
        ("svm_hardware_enable.isra.0", "0xffffffffc0500a94"),
    ]
    assert [(e["register"], e["value"]) for e in found[2:]] == [
        ("EFER", "0x1d01"),
        ("VM_HSAVE_PA", {"error": "#GP"}),
        ("0x123", "0x0"),
    ]


def test_a_step_has_several_names_and_a_compilers_suffix_is_ignored() -> None:
    step = kernel_steps.step_of("svm_enable_virtualization_cpu")
    assert step is not None
    assert step is kernel_steps.step_of("svm_hardware_enable.isra.0")
    assert kernel_steps.step_of("svm_vcpu_run") is None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "bookworm-create",
            (
                "KVM_CREATE_VM in the kernel's trace",
                "  kvm_dev_ioctl  (python3[",
                "    hardware_enable_nolock",
                "      kvm_arch_hardware_enable",
                "        svm_hardware_enable",
                "          wrmsr EFER 0x1d01",
                "          wrmsr VM_HSAVE_PA a page of its own",
                "not traceable in this kernel (inlined, renamed or absent): ",
                "kvm_create_vm, hardware_enable_all",
                "Closing the VM in the kernel's trace",
                "wrmsr EFER 0xd01",
            ),
        ),
        (
            "trixie-backports-load",
            (
                "Loading kvm_amd in the kernel's trace",
                "  svm_init  (modprobe[",
                "    kvm_arch_enable_virtualization_cpu  (cpuhp thread)",
                "        svm_enable_virtualization_cpu",
                "wrmsr EFER 0x1d01",
                "KVM_CREATE_VM in the kernel's trace",
                "not called: kvm_arch_enable_virtualization_cpu",
            ),
        ),
    ],
)
def test_the_text_shows_the_kernels_call_chain(name: str, parts: tuple[str, ...]) -> None:
    shown = text.render(judge(recorded(f"trace/{name}")), text.ALL_CHECKS)
    at = 0
    for part in parts:
        at = shown.find(part, at)
        assert at >= 0, f"{part!r} is missing or not in its place:\n{shown}"


def test_cpus_with_the_same_calls_fold_into_one() -> None:
    evidence = recorded("trace/bookworm-create")
    # cpu2 to cpu63 get the entries of cpu0, which an interrupt makes different from those of cpu1.
    for entry in [e for e in evidence["trace"]["entries"] if e["cpu"] == 0]:
        evidence["trace"]["entries"] += [{**entry, "cpu": cpu} for cpu in range(2, 64)]
    folded = text.render(judge(evidence), text.ALL_CHECKS).splitlines()
    assert sum("wrmsr EFER 0x1d01" in line for line in folded) == 2
    assert any("cpu0,2-63" in line for line in folded)
    every_cpu = text.render(judge(evidence), text.EVERYTHING).splitlines()
    assert sum("wrmsr EFER 0x1d01" in line for line in every_cpu) == 64


def test_a_call_chain_without_end_is_cut() -> None:
    """As an evidence file may contain it."""
    evidence = recorded("trace/bookworm-create")
    entry = next(e for e in evidence["trace"]["entries"] if e["function"])
    evidence["trace"]["entries"] = [{**entry, "function": f"f{n}", "caller": f"f{n - 1}"} for n in range(5000)]
    assert len(text.render(judge(evidence), text.ALL_CHECKS)) < 1_000_000


# On this host.

_PROGRAM = (sys.executable, "-m", "kvmprobe", "trace")


def mounts() -> str:
    return Path("/proc/self/mounts").read_text()


def traced(*arguments: str, shell: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run kvmprobe trace in its own mount namespace, after the lines of `shell`."""
    command = ["unshare", "-m", "sh", "-c", f'{shell}\nexec "$@"', "sh", *_PROGRAM, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.fixture
def tracefs(tmp_path: Path) -> str:
    """Lines of sh that mount tracefs in the mount namespace of one program."""
    if os.geteuid() != 0:
        pytest.skip("only root may use tracefs")
    lines = f"umount /sys/kernel/tracing 2>/dev/null; mount -t tracefs tracefs {tmp_path}"
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"({lines}) && ls {tmp_path}/instances"], capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip(f"no tracefs here: {probe.stderr.decode().strip()}")
    return lines


def test_without_tracefs_a_problem_is_reported() -> None:
    done = traced(shell="umount /sys/kernel/tracing 2>/dev/null; true")
    assert done.returncode == 3
    assert done.stderr.startswith("kvmprobe: ")
    assert len(done.stderr.splitlines()) == 2
    assert not done.stdout


def test_the_mounts_of_the_machine_do_not_change(tracefs: str) -> None:
    before = mounts()
    done = traced("--mount", "--json", shell="umount /sys/kernel/tracing 2>/dev/null")
    assert "Traceback" not in done.stderr
    evidence = json.loads(done.stdout)["evidence"]
    assert evidence["trace"]["writes_visible"] or evidence["trace"]["limits"]
    assert mounts() == before


def test_an_ordinary_user_gets_a_clear_line() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    done = traced("--mount", shell='set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$@"')
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_at_any_moment_leaves_no_instance(tracefs: str, tmp_path: Path, signum: signal.Signals) -> None:
    """The folder is listed in the same mount namespace, as soon as the child has removed the instance."""
    script = (
        f"{tracefs}\n"
        "for moment in 0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4 0.5; do\n"
        f'  "$@" >/dev/null 2>&1 & probe=$!; sleep $moment; kill -{int(signum)} $probe 2>/dev/null; wait $probe\n'
        "done\n"
        f'for try in $(seq 100); do [ -z "$(ls {tmp_path}/instances | grep kvmprobe)" ] && break; sleep 0.1; done\n'
        f"ls {tmp_path}/instances"
    )
    started = time.monotonic()
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "sh", *_PROGRAM],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "kvmprobe" not in done.stdout, f"after {time.monotonic() - started:.1f} s"
