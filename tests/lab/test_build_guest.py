"""kvmprobe.pyz and the MAAS script on hosts with only Python: each kernel with its own Debian release's userspace."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from kvmprobe.lab import cache, external_programs, payload, qemu, userspace
from kvmprobe.lab.apt import Apt
from kvmprobe.lab.boot_result import ANSWERED
from kvmprobe.lab.initramfs import Archive
from kvmprobe.lab.kernels import Kernel
from kvmprobe.lab.qemu import Boot
from kvmprobe.lab.scenarios import BY_NAME
from kvmprobe.model.errors import Problem
from tests.helpers.built_files import PINS
from tests.helpers.real_kernels import unavailable
from tests.helpers.run_kvmprobe import DEADLINE_S, PROJECT

pytestmark = pytest.mark.kernel

Host = Callable[..., dict[str, str]]

_READ_ONLY = """
    for mount in / /kvmprobe-lab /lib/modules /etc/modprobe.d; do mount -o remount,bind,ro $mount; done
    mount -o remount,ro /
    for folder in / /tmp /var/tmp /root /kvmprobe-lab; do touch $folder/new 2>/dev/null && echo $folder; done
"""
_NEW = r"find / \( -path /proc -o -path /sys -o -path /dev \) -prune -o -newer /stamp ! -path / -print"
_MODULES = "grep -E '^(msr|cpuid|kvm|kvm_amd) ' /proc/modules | cut -d' ' -f1 | sort"


@pytest.fixture
def host(built: Path, real_kernel: Callable[[str], Kernel], tmp_path: Path) -> Host:
    """A function that boots a suite's kernel and userspace, runs a script of sh in /, and returns its sections.
    `$pyz` in the script is kvmprobe.pyz, `section` begins a section."""

    def run(suite: str, script: str, prepare: Sequence[str] = ("modprobe kvm_amd",)) -> dict[str, str]:
        kernel = real_kernel(suite)
        try:
            home = userspace.fetch(suite, cache.default(), lambda line: print(line, file=sys.stderr))
        except Problem as problem:
            unavailable(problem)
        archive = Archive()
        for name in ("kvmprobe.pyz", "kvmprobe-maas.py"):
            archive.file(f"{payload.LAB}/{name}", (built / name).read_bytes(), 0o755)
        head = 'cd /; pyz="env -i python3 -I /kvmprobe-lab/kvmprobe.pyz"; section() { echo "== $1"; }; touch /stamp\n'
        added = archive.finish() + payload.archive(prepare, ["sh", "-c", head + script])
        for _ in range(2):  # QEMU itself may fail; our own bug would fail again
            result = qemu.boot(Boot(kernel, added, root=home.image), tmp_path)
            if result.outcome == ANSWERED:
                break
        assert result.outcome == ANSWERED, result
        assert "Traceback" not in result.stderr + result.stdout.decode()
        sections = result.stdout.decode().split("== ")[1:]
        return {name: text for name, _, text in (section.partition("\n") for section in sections)}

    return run


@pytest.mark.parametrize(
    ("suite", "python", "reason"),
    [
        ("bullseye", "3.9", "svme-set-by-create-vm"),
        ("bookworm", "3.11", "svme-set-by-create-vm"),
        ("trixie", "3.13", "svme-set-at-module-load"),
    ],
)
def test_a_host_with_only_python(suite: str, python: str, reason: str, host: Host) -> None:
    parts = host(
        suite,
        f"""
        section python; python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
        section libraries; python3 -c 'import pyudev' 2>/dev/null; python3 -c 'import ptrace' 2>/dev/null
        section writable; $pyz --json; section status1; echo $?; section new; {_NEW}
        section setup; {_READ_ONLY}
        section read-only; $pyz --json; section status2; echo $?
        section by-itself; env -i /kvmprobe-lab/kvmprobe.pyz -q
        section modules; {_MODULES}
        section watch; $pyz watch --json
        section user; setpriv --reuid 65534 --regid 65534 --clear-groups $pyz --json; section status3; echo $?
        """,
    )
    assert parts["python"].strip() == python
    for place in ("writable", "read-only"):
        report = json.loads(parts[place])
        assert report["verdict"]["reason"] == reason
        uevents = report["evidence"]["uevents"]
        assert uevents["source"].startswith(f"pyudev {PINS['pyudev']}, ")
        assert [event["event"] for event in uevents["events"] if event["ours"]] == ["create", "destroy"]
        assert [(load["module"], load["unloaded"]) for load in report["evidence"]["loads"]] == [
            ("msr", True),
            ("cpuid", True),
        ]
    assert parts["new"] == ""
    assert parts["setup"] == ""  # nothing can be written
    assert parts["by-itself"].startswith(f"CONFIRMED {reason}: ")
    assert parts["modules"].split() == ["kvm", "kvm_amd"]
    watched = json.loads(parts["watch"])
    assert watched["verdict"]["reason"] == reason
    assert watched["evidence"]["watch"]["source"] == f"python-ptrace {PINS['python-ptrace']}"
    assert json.loads(parts["user"])["verdict"]["reason"] == "kvm-not-permitted"


_MAAS = """
    section output; RESULT_PATH=/result.yaml env -i RESULT_PATH=/result.yaml /kvmprobe-lab/kvmprobe-maas.py
    echo status $?; section result; cat /result.yaml
    section left; ls /tmp
