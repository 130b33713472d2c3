"""--passive on this host: /dev/kvm is not opened. How such evidence is judged: tests/judge/test_passive_evidence.py."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from kvmprobe.model.json_schema import report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.run_kvmprobe import kvmprobe


def test_a_passive_probe_of_this_host_creates_no_vm() -> None:
    done = kvmprobe("--passive", "--json")
    report = json.loads(done.stdout)
    jsonschema.validate(report, report_schema())
    assert report["evidence"]["device"]["opened"] is None
    assert report["evidence"]["passive"] is True
    assert report["evidence"]["ioctls"]["KVM_CREATE_VM"] is None
    assert REASONS[report["verdict"]["reason"]].status != "confirmed"
    assert done.returncode in (1, 3, 4)
    again = kvmprobe("judge", "-q", "-", input=done.stdout)
    assert again.returncode == done.returncode


def test_dev_kvm_is_not_opened(tmp_path: Path) -> None:
    """As strace shows it. An active probe shows that strace would have seen it."""
    if shutil.which("strace") is None:
        if os.environ.get("KVMPROBE_REQUIRE_KERNELS"):
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    log = tmp_path / "strace"
    for arguments, opened in ((("--passive",), False), ((), True)):
        argv = ["strace", "-f", "-e", "trace=open,openat", "-o", str(log)]
        argv += [sys.executable, "-m", "kvmprobe", "-q", *arguments]
        subprocess.run(argv, capture_output=True, timeout=120, check=False)
        if os.path.exists("/dev/kvm"):  # else an active probe opens nothing either
            assert ('"/dev/kvm"' in log.read_text()) == opened


def test_passive_refuses_load_kvm() -> None:
    done = kvmprobe("--passive", "--load-kvm")
    assert done.returncode == 64
    assert "--load-kvm" in done.stderr
