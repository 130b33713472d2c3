"""--passive: what can be said of a host without opening /dev/kvm, from evidence of real kernels and of this host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from kvmprobe.judge import judge
from kvmprobe.model.json_schema import report_schema
from kvmprobe.model.reasons import REASONS
from tests.helpers.recorded_evidence import RECORDED, recorded, recorded_name
from tests.helpers.run_kvmprobe import kvmprobe
from tests.helpers.variants import set_register

MATRIX = [path for path in RECORDED if path.parts[-3] == "matrix"]

# What stops KVM before KVM_CREATE_VM, or is seen in the registers as they are.
CERTAIN = (
    "cpu-lacks-svm vendor-not-amd firmware-disabled firmware-disabled-with-key sev-guest cpus-disagree "
    "kvm-amd-not-loaded kvm-amd-load-failed kvm-device-missing svm-held-by-another-owner msr-unreadable"
).split()


def passive(evidence: Any) -> Any:
    """What a passive probe would have seen of a host of which there is an active one's evidence."""
    evidence["passive"] = True
    evidence["device"]["opened"] = None
    evidence["ioctls"] = {"KVM_GET_API_VERSION": None, "KVM_CREATE_VM": None, "KVM_CHECK_EXTENSION": {}}
    evidence["guest"] = []
    evidence["snapshots"] = evidence["snapshots"][:1]
    evidence["uevents"]["events"] = [event for event in evidence["uevents"]["events"] if not event["ours"]]
    return evidence


@pytest.mark.parametrize("path", MATRIX, ids=recorded_name)
def test_a_passive_probe_says_what_is_certain_and_no_more(path: Path) -> None:
    active = json.loads(path.read_text())["verdict"]
    report = judge(passive(recorded(recorded_name(path))))
    verdict = report["verdict"]
    jsonschema.validate(report, report_schema())
    if active["reason"] in CERTAIN:
        assert verdict["reason"] == active["reason"], verdict
    else:
        assert verdict["status"] == "inconclusive", (active, verdict)
    if verdict["reason"] == "interfered":
        assert "--passive" in verdict["hint"]


def test_who_holds_svm_is_not_guessed() -> None:
    """SVME without a VM that is seen is somebody else's, but only where uevents would have shown VMs come and go."""
    evidence = passive(recorded("matrix/bookworm/epyc"))
    set_register(evidence, "before", "EFER", "0x1d01")
    assert judge(evidence)["verdict"]["reason"] == "svm-held-by-another-owner"
    evidence["vm_users"] = [{"pid": 7, "comm": "qemu", "vms": 1}]
    assert judge(evidence)["verdict"]["reason"] == "interfered"
    nobody: list[Any] = [[], None]
    for users in nobody:  # nobody was seen, or nobody looked: without a reference count that says little
        evidence["vm_users"] = users
        evidence["modules"]["kvm_amd"].update(state="builtin", refcount=None)
        assert judge(evidence)["verdict"]["reason"] == "interfered"
        evidence["modules"]["kvm_amd"].update(state="live", refcount=0)
        assert judge(evidence)["verdict"]["reason"] == "svm-held-by-another-owner"
    evidence["uevents"]["source"] = None
    assert judge(evidence)["verdict"]["reason"] == "interfered"


def test_a_register_that_the_module_should_have_set_is_named() -> None:
    evidence = passive(recorded("matrix/trixie/epyc"))
    assert "nothing that was read stands in the way" in judge(evidence)["verdict"]["summary"]
    set_register(evidence, "before", "EFER", "0xd01", ("1",))
    verdict = judge(evidence)["verdict"]
    assert verdict["reason"] == "interfered"
    assert "kvm.enable_virt_at_load=Y, but EFER.SVME is 0 on cpu1" in verdict["summary"]


def test_another_backend_is_seen_where_it_is_registered() -> None:
    evidence = passive(recorded("matrix/bookworm/no-svm"))
    assert judge(evidence)["verdict"]["reason"] == "cpu-lacks-svm"
    evidence["device"]["registered"] = True
    evidence["modules"]["kvm_pvm"] = {"state": "live", "refcount": 0, "holders": [], "parameters": {}}
    verdict = judge(evidence)["verdict"]
    assert verdict["reason"] == "kvm-without-svm"
    assert "kvm_pvm" in verdict["summary"]


def test_this_host_is_only_looked_at() -> None:
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
    """As strace sees it; that it would see it is shown by an active probe."""
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


def test_it_takes_no_load_kvm() -> None:
    done = kvmprobe("--passive", "--load-kvm")
    assert done.returncode == 64
    assert "--load-kvm" in done.stderr
