"""Real kernels for the tests, from the lab's usual cache, so that each is downloaded once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kvmprobe.lab import cache, external_programs, guest_program, kernels, payload, qemu
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot, Machine
from kvmprobe.model.errors import Problem
from tests.helpers.real_kernels import Guest, unavailable
from tests.helpers.run_kvmprobe import PROJECT

_DEADLINE_S = 600.0  # generous: other tests keep the CPUs busy
_VERDICT = """\
verdict() { lines=$($kvmprobe "$@" -q); status=$?; echo "$lines" | head -n 1; return $status; }
"""


@pytest.fixture(scope="session")
def real_kernel() -> Callable[[str], Kernel]:
    """A function that returns a Debian kernel by its name, if this machine can boot it; else the test is skipped."""
    known: dict[str, Kernel | Problem] = {}  # a network that fails is not tried again

    def get(name: str) -> Kernel:
        if name not in known:
            known[name] = _fetch(name)
        kernel = known[name]
        if isinstance(kernel, Problem):
            unavailable(kernel)
        return kernel

    return get


def _fetch(name: str) -> Kernel | Problem:
    try:
        external_programs.find("qemu-system-x86_64", "qemu-system-x86")
        return kernels.fetch(kernels.debian(name), cache.default(), lambda line: print(line, file=sys.stderr))
    except Problem as problem:
        return problem


@pytest.fixture
def own_kernel(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> tuple[Path, Path]:
    """A vmlinuz and a module folder as a user has them: those of bookworm."""
    kernel = real_kernel("bookworm")
    external_programs.run(
        *(external_programs.find("busybox", "busybox-static"), "cpio", "-i", "-d", "lib/*"),
        stdin=kernel.initramfs.read_bytes(),
        cwd=tmp_path,
    )
    return kernel.image.with_name("vmlinuz"), tmp_path / "lib/modules" / kernel.release


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that hides all programs but the given ones: only(name="#!/bin/sh…") or only(name=PATH)."""
    monkeypatch.setattr(external_programs, "SBIN", ())

    def hide_others(**programs: str | Path) -> None:
        folder = tmp_path / "programs"
        folder.mkdir()
        for name, program_or_script in programs.items():
            program = folder / name.replace("_", "-")
            if isinstance(program_or_script, Path):
                program.symlink_to(program_or_script)
            else:
                program.write_text(program_or_script)
                program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))

    return hide_others


@pytest.fixture
def guest(real_kernel: Callable[[str], Kernel], tmp_path: Path) -> Guest:
    """A function that runs a script of sh in a guest and returns its stdout.

    In the script $kvmprobe is the program. `verdict ARGUMENT...` runs it, prints only the line with the verdict, and
    has kvmprobe's exit status. The guest has this checkout and `tmp_path` at the same paths.
    """

    def run(
        script: str,
        prepare: Sequence[str] = ("modprobe kvm_amd",),
        kernel: str = "bookworm",
        parameters: str = "",
        deadline: float = _DEADLINE_S,
        devices: tuple[str, ...] = (),
    ) -> str:
        python = guest_program.python(Path("/"))
        kvmprobe = " ".join(python.command("-m", "kvmprobe"))
        added = guest_program.archive(python, payload.LAB, cache.default(), print)
        added += payload.archive(prepare, ["sh", "-c", f'kvmprobe="{kvmprobe}"\n{_VERDICT}{script}'])
        tmp_path.chmod(0o755)  # for the QEMU of root, which becomes nobody
        folders = (*python.folders, PROJECT, tmp_path)
        plan = Boot(
            real_kernel(kernel),
            added,
            Machine(parameters=parameters, devices=devices),
            deadline=deadline,
            folders=folders,
        )
        result = qemu.boot(plan, tmp_path)
        if result.outcome != ANSWERED:  # QEMU itself may fail; our own bug would fail again
            print(result, result.console.read_text(errors="replace"), sep="\n")
            result = qemu.boot(plan, tmp_path)
        assert result.outcome == ANSWERED, result
        assert "Traceback" not in result.stderr
        return result.stdout.decode()

    return run