"""


@pytest.mark.parametrize(
    ("scenario", "status", "exit_status"),
    [
        ("not-loaded", "passed", 0),  # the script loads kvm_amd, so the kernel shows whether it can
        ("held-first", "failed", 1),
    ],
)
def test_maas(scenario: str, status: str, exit_status: int, host: Host) -> None:
    parts = host("bookworm", _MAAS, BY_NAME[scenario].prepare)
    found: dict[str, Any] = yaml.safe_load(parts["result"])
    assert found["status"] == status
    assert parts["output"].endswith(f"\nstatus {exit_status}\n")
    verdict = found["results"]
    assert f"{verdict['verdict'].upper()} {verdict['reason']}: {verdict['summary']}\n" in parts["output"]
    assert "->" in parts["output"] or status == "failed"
    reason = {"passed": "svme-set-by-create-vm", "failed": "svm-held-by-another-owner"}[status]
    assert verdict["reason"] == reason
    assert parts["left"] == ""


def test_pythons_that_are_too_old_or_incomplete(built: Path, tmp_path: Path) -> None:
    """Python 2.7, and a Python 3.9 with only a part of the standard library: those of Debian 11."""
    names = [f"{prefix}{version}-minimal" for prefix in ("python", "libpython") for version in ("2.7", "3.9")]
    try:
        apt = Apt("bullseye", tmp_path / "apt")
        apt.update()
        for package in apt.download(names, print):
            external_programs.run(external_programs.find("dpkg-deb", "dpkg"), "-x", package, tmp_path / "root")
    except Problem as problem:
        unavailable(problem)
    for version, message in (
        ("2.7", r"Python 3\.9 or later is needed, and \S+/python2\.7 is 2\.7\n"),
        ("3.9", r"the standard library of \S+/python3\.9 is incomplete .* No module named '\S+'\n  On Debian .*\n"),
    ):
        command = [tmp_path / f"root/usr/bin/python{version}", built / "kvmprobe.pyz"]
        env = {"PYTHONHOME": str(tmp_path / "root/usr")}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=DEADLINE_S, check=False)
        assert done.returncode == 3, done.stderr
        assert re.fullmatch(f"kvmprobe: {message}", done.stderr), done.stderr


def test_the_same_bytes_from_another_python(built: Path, tmp_path: Path) -> None:
    """Debian 13's Python in a chroot without a network makes the same files. pip finds the wheels in a folder."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    try:
        root = userspace.fetch("trixie", cache.default(), print).root
    except Problem as problem:
        unavailable(problem)
    wheels = tmp_path / "wheels"
    pins = PROJECT / "scripts/distribution/requirements.txt"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "-r", str(pins)]
    subprocess.run([*pip, "-d", str(wheels)], check=True, capture_output=True, timeout=DEADLINE_S)
    import pip as module

    script = """
        set -e; mount -t tmpfs none $root/mnt; cd $root/mnt; mkdir project wheels pip to
        mount --bind $project project; mount --bind $wheels wheels; mount --bind $pip pip; mount --bind $to to
        mount -t tmpfs none $root/tmp; mount --bind /dev $root/dev; cd /
        export PYTHONPATH=/mnt/pip PYTHONDONTWRITEBYTECODE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels
        exec chroot $root /usr/bin/python3.13 /mnt/project/scripts/distribution /mnt/to
    """
    to = tmp_path / "to"
    to.mkdir()
    folders = {"root": root, "project": PROJECT, "wheels": wheels, "pip": Path(module.__path__[0]).parent, "to": to}
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **{name: str(path) for name, path in folders.items()}}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    made, wanted = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (to, built)
    )
    assert made == wanted
